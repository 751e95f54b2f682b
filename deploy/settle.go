package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

// settle makes what runs of an app what is wanted of it and stores what was seen. It returns when to look again; 0 when
// something has to happen first.
func (r *Runner) settle(ctx context.Context, app string) (again time.Duration, err error) {
	defer r.lockContainers(app)()
	may, err := r.mayTouch(ctx, app) // before what is live is read: a deployment that goes live in between would be taken for none
	if err != nil {
		return 0, err
	}
	a, found, err := r.liveAttempt(ctx, app)
	if err != nil || !found {
		return 0, err
	}
	states, err := a.observe(ctx)
	if err != nil || !may {
		return 0, err // the end of the deployment has the app looked at again
	}
	stopped := a.app.Stopped(a.d.ID)
	if stopped {
		if err := r.followWanted(ctx, app); err != nil {
			return 0, err
		}
	}
	changed := false
	if stopped {
		changed, err = a.ensureStopped(ctx, states)
	} else {
		again, changed, err = a.ensureRunning(ctx, states)
	}
	if changed {
		_, seen := a.observe(ctx)
		err = errors.Join(err, seen)
	}
	if err == nil && again == 0 && !stopped {
		if changed {
			a.awaitAnswer(ctx)
		}
		err = r.followWanted(ctx, app)
	}
	return again, err
}

// awaitAnswer waits for what was just started to answer, within the time that its gate gave it: the route of an app that was
// stopped opens then.
func (a *attempt) awaitAnswer(ctx context.Context) {
	if !a.closed(ctx) {
		return
	}
	probe, successes, timeout := a.probeOf()
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a.probeUntil(bounded, probe, successes)
}

// closed reports whether the route says that the app is stopped.
func (a *attempt) closed(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	routes, err := a.Router.Routes(bounded)
	return err == nil && slices.ContainsFunc(routes, func(route store.Route) bool { return route.App == a.d.App && route.Stopped })
}

