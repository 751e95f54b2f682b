package deploy

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/shipgate/shipgate/store"
)

// runReleaseCommand runs what the Release wants done once before it starts, and before anything of the app is touched. A
// Release that is gone back to has had its turn. Its container stays until the next reaping, so that a crash does not
// run it twice.
func (a *attempt) runReleaseCommand(ctx context.Context) error {
	words, err := a.config.Shared().ReleaseCommand()
	if err != nil || words == nil || a.d.RollbackOf != 0 {
		return err
	}
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, store.DefaultReleaseTime,
		store.Problemf(store.CodeFailed, "the release command took longer than %s", seconds0(store.DefaultReleaseTime)).WithHint("%s", a.logsHint()))
	defer cancel()
	code, err := a.runCommand(bounded, words)
	switch {
	case err != nil && bounded.Err() != nil && ctx.Err() == nil:
		return context.Cause(bounded)
	case err != nil:
		return fmt.Errorf("run release command: %w", err)
	case code != 0:
		return store.Problemf(store.CodeFailed, "the release command exited with code %d", code).WithHint("%s", a.logsHint())
	}
	a.say(ctx, "release", "%s · %s", a.config.Shared().Release, seconds(time.Since(began)))
	return nil
}

// runCommand has the command's last line in the history before anything that follows.
func (a *attempt) runCommand(ctx context.Context, words []string) (exitCode int, err error) {
	lines := a.newLineLog("release")
	defer lines.close()
	spec := a.commandSpec(words)
	if spec.Name, err = a.commandName(ctx); err != nil {
		return 0, err
	}
	return a.Commands.Run(ctx, spec, lines.add)
}

// commandName returns the name of the container that the command runs in. An earlier server that began with it may have
// named it otherwise.
func (a *attempt) commandName(ctx context.Context) (string, error) {
	containers, err := a.Engine.List(ctx, a.d.App)
	if err != nil {
		return "", fmt.Errorf("list containers: %w", err)
	}
	for _, c := range containers {
		if c.Role == store.RoleCommand && c.Deployment == a.d.ID {
			return c.Name, nil
		}
	}
	return store.CommandName(a.Store.ServerID(), a.d.App, a.d.ID), nil
}

// commandSpec is the app's own container but for the command and the address; its name is commandName's.
func (a *attempt) commandSpec(words []string) store.ContainerSpec {
	spec := a.containerSpec()
	spec.Deployment = a.d.ID
	spec.Role, spec.Command, spec.Address = store.RoleCommand, words, netip.AddrPort{}
	spec.Calls = nil // the engine picks its address, so the proxy could not know who calls
	return spec
}
