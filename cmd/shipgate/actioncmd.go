package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/action"
)

// actionCommand is what action.yml ends in. It reads the inputs from the environment only.
func (c *cli) actionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "action", Short: "The program of the GitHub Action; action.yml gives it its inputs", Args: cobra.NoArgs, Hidden: true,
		RunE: func(command *cobra.Command, _ []string) error {
			later := make(chan os.Signal, 1)
			signal.Notify(later, syscall.SIGINT, syscall.SIGTERM) // the first has ended the context; later ones must not end us
			defer signal.Stop(later)
			if code := action.Run(command.Context(), action.Options{Getenv: c.getenv, Stdout: c.stdout}); code != exitDone {
				return exitError(code)
			}
			return nil
		},
	}
}

// exitError ends a command that has said everything with its exit code.
type exitError int

func (e exitError) Error() string { return "exit" }
