package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

// stackTime is how long a stack without a health check may take to come up: databases make their files first.
const stackTime = 2 * time.Minute

// startStack has Compose bring the stack up; its services' own health checks are part of the gate.
func (a *attempt) startStack(ctx context.Context) error {
	began := time.Now()
	if err := a.place(ctx); err != nil {
		return err
	}
	lines := a.newLineLog("start")
	err := a.up(ctx, lines.add)
	lines.close()
	if err != nil {
		return err
	}
	a.say(ctx, "start", "%s on %s · %s", a.d.Container, a.d.Address, seconds(time.Since(began)))
	return nil
}

// up makes the app's stack that of this deployment.
func (a *attempt) up(ctx context.Context, log func(string)) error {
	spec, err := a.stackSpec()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, spec.Wait+a.Patience.Engine)
	defer cancel()
	if err := a.Stacks.Up(bounded, spec, log); err != nil {
		return fmt.Errorf("bring stack up: %w", err)
	}
	return nil
}

func (a *attempt) stackSpec() (store.StackSpec, error) {
	config, ok := a.config.(*store.ComposeConfig)
	address, err := netip.ParseAddrPort(a.d.Address)
	if err != nil || !ok {
		return store.StackSpec{}, fmt.Errorf("read stored stack: %w", err)
	}
	wait := stackTime
	if config.Healthcheck != nil {
		wait = max(wait, config.Healthcheck.Timeout.Or(0))
	}
	return store.StackSpec{
		App: a.d.App, Deployment: a.d.ID, Dir: filepath.Join(a.StacksDir, filepath.FromSlash(a.release.Artefact.Stack)),
		Data: filepath.Join(a.StacksDir, a.d.App, "data"), Config: config, Env: a.env, Address: address,
		Port: a.release.Artefact.Port, Wait: wait,
	}, nil
}

// gateStack asks the routed service in addition where the config has a health check; that the stack came up was the gate.
func (a *attempt) gateStack(ctx context.Context) error {
	if a.config.Shared().Healthcheck == nil {
		a.say(ctx, "gate", "every service runs and is healthy")
		return nil
	}
	probe, successes, timeout := a.probeOf()
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result := a.probeUntil(bounded, probe, successes)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !result.passed:
		return a.explainTimeout(ctx, probe, result, timeout)
	}
	a.sayPassed(ctx, probe, result)
	return nil
}

// undoStack brings the stack that was live up again, or takes the new one down when there was none.
func (a *attempt) undoStack(ctx context.Context, old *attempt, found bool) error {
	if a.d.Container == "" {
		return nil // Compose was not asked yet
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Undo+stackTime)
	defer cancel()
	if !found {
		err := retry(bounded, func(ctx context.Context) error { return a.Stacks.Down(ctx, a.d.App) })
		return errors.Join(err, a.Store.FreeAddress(ctx, a.d.ID))
	}
	if err := retry(bounded, func(ctx context.Context) error { return old.up(ctx, func(string) {}) }); err != nil {
		return fmt.Errorf("bring old stack up again: %w", err)
	}
	probe, successes, _ := old.probeOf()
	if result := a.probeUntil(bounded, probe, successes); !result.passed {
		return fmt.Errorf("wait for old stack: %s", result.last.Text)
	}
	a.say(ctx, "undo", "%s runs again · %s", old.d.Container, seconds(time.Since(began)))
	return a.Store.FreeAddress(ctx, a.d.ID)
}

// removeStack takes the stack of an app down that is destroyed.
func (r *Runner) removeStack(ctx context.Context, app string) error {
	if r.Stacks == nil {
		return nil
	}
	stacks, err := r.Stacks.List(ctx)
	if err != nil || !slices.Contains(stacks, app) {
		return err
	}
	if err := r.Stacks.Down(ctx, app); err != nil {
		return fmt.Errorf("take stack down: %w", err)
	}
	return nil
}

// sweepStacks takes the stacks of apps down that are no more.
func (r *Runner) sweepStacks(ctx context.Context, containers []store.Container, known func(app string) bool) error {
	var trouble error
	for _, container := range containers {
		if container.Role == store.RoleStack && !known(container.App) {
			trouble = errors.Join(trouble, r.removeStack(ctx, container.App))
		}
	}
	return trouble
}
