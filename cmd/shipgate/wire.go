package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	docker "github.com/docker/docker/client"

	"github.com/shipgate/shipgate/builder"
	"github.com/shipgate/shipgate/deploy"
	"github.com/shipgate/shipgate/deploy/compose"
	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/gitserver"
	"github.com/shipgate/shipgate/gitserver/github"
	"github.com/shipgate/shipgate/store"
)

// wire makes the parts and joins them. None needs a Docker engine to be there yet.
func (s *services) wire(ctx context.Context, flags serveFlags) (err error) {
	s.policyRules = flags.policy
	if s.policy, err = store.NewPolicy(flags.policy); err != nil {
		return err
	}
	if err := s.openData(ctx, flags); err != nil {
		return err
	}
	if err := s.auditPolicy(ctx); err != nil {
		return err
	}
	if err := s.store.EnsureAdminToken(ctx); err != nil {
		return err
	}
	if s.docker, err = docker.NewClientWithOpts(docker.FromEnv, docker.WithAPIVersionNegotiation()); err != nil {
		return fmt.Errorf("set up Docker client: %w", err)
	}
	if err := s.ensureProxy(ctx, flags.public); err != nil {
		return err
	}
	sites, stacks := filepath.Join(s.dir, "sites"), filepath.Join(s.dir, "stacks")
	s.wireEngine(flags, sites, stacks)
	if err := s.wireForge(flags); err != nil {
		return err
	}
	s.runner = deploy.New(deploy.Options{
		Store: s.store, Engine: s.engine, Commands: s.engine, Stacks: s.stacks, Addresses: s.engine, Router: s.proxy,
		Builder: s.builder, Branches: s.git, Present: s.builder.Present, Preflight: s.builder.Preflight, URL: s.url,
		SitesDir: sites, StacksDir: stacks, BuildsAtOnce: flags.builds, InternalPort: flags.internalPort, Logger: s.logger,
	})
	s.collector = &collector{
		store: s.store, strays: s.runner.Collect, parts: []collectPart{s.builder.Collect, s.git.Collect, s.retireOldNetwork},
		logger: s.logger, settle: time.Minute, every: 24 * time.Hour,
	}
	return nil
}

// wireEngine joins what builds and what runs.
func (s *services) wireEngine(flags serveFlags, sites, stacks string) {
	id := s.store.ServerID()
	s.engine = dockerengine.New(dockerengine.Options{Docker: s.docker, ServerID: id, Policy: s.policy, Adopt: s.store.Adopt, Logger: s.logger})
	s.stacks = compose.New(compose.Options{ServerID: id, Policy: s.policy, Engine: s.engine, Logger: s.logger})
	s.builder = builder.New(builder.Options{
		Docker: s.docker, SitesDir: sites, StacksDir: stacks, ServerID: id, StackPlan: s.stacks.Plan, Logger: s.logger, Policy: s.policy, PruneCache: flags.pruneCache,
		Login: s.store.RegistryLogin, LoginOfOthers: s.store.RegistryLoginOfOthers,
		Snapshots: func(ctx context.Context, app, sha string) (builder.Snapshot, error) {
			return s.git.Snapshot(ctx, app, sha)
		},
	})
}

// retireOldNetwork removes the network that an earlier server made when nothing needs it any more.
func (s *services) retireOldNetwork(ctx context.Context, _ store.Kept, dry bool) ([]store.Garbage, error) {
	if dry {
		return nil, nil
	}
	_, err := s.engine.RetireOldNetwork(ctx, s.store.AddressesIn)
	return nil, err
}

// wireForge joins the git side, which fetches, and the GitHub side, which says where from and hears what was pushed there.
func (s *services) wireForge(flags serveFlags) (err error) {
	s.git, err = gitserver.New(gitserver.Options{
		Store: s.store, Dir: filepath.Join(s.dir, "repos"), Logger: s.logger,
		Preflight: func(ctx context.Context, _ store.App) error { return s.builder.Preflight(ctx) },
		Remote: func(ctx context.Context, app store.App) (store.Remote, bool, error) {
			return s.github.Remote(ctx, app)
		},
	})
	if err != nil {
		return err
	}
	s.github = github.New(github.Options{
		Store: s.store, Repositories: s.git, URL: s.url, CatchUpEvery: flags.catchUpEvery, Logger: s.logger,
	})
	s.identities, err = github.NewIdentities(github.IdentityOptions{
		Issuers: flags.issuers, KeysFile: flags.issuerKeys, Audience: func() string { return s.base },
	})
	return err
}
