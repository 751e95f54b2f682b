package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/shipgate/shipgate/store"
)

func addAnewFlags(flags *pflag.FlagSet, anew *store.Anew) {
	flags.BoolVar(&anew.Database, "new-database", false, "begin with an empty database where the old one is lost; an old file is kept beside it")
	flags.BoolVar(&anew.Key, "new-key", false, "make a new secret.key where the old one is lost; every stored secret has to be set again")
}

// openData opens the data directory. Where that is at fault, what was deployed is served on without this server: a proxy that
// runs is left alone, and one is started when none runs.
func (s *services) openData(ctx context.Context, flags serveFlags) (err error) {
	if s.store, err = store.OpenAnew(ctx, s.dir, flags.anew); err == nil {
		err = s.checkRepositories(ctx)
	}
	if err != nil && store.CodeOf(err) == store.CodeErrored && ctx.Err() == nil && store.HasRoutes(s.dir) {
		if failed := s.ensureProxy(ctx, flags.public); failed != nil {
			s.logger.Error("start proxy without the server", "error", failed)
		} else {
			s.ownProxy = false // it is to stay
			s.logger.Warn("the server cannot start; the proxy serves what was deployed", "public", s.public)
		}
	}
	return err
}

func (s *services) checkRepositories(ctx context.Context) error {
	apps, err := s.store.Apps(ctx)
	if err != nil || len(apps) == 0 {
		return err
	}
	return store.CheckRepositories(s.dir)
}

// collectWithoutServer is gc where no server can say what is needed: it removes nothing.
func (c *cli) collectWithoutServer(silence error) error {
	if err := c.print(map[string]any{"items": []store.Garbage{}, "bytes": 0}, func(w io.Writer) {
		fmt.Fprintln(w, "nothing was removed: without a server nobody knows what is needed")
	}); err != nil {
		return err
	}
	return store.Problemf(store.CodeErrored, "gc needs the server: %w", silence).WithHint("shipgate doctor --data %s", c.dataDir)
}
