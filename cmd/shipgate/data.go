package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"

	docker "github.com/docker/docker/client"
	"github.com/spf13/pflag"

	"github.com/shipgate/shipgate/builder"
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
		if failed := s.store.KeepReserve(); failed != nil {
			s.logger.Warn("no room is kept for the case that the disk is full", "error", failed)
		}
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

var idOfServer = regexp.MustCompile(`^[0-9a-f]{16}$`)

// collectWithoutServer is gc where no server can say what is needed: only build cache that names this server goes, by the id
// that the server left in server.json. What it could not look through is said, and the exit code shows it.
func (c *cli) collectWithoutServer(ctx context.Context, silence error, dry bool) error {
	items, err := c.collectCacheAlone(ctx, dry)
	var bytes int64
	for _, item := range items {
		bytes += item.Bytes
	}
	shown := map[string]any{"items": append([]store.Garbage{}, items...), "bytes": bytes}
	failed := c.print(shown, func(w io.Writer) {
		if len(items) == 0 {
			fmt.Fprintln(w, "nothing was removed: without a server nobody knows what is needed")
			return
		}
		describeGarbage(w, items, bytes, dry)
	})
	problem := store.Problemf(store.CodeErrored, "without the server only its build cache can be looked through: %w", errors.Join(silence, err))
	return errors.Join(failed, problem.WithHint("shipgate doctor --data %s", c.dataDir))
}

// collectCacheAlone removes old build cache of the server whose id is in the data directory; none where no id is.
func (c *cli) collectCacheAlone(ctx context.Context, dry bool) ([]store.Garbage, error) {
	found, err := readServerFile(c.dataDir)
	if err != nil || !idOfServer.MatchString(found.ServerID) {
		return nil, nil
	}
	engine, err := docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("set up Docker client: %w", err)
	}
	defer engine.Close()
	return builder.New(builder.Options{Docker: engine, ServerID: found.ServerID}).CollectCache(ctx, dry)
}
