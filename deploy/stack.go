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

// startStack has Compose bring the stack up; its services' own health checks are part of the gate.
func (a *attempt) startStack(ctx context.Context) error {
	began := time.Now()
	if err := a.place(ctx); err != nil {
		return err
	}
	if err := a.allowCalls(ctx); err != nil {
		return err
	}
	defer a.lockContainers(a.d.App)()
	if err := a.upWithLog(ctx); err != nil {
		return err
	}
	a.say(ctx, "start", "%s on %s · %s", a.d.Container, a.d.Address, seconds(time.Since(began)))
	return nil
}

// upWithLog has what Compose says in the history before anything that follows.
func (a *attempt) upWithLog(ctx context.Context) error {
	lines := a.newLineLog("start")
	defer lines.close()
	return a.up(ctx, a.config.Shared().Liveness.Or(store.DefaultStackLiveness), lines.add)
}

// up makes the app's stack that of this deployment. On trial every service has to live for a while.
func (a *attempt) up(ctx context.Context, liveness time.Duration, log func(string)) error {
	spec, err := a.stackSpec(ctx)
	if err != nil {
		return err
	}
	spec.Liveness = liveness
	bounded, cancel := context.WithTimeout(ctx, spec.Wait+liveness+a.Patience.Engine)
	defer cancel()
	if err := a.Stacks.Up(bounded, spec, log); err != nil {
		return fmt.Errorf("bring stack up: %w", err)
	}
	return nil
}

func (a *attempt) stackSpec(ctx context.Context) (store.StackSpec, error) {
	config, ok := a.config.(*store.ComposeConfig)
	address, err := netip.ParseAddrPort(a.d.Address)
	if err != nil || !ok {
		return store.StackSpec{}, fmt.Errorf("read stored stack: %w", err)
	}
	wait := a.Patience.Stack
	if config.Healthcheck != nil {
		wait = max(wait, config.Healthcheck.Timeout.Or(0))
	}
	gateway, err := a.gateway(ctx)
	if err != nil {
		return store.StackSpec{}, err
	}
	return store.StackSpec{
		App: a.d.App, Deployment: a.d.ID, Container: a.d.Container, Dir: filepath.Join(a.StacksDir, filepath.FromSlash(a.release.Artefact.Stack)),
		Data: filepath.Join(a.StacksDir, a.d.App, "data"), Config: config, Env: a.env, Address: address, Calls: config.Calls, Gateway: gateway,
		Port: a.release.Artefact.Port, Wait: wait,
	}, nil
}

// gateStack asks the routed service where the config has a health check. Where the compose file has one, that the stack came
// up was the gate; without either, the service is to accept connections and to live for a while, like any other container.
func (a *attempt) gateStack(ctx context.Context) error {
	if a.config.Shared().Healthcheck == nil {
		return a.gateAsItCame(ctx)
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

func (a *attempt) gateAsItCame(ctx context.Context) error {
	if err := a.gateRunning(ctx); err != nil {
		return err
	}
	routed, err := a.newContainer(ctx)
	if err != nil {
		return err
	}
	if routed.Health != "" {
		a.say(ctx, "gate", "every service runs and is healthy")
		return nil
	}
	if a.watched == nil {
		if a.watched, err = a.Engine.Watch(ctx, a.d.Container); err != nil {
			return fmt.Errorf("watch new container: %w", err)
		}
	}
	return a.gateContainer(ctx)
}

// gateRunning asks the engine whether the routed service still runs: a crash of ours may lie between.
func (a *attempt) gateRunning(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	running, err := a.Stacks.Running(bounded, a.d.App, a.d.ID)
	if err != nil {
		return fmt.Errorf("look at stack: %w", err)
	}
	if !running {
		return store.Problemf(store.CodeFailed, "the stack came up, and %s has ended since", a.d.Container).WithHint("%s", a.logsHint())
	}
	return nil
}

// undoStack brings the stack that was live up again, or takes the new one down when there was none.
func (a *attempt) undoStack(ctx context.Context, old *attempt, found bool) error {
	if a.d.Container == "" {
		return nil // Compose was not asked yet
	}
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Undo+a.Patience.Stack)
	defer cancel()
	if !found {
		err := retry(bounded, func(ctx context.Context) error { return a.Stacks.Down(ctx, a.d.App) })
		return errors.Join(err, a.Store.FreeAddress(ctx, a.d.ID))
	}
	defer a.lockContainers(a.d.App)()
	up := func(ctx context.Context) error { return old.up(ctx, 0, func(string) {}) }
	if old.stopped() {
		err := retry(bounded, func(ctx context.Context) error { return errors.Join(up(ctx), a.Stacks.Stop(ctx, a.d.App)) })
		return errors.Join(err, a.Store.FreeAddress(ctx, a.d.ID))
	}
	if err := a.untilAnswers(bounded, old, up); err != nil {
		return fmt.Errorf("bring old stack up again: %w", err)
	}
	a.say(ctx, "undo", "%s runs again · %s", old.d.Container, seconds(time.Since(began)))
	return a.Store.FreeAddress(ctx, a.d.ID)
}

// removeStack takes the stack of an app down that is destroyed, or was never live.
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
