package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// rollback measures going back with and without a warm container, one after the other.
func (b *bench) rollback(ctx context.Context, rounds int) error {
	for name, flags := range map[string][]string{"warm": {"--rollback-warm", "10m"}, "cold": nil} {
		if err := b.twoVersions(ctx, name, flags...); err != nil {
			return err
		}
	}
	taken := map[string][]time.Duration{}
	for range rounds {
		for _, app := range []string{"warm", "cold"} {
			if _, err := b.output(ctx, b.dir, b.shipgate, "rollback", app); err != nil {
				return err
			}
			d, err := b.newest(ctx, app)
			if err != nil {
				return err
			}
			taken[app] = append(taken[app], d.FinishedAt.Sub(d.CreatedAt))
		}
	}
	report("rollback → live, container kept warm", fmt.Sprintf("%.2f× (%d ms / %d ms cold)", medianRatio(taken["warm"], taken["cold"]),
		median(taken["warm"]).Milliseconds(), median(taken["cold"]).Milliseconds()), "well under 1 s")
	return nil
}

// twoVersions makes an app that can go back.
func (b *bench) twoVersions(ctx context.Context, app string, flags ...string) error {
	repository := filepath.Join(b.dir, app)
	if err := os.MkdirAll(repository, 0o755); err != nil {
		return err
	}
	if _, err := b.output(ctx, ".", "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(repository, "hello"), "./examples/hello"); err != nil {
		return err
	}
	dockerfile, err := os.ReadFile("examples/hello/Dockerfile")
	if err == nil {
		err = os.WriteFile(filepath.Join(repository, "Dockerfile"), dockerfile, 0o644)
	}
	if err != nil {
		return err
	}
	all := append([]string{"--source", "dockerfile", "--host", app + ".localhost", "--health", "/healthz"}, flags...)
	if err := b.createApp(ctx, repository, app, all...); err != nil {
		return err
	}
	for _, version := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(repository, "message.txt"), []byte(version+"\n"), 0o644); err != nil {
			return err
		}
		if err := b.commit(ctx, repository, version); err != nil {
			return err
		}
		if err := b.git(ctx, repository, "push", "-q", "shipgate", "main"); err != nil {
			return err
		}
		if _, err := b.newest(ctx, app); err != nil {
			return err
		}
	}
	return nil
}
