package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// hold parks the app's requests and waits for those under way on the old target. Without an old one there is nothing to hold.
func (a *attempt) hold(ctx context.Context) (store.Change, error) {
	if err := a.runReleaseCommand(ctx); err != nil {
		return store.Change{}, err
	}
	return store.Change{}, a.ensureHeld(ctx)
}

func (a *attempt) ensureHeld(ctx context.Context) error {
	old, found, err := a.previous(ctx)
	if err != nil || !found || old.isSite() || a.held {
		return err
	}
	shared := a.config.Shared()
	limit := shared.Hold.Or(store.DefaultHold)
	// The parked wait meanwhile: one browser that keeps a WebSocket open must not use up their time.
	drain := shared.Drain.Or(min(store.DefaultDrain, limit/3))
	bounded, cancel := context.WithTimeout(ctx, drain+a.Patience.Route)
	defer cancel()
	defer a.lockRoute(a.d.App)()
	left, err := a.Router.Hold(bounded, a.d.App, store.Hold{
		Requests: store.DefaultHeldRequests,
		Limit:    limit,
		Drain:    drain,
	})
	if err != nil {
		return fmt.Errorf("hold requests: %w", err)
	}
	if left > 0 {
		a.say(ctx, "hold", "%s on %d still under way after %s", requests(left), old.d.ID, seconds0(drain))
	}
	a.held = true
	return nil
}

// stopPrevious stops the old container and keeps it: should the new one fail, it is started again. Strays are stopped with
// it, because the new version must be alone with its volumes.
func (a *attempt) stopPrevious(ctx context.Context) (store.Change, error) {
	if err := a.ensureHeld(ctx); err != nil {
		return store.Change{}, err
	}
	grace := a.config.Shared().StopGrace.Or(store.DefaultStopGrace)
	bounded, cancel := context.WithTimeout(ctx, grace+a.Patience.Engine)
	defer cancel()
	defer a.lockContainers(a.d.App)()
	containers, err := a.Engine.List(bounded, a.d.App)
	if err != nil {
		return store.Change{}, fmt.Errorf("list containers: %w", err)
	}
	for _, container := range containers {
		if !container.Running || container.Name == a.d.Container || container.Role == store.RoleStack {
			continue // Compose replaces what changed of a stack
		}
		began := time.Now()
		if err := a.Engine.Stop(bounded, container.Name, grace); err != nil {
			return store.Change{}, fmt.Errorf("stop old container: %w", err)
		}
		a.say(ctx, "stop", "%s · %s", container.Name, seconds(time.Since(began)))
	}
	return store.Change{}, nil
}

// start stores the new container's name and address, listens to it, and only then starts it.
func (a *attempt) start(ctx context.Context) (store.Change, error) {
	switch {
	case a.isSite():
		return store.Change{}, nil
	case a.d.Strategy == store.Recreate:
		if err := a.ensureHeld(ctx); err != nil {
			return store.Change{}, err
		}
	default:
		if err := a.runReleaseCommand(ctx); err != nil {
			return store.Change{}, err
		}
	}
	if a.isStack() {
		return store.Change{}, a.startStack(ctx)
	}
	return store.Change{}, a.startContainer(ctx)
}

func (a *attempt) startContainer(ctx context.Context) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	if err := a.clearUnfinished(bounded); err != nil {
		return err
	}
	if err := a.place(bounded); err != nil {
		return err
	}
	if err := a.allowCalls(ctx); err != nil {
		return err
	}
	spec, err := a.spec()
	if err != nil {
		return err
	}
	if err := a.watchAndStart(ctx, bounded, spec); err != nil {
		return err
	}
	a.say(ctx, "start", "%s on %s · %s", spec.Name, spec.Address, seconds(time.Since(began)))
	return nil
}

