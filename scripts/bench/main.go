// Command bench measures the speed goals side by side in one run and prints ratios and medians.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 9, "pairs of pushes")
	files := flag.Int("files", 20000, "files of the static site")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *files); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, files int) (err error) {
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer func() { b.cleanUp(err != nil) }()
	for _, measure := range []func(context.Context) error{
		b.memory,
		func(ctx context.Context) error { return b.webhooks(ctx, 200, 10*time.Second, 3*rounds) },
		func(ctx context.Context) error { return b.pushToLive(ctx, rounds) },
		func(ctx context.Context) error { return b.crashToVerdict(ctx, max(3, rounds/2)) },
		func(ctx context.Context) error { return b.staticSite(ctx, files, max(3, rounds/2)) },
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}
