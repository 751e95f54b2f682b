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
	only := flag.String("only", "", "one measurement: memory, webhooks, push, crash, rollback, servers, neighbour or site")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *files, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, files int, only string) (err error) {
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer func() { b.cleanUp(err != nil) }()
	for _, measurement := range []struct {
		name string
		take func() error
	}{
		{"memory", func() error { return b.memory(ctx) }},
		{"webhooks", func() error { return b.webhooks(ctx, 200, 10*time.Second, 3*rounds) }},
		{"push", func() error { return b.pushToLive(ctx, rounds) }},
		{"crash", func() error { return b.crashToVerdict(ctx, max(3, rounds/2)) }},
		{"rollback", func() error { return b.rollback(ctx, rounds) }},
		{"servers", func() error { return b.servers(ctx, rounds) }},
		{"neighbour", func() error { return b.neighbour(ctx) }},
		{"site", func() error { return b.staticSite(ctx, files, max(3, rounds/2)) }},
	} {
		if only != "" && only != measurement.name {
			continue
		}
		if err := measurement.take(); err != nil {
			return fmt.Errorf("measure %s: %w", measurement.name, err)
		}
	}
	return nil
}
