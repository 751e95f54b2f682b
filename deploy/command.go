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
	return a.Commands.Run(ctx, a.commandSpec(words), lines.add)
}

// commandSpec is the app's own container but for the command, the name and the address.
func (a *attempt) commandSpec(words []string) store.ContainerSpec {
	spec := a.containerSpec()
	spec.Name, spec.Deployment = store.CommandName(a.Store.ServerID(), a.d.App, a.d.ID), a.d.ID
	spec.Role, spec.Command, spec.Address = store.RoleCommand, words, netip.AddrPort{}
	return spec
}