// watchAndStart listens before anything can happen. That a warm container had ended is no news, so that one is listened to
// from its start on; an end that came at once is its state then.
func (a *attempt) watchAndStart(ctx, bounded context.Context, spec store.ContainerSpec) (err error) {
	warm := a.containerOf() != a.d.ID
	if warm {
		if err := a.Engine.Start(bounded, spec); err != nil {
			return fmt.Errorf("start warm container: %w", err)
		}
	}
	if a.watched, err = a.Engine.Watch(ctx, spec.Name); err != nil || warm {
		return wrap("watch new container", err)
	}
	return wrap("start new container", a.Engine.Start(bounded, spec))
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// clearUnfinished makes way for the new container: what an earlier process left of it may have ended, which would be news
// to the gate. That goes for one that was warm, too.
func (a *attempt) clearUnfinished(ctx context.Context) error {
	if a.d.Container == "" {
		return nil
	}
	if err := a.Engine.Remove(ctx, a.d.Container); err != nil {
		return fmt.Errorf("remove unfinished container: %w", err)
	}
	return nil
}

// place takes the warm container of the Release, or stores the name and address of a new one.
func (a *attempt) place(ctx context.Context) error {
	if err := a.takeWarm(ctx); err != nil || a.d.Container != "" {
		return err
	}
	pool, err := a.Addresses.Pool(ctx)
	if err != nil {
		return fmt.Errorf("find addresses for containers: %w", err)
	}
	placed, err := a.Store.PlaceContainer(ctx, a.d, pool, a.release.Artefact.Port)
	if err != nil {
		return fmt.Errorf("place new container: %w", err)
	}
	a.d = placed
	return nil
}

// route moves new requests to the new target. Whether it happened is asked of the router, which may have outlived us or
// lost an answer; only when it is seen not to have happened may the deployment be undone.
func (a *attempt) route(ctx context.Context) (store.Change, error) {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	err := retryUnlessRefused(bounded, func(ctx context.Context) error { return a.applyRoute(ctx, a.d.App, a.target()) })
	if err != nil {
		if err = a.judgeRoute(ctx, err); err != nil {
			return store.Change{}, err
		}
	}
	app, err := a.Store.App(ctx, a.d.App) // its hosts may have changed since the attempt began
	if err != nil {
		return store.Change{}, err
	}
	a.app = app
	for _, host := range a.app.Hosts {
		a.say(ctx, "route", "%s → %d", host, a.d.ID)
	}
	return store.Change{}, nil
}

// judgeRoute finds out whether a target whose Apply ended in an error is in place all the same.
func (a *attempt) judgeRoute(ctx context.Context, cause error) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	var routes []store.Route
	err := retry(bounded, func(ctx context.Context) (err error) {
		routes, err = a.Router.Routes(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	for _, route := range routes {
		if route.App == a.d.App && route.Target.Deployment == a.d.ID {
			return nil
		}
	}
	return fmt.Errorf("move route: %w", cause)
}

// applyRoute sends the app's present hosts to the target.
func (r *Runner) applyRoute(ctx context.Context, app string, target store.Target) error {
	defer r.lockRoute(app)()
	return r.applyLocked(ctx, app, target)
}

func (r *Runner) applyLocked(ctx context.Context, name string, target store.Target) error {
	app, err := r.Store.App(ctx, name)
	if err != nil {
		return err
	}
	generation, err := r.Store.NextGeneration(ctx, name)
	if err != nil {
		return err
	}
	return r.Router.Apply(ctx, store.Route{
		App: name, Hosts: app.Hosts, Target: target, Generation: generation, Stopped: app.Stopped(target.Deployment),
	})
}

// lockRoute keeps a change of hosts and a deployment from overwriting each other's route. Call unlock when done.
func (r *Runner) lockRoute(app string) (unlock func()) { return r.routing.lock(app) }

// goLive moves the branch and writes the verdict together with the Live row: from here on the old version may be touched.
func (a *attempt) goLive(ctx context.Context) (store.Change, error) {
	if err := a.advanceBranch(ctx); err != nil {
		if ctx.Err() != nil {
			return store.Change{}, err
		}
		a.logger.Error("move branch", "error", err)
		a.say(ctx, "note", "the branch could not be moved: %s", err)
	}
	a.sayEarlier(ctx)
	text, err := a.liveText(ctx)
	if err != nil {
		return store.Change{}, err
	}
	return store.Change{Live: a.live(), Verdict: store.Succeeded, Events: []store.Event{{Kind: "live", Text: text}}}, nil
}

// advanceBranch does not give up at once: what is live and what the branch says are to stay one.
func (a *attempt) advanceBranch(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	return retry(bounded, func(ctx context.Context) error { return a.Branches.Advance(ctx, a.d) })
}

func (a *attempt) live() *store.Live {
	return &store.Live{
		App: a.d.App, Deployment: a.d.ID, Release: a.d.Release, SHA: a.d.SHA, Container: a.d.Container, Target: a.target(),
	}
}

func (a *attempt) liveText(ctx context.Context) (string, error) {
	times, err := a.Store.StepTimes(ctx, a.d.ID)
	if err != nil {
		return "", err
	}
	now := time.Now()
	between := func(from, to store.Step) string {
		return strings.TrimSuffix(seconds(times[to].Sub(times[from])), " s")
	}
	times[store.StepQueued], times[store.StepLive] = a.d.StartedAt, now
	parts := []string{"build " + between(store.StepQueued, store.StepBuilt)}
	if !a.isSite() {
		before := store.StepBuilt
		if _, stopped := times[store.StepStopped]; stopped {
			parts = append(parts, "stop "+between(store.StepBuilt, store.StepStopped))
			before = store.StepStopped
		}
		parts = append(parts, "start "+between(before, store.StepStarted), "gate "+between(store.StepStarted, store.StepHealthy))
	}
	parts = append(parts, "cutover "+between(store.StepHealthy, store.StepLive))
	where := "without a host"
	if len(a.app.Hosts) > 0 {
		where = a.URL(a.app.Hosts[0])
	}
	return fmt.Sprintf("%s in %s (%s)", where, seconds(now.Sub(a.d.StartedAt)), strings.Join(parts, ", ")), nil
}

// reap waits for the old target's requests and removes what the new version replaced, with strays of older deployments.
// It never flips the verdict: what it cannot remove in time is left to the next deployment's reaping.
func (a *attempt) reap(ctx context.Context) (store.Change, error) {
	if err := a.keepRunning(ctx); err != nil {
		return store.Change{}, err
	}
	if sure, err := a.ensureRouted(ctx); !sure {
		return store.Change{}, err
	}
	if err := a.drainPrevious(ctx); err != nil {
		return store.Change{}, err
	}
	if err := a.keepWarm(ctx); err != nil {
		return store.Change{}, err
	}
	grace := a.config.Shared().StopGrace.Or(store.DefaultStopGrace)
	bounded, cancel := context.WithTimeout(ctx, grace+a.Patience.Reap)
	defer cancel()
	err := retry(bounded, func(ctx context.Context) error { return a.removeAllBut(ctx, a.d.App, a.d, grace) })
	if ctx.Err() != nil {
		return store.Change{}, errors.Join(err, ctx.Err())
	}
	if err != nil {
		a.logger.Error("remove old containers", "error", err)
		a.say(ctx, "reap", "not everything old could be removed; the next deployment tries again: %s", err)
	}
	return store.Change{}, nil
}

// liveSpec is the spec of a container that is live.
func (a *attempt) liveSpec() (store.ContainerSpec, error) {
	spec, err := a.spec()
	spec.KeepRunning = true
	return spec, err
}

// keepRunning gives the live container the engine's help: from now on its end is no answer to a gate but a fault.
func (a *attempt) keepRunning(ctx context.Context) error {
	if a.isSite() || a.isStack() {
		return nil
	}
	spec, err := a.liveSpec()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	err = retry(bounded, func(ctx context.Context) error { return a.Engine.Start(ctx, spec) })
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		a.logger.Error("keep live container running", "error", err)
		a.say(ctx, "note", "the engine could not be told to keep %s running: %s", spec.Name, err)
	}
	return nil
}

// drainPrevious lets the requests on the old target end, and says how many had to be cut.
func (a *attempt) drainPrevious(ctx context.Context) error {
	if a.d.PreviousLive == 0 || a.d.PreviousLive == a.d.ID {
		return nil
	}
	limit := a.config.Shared().Drain.Or(store.DefaultDrain)
	bounded, cancel := context.WithTimeout(ctx, limit+a.Patience.Route)
	defer cancel()
	began := time.Now()
	var left int
	err := retry(bounded, func(ctx context.Context) (err error) {
		left, err = a.Router.Drain(ctx, a.d.App, a.d.PreviousLive, limit)
		return err
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("drain old target: %w", err)
	case err != nil:
		a.say(ctx, "drain", "%d: the router does not say whether it is drained: %s", a.d.PreviousLive, err)
	case left > 0:
		a.say(ctx, "drain", "%d: %s cut after %s", a.d.PreviousLive, requests(left), seconds0(limit))
	default:
		a.say(ctx, "drain", "%d drained in %s", a.d.PreviousLive, seconds(time.Since(began)))
	}
	return nil
}
