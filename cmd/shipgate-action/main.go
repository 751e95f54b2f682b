// Command shipgate-action is the client that action.yml fetches: the subcommand action of shipgate, without the server around it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/shipgate/shipgate/action"
)

func main() {
	// Signals after the first must not end us either: the server is being told to cancel.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := action.Run(ctx, action.Options{Getenv: os.Getenv, Stdout: os.Stdout})
	stop()
	os.Exit(code)
}
