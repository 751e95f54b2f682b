package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

// removeAllBut stops and removes every container of the app except the one that is live and those that are kept warm, and
// gives their addresses back, also those of containers that an earlier process removed before it died. The containers of
// a stack are Compose's.
func (r *Runner) removeAllBut(ctx context.Context, app string, live store.Deployment, grace time.Duration) error {
	containers, err := r.Engine.List(ctx, app)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	warm, err := r.warmNames(ctx, app)
	if err != nil {
		return err
	}
	var trouble error
	for _, container := range containers {
		if container.Role == store.RoleStack || container.Name == live.Container || warm[container.Name] {
			continue
		}
		trouble = errors.Join(trouble, r.discard(ctx, container, grace))
	}
	if trouble != nil {
		return trouble
	}
	return r.Store.FreeAddresses(ctx, app, live.ID)
}

// discard stops and removes a container that nothing needs.
func (r *Runner) discard(ctx context.Context, container store.Container, grace time.Duration) error {
	if err := r.Engine.Stop(ctx, container.Name, grace); err != nil {
		return fmt.Errorf("stop container %s: %w", container.Name, err)
	}
	if err := r.Engine.Remove(ctx, container.Name); err != nil {
		return fmt.Errorf("remove container %s: %w", container.Name, err)
	}
	return nil
}

// reconcileRoutes gives the router the routes of all live deployments that it does not have as they should be.
func (r *Runner) reconcileRoutes(ctx context.Context) error {
	routes, err := r.Router.Routes(ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	apps, err := r.Store.Apps(ctx)
	if err != nil {
		return err
	}
	var trouble error
	for _, app := range apps {
		trouble = errors.Join(trouble, r.reconcileRoute(ctx, app, routes))
	}
	for _, route := range routes {
		if !slices.ContainsFunc(apps, func(app store.App) bool { return app.Name == route.App }) {
			trouble = errors.Join(trouble, r.Router.Remove(ctx, route.App))
		}
	}
	return trouble
}

// reconcileRoute leaves an app alone that has a deployment at work: taking that up puts the route right, too.
func (r *Runner) reconcileRoute(ctx context.Context, app store.App, routes []store.Route) error {
	live, found, err := r.Store.Live(ctx, app.Name)
	if err != nil {
		return err
	}
	unfinished, err := r.Store.Unfinished(ctx, app.Name)
	if err != nil {
		return err
	}
	working := len(unfinished) > 0 && !unfinished[0].StartedAt.IsZero()
	switch {
	case working && (!found || routed(routes, app.Name)):
		return nil
	case !found && routed(routes, app.Name):
		return r.Router.Remove(ctx, app.Name)
	case !found:
		return nil
	case inPlace(routes, app, live.Target):
		return r.Router.Release(ctx, app.Name) // held by a deployment that could not say so in the end
	}
	if err := r.applyRoute(ctx, app.Name, live.Target); err != nil {
		return fmt.Errorf("put route of %s right: %w", app.Name, err)
	}
	r.Logger.Info("put route right", "app", app.Name, "deployment", live.Deployment)
	return nil
}

func routed(routes []store.Route, app string) bool {
	return slices.ContainsFunc(routes, func(route store.Route) bool { return route.App == app })
}

func inPlace(routes []store.Route, app store.App, target store.Target) bool {
	return slices.ContainsFunc(routes, func(route store.Route) bool {
		return route.App == app.Name && route.Target.Equal(target) && slices.Equal(route.Hosts, app.Hosts) &&
			route.Stopped == app.Stopped(target.Deployment)
	})
}

// sweep removes what an earlier process left behind of apps without work, and gives what is live and does not run. It
// comes before the lanes, so that no deployment begins meanwhile.
func (r *Runner) sweep(ctx context.Context) (idle []store.Live, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience.Engine)
	defer cancel()
	containers, err := r.Engine.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	apps, err := r.Store.Apps(ctx)
	if err != nil {
		return nil, err
	}
	var trouble error
	for _, app := range apps {
		live, is, err := r.sweepApp(ctx, app.Name, containers)
		if is {
			idle = append(idle, live)
		}
		trouble = errors.Join(trouble, err)
	}
	known := func(name string) bool {
		return slices.ContainsFunc(apps, func(app store.App) bool { return app.Name == name })
	}
	for _, container := range containers {
		switch {
		case known(container.App):
		case container.Role == store.RoleStack:
			trouble = errors.Join(trouble, r.removeStack(ctx, container.App))
		default:
			trouble = errors.Join(trouble, r.discard(ctx, container, store.DefaultStopGrace))
		}
	}
	return idle, trouble
}

func (r *Runner) sweepApp(ctx context.Context, app string, containers []store.Container) (live store.Live, idle bool, err error) {
	unfinished, err := r.Store.Unfinished(ctx, app)
	if err != nil || len(unfinished) > 0 {
		return live, false, err
	}
	live, found, err := r.Store.Live(ctx, app)
	if err == nil && !found && slices.ContainsFunc(containers, func(container store.Container) bool {
		return container.App == app && container.Role == store.RoleStack
	}) {
		err = r.removeStack(ctx, app) // of a first deployment that failed
	}
	if err != nil {
		return live, false, err
	}
	err = r.removeAllBut(ctx, app, store.Deployment{ID: live.Deployment, Container: live.Container}, store.DefaultStopGrace)
	runs := slices.ContainsFunc(containers, func(container store.Container) bool {
		return container.Name == live.Container && container.Running
	})
	return live, found && live.Container != "" && !runs, err
}

// startLive starts what is live and does not run: the engine was away when a failed deployment was to start it again.
func (r *Runner) startLive(ctx context.Context, live store.Live) error {
	d, err := r.Store.Deployment(ctx, live.Deployment)
	if err != nil {
		return err
	}
	a, err := r.newAttempt(ctx, d, r.Logger)
	if err != nil {
		return err
	}
	if err := a.load(ctx); err != nil {
		return err
	}
	if a.isStack() {
		return a.up(ctx, func(string) {})
	}
	spec, err := a.spec()
	if err != nil {
		return err
	}
	spec.KeepRunning = true
	r.Logger.Info("start what is live", "app", d.App, "deployment", d.ID, "container", spec.Name)
	ctx, cancel := context.WithTimeout(ctx, r.Patience.Engine)
	defer cancel()
	return r.Engine.Start(ctx, spec)
}