// observe asks the engine for the states of what is live, stores them, and logs what changed, one line each.
func (a *attempt) observe(ctx context.Context) ([]store.ContainerState, error) {
	before, err := a.Store.ContainerStates(ctx, a.d.App)
	if err != nil || a.isSite() {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	found, lost := a.Engine.States(bounded, a.d.App)
	var states []store.ContainerState
	if lost == nil {
		states = a.statesOf(found, before)
	} else if ctx.Err() == nil {
		states = a.unknownStates(before)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	changed, err := a.Store.SetContainerStates(ctx, a.d.App, states)
	for _, state := range changed {
		a.logState(state)
	}
	return states, errors.Join(wrap("look at containers", lost), notFoundIsNil(err))
}

func (a *attempt) logState(c store.ContainerState) {
	level := slog.LevelWarn
	if c.Up() || a.app.Stopped(a.d.ID) {
		level = slog.LevelInfo
	}
	a.Logger.Log(context.Background(), level, "container state", "app", a.d.App, "deployment", a.d.ID, "container", c.Container,
		"state", string(c.State), "exit_code", c.ExitCode, "restarts", c.Restarts)
}

// statesOf are the containers of what is live: the one container, or those of the stack, also of services that are gone.
func (a *attempt) statesOf(found []store.ContainerStatus, before []store.ContainerState) []store.ContainerState {
	var states []store.ContainerState
	routed := false
	for _, c := range found {
		mine := c.Name == a.d.Container
		if !mine && (!a.isStack() || c.Role != store.RoleStack) {
			continue
		}
		routed = routed || mine
		states = append(states, store.ContainerState{
			App: a.d.App, Container: c.Name, Deployment: a.d.ID, Service: c.Service, Routed: mine, Keep: c.Keep,
			State: c.State, ExitCode: c.ExitCode, Restarts: c.Restarts, Since: c.Since,
		})
	}
	if !routed {
		states = append(states, a.missing(store.ContainerState{Container: a.d.Container, Routed: true}))
	}
	if !a.isStack() {
		return states
	}
	for _, old := range before {
		known := slices.ContainsFunc(states, func(c store.ContainerState) bool {
			return c.Container == old.Container || c.Service != "" && c.Service == old.Service
		})
		if !known && !old.Routed && old.Deployment == a.d.ID {
			old.Keep = old.Keep || old.State == store.RunRunning
			states = append(states, a.missing(old))
		}
	}
	return states
}

func (a *attempt) missing(c store.ContainerState) store.ContainerState {
	c.App, c.Deployment, c.State, c.Since = a.d.App, a.d.ID, store.RunMissing, time.Now()
	return c
}

// unknownStates are what is known while the engine does not answer: nothing.
func (a *attempt) unknownStates(before []store.ContainerState) []store.ContainerState {
	states := slices.Clone(before)
	if len(states) == 0 {
		states = append(states, a.missing(store.ContainerState{Container: a.d.Container, Routed: true}))
	}
	for i := range states {
		states[i].State, states[i].Since = store.RunUnknown, time.Now()
	}
	return states
}

// ensureRunning starts what is live and has ended, after a pause where it keeps ending.
func (a *attempt) ensureRunning(ctx context.Context, states []store.ContainerState) (again time.Duration, changed bool, err error) {
	ended := slices.IndexFunc(states, a.hasEnded)
	if ended < 0 {
		return 0, false, nil
	}
	if again = a.revivalPause(a.d.Container); again > 0 {
		return again, false, nil
	}
	a.Logger.Info("start what is live", "app", a.d.App, "deployment", a.d.ID, "container", states[ended].Container)
	return 0, true, wrap("start what is live", a.startLive(ctx))
}

// hasEnded reports whether a container that is to run does not, and will not by itself. A service of a stack that came to a
// good end and that the engine is not to restart is a job that is done.
func (a *attempt) hasEnded(c store.ContainerState) bool {
	switch {
	case c.State != store.RunExited && c.State != store.RunMissing:
		return false
	case c.Routed || c.Keep:
		return true
	}
	return c.State == store.RunExited && c.ExitCode != 0
}

// startLive has the live version run: its container, or its whole stack.
func (a *attempt) startLive(ctx context.Context) error {
	if a.isStack() {
		return a.up(ctx, 0, func(string) {})
	}
	spec, err := a.liveSpec()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	return a.Engine.Start(bounded, spec)
}

// ensureStopped stops what is live, with its grace, and keeps it.
func (a *attempt) ensureStopped(ctx context.Context, states []store.ContainerState) (changed bool, err error) {
	active := func(c store.ContainerState) bool {
		return c.State != store.RunExited && c.State != store.RunMissing && c.State != store.RunUnknown
	}
	if !slices.ContainsFunc(states, active) {
		return false, nil
	}
	a.forgetRevivals(a.d.Container)
	grace := a.config.Shared().StopGrace.Or(store.DefaultStopGrace)
	bounded, cancel := context.WithTimeout(ctx, grace+a.Patience.Engine)
	defer cancel()
	a.Logger.Info("stop what is live", "app", a.d.App, "deployment", a.d.ID, "container", a.d.Container)
	if a.isStack() {
		return true, wrap("stop stack", a.Stacks.Stop(bounded, a.d.App))
	}
	return true, wrap("stop container", a.Engine.Stop(bounded, a.d.Container, grace))
}

// followWanted has the route say whether the app is stopped, where it does not yet. A route that the router has lost is put
// back.
func (r *Runner) followWanted(ctx context.Context, name string) error {
	bounded, cancel := context.WithTimeout(ctx, r.Patience.Route)
	defer cancel()
	routes, err := r.Router.Routes(bounded)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	app, err := r.Store.App(bounded, name)
	if err != nil {
		return notFoundIsNil(err)
	}
	present := slices.IndexFunc(routes, func(route store.Route) bool { return route.App == name })
	if present >= 0 && routes[present].Stopped == app.Stopped(routes[present].Target.Deployment) {
		return nil
	}
	return r.Reroute(bounded, name)
}
