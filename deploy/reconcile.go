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
	defer r.lockContainers(app)()
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
			trouble = errors.Join(trouble, r.removeUnknownRoute(ctx, route))
		}
	}
	return trouble
}

// removeUnknownRoute removes the route of an app that was destroyed. Of one that was never heard of the database may be the
// wrong one, or empty: its visitors are served on.
func (r *Runner) removeUnknownRoute(ctx context.Context, route store.Route) error {
	if destroyed, err := r.Store.Destroyed(ctx, route.App); err != nil || destroyed {
		return errors.Join(err, r.Router.Remove(ctx, route.App))
	}
	r.Logger.Warn("the proxy serves an app that the database does not know; it is left alone", "app", route.App, "hosts", route.Hosts)
	return nil
}

// reconcileRoute leaves an app alone that has a deployment at work, until that is live: taking it up puts the route right.
func (r *Runner) reconcileRoute(ctx context.Context, app store.App, routes []store.Route) error {
	live, found, err := r.Store.Live(ctx, app.Name)
	if err != nil {
		return err
	}
	unfinished, err := r.Store.Unfinished(ctx, app.Name)
	if err != nil {
		return err
	}
	working := len(unfinished) > 0 && !unfinished[0].StartedAt.IsZero() && unfinished[0].Step != store.StepLive
	switch {
	case working && (!found || routed(routes, app.Name)):
		return nil
	case !found && routed(routes, app.Name):
		return r.removeFailedRoute(ctx, app.Name, routes)
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

// removeFailedRoute removes the route to a first deployment that failed. One to a deployment that the database has no row
// of stays, for the same reason as that of an unknown app.
func (r *Runner) removeFailedRoute(ctx context.Context, app string, routes []store.Route) error {
	at := slices.IndexFunc(routes, func(route store.Route) bool { return route.App == app })
	d, err := r.Store.Deployment(ctx, routes[at].Target.Deployment)
	switch {
	case store.CodeOf(err) == store.CodeNotFound || err == nil && d.App != app:
		return r.removeUnknownRoute(ctx, routes[at])
	case err != nil:
		return err
	}
	return r.Router.Remove(ctx, app)
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

// sweep removes what an earlier process left behind of apps without work, and of apps that were destroyed. It comes before
// the lanes, so that no deployment begins meanwhile.
func (r *Runner) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Patience.Engine)
	defer cancel()
	containers, err := r.Engine.List(ctx, "")
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	apps, err := r.Store.Apps(ctx)
	if err != nil {
		return err
	}
	var trouble error
	for _, app := range apps {
		trouble = errors.Join(trouble, r.sweepApp(ctx, app.Name, containers))
	}
	for _, container := range containers {
		if !slices.ContainsFunc(apps, func(app store.App) bool { return app.Name == container.App }) {
			trouble = errors.Join(trouble, r.sweepUnknown(ctx, container))
		}
	}
	return trouble
}

// sweepUnknown removes a container of an app that was destroyed, and leaves one alone whose app was never heard of.
func (r *Runner) sweepUnknown(ctx context.Context, container store.Container) error {
	destroyed, err := r.Store.Destroyed(ctx, container.App)
	switch {
	case err != nil:
		return err
	case !destroyed:
		r.Logger.Warn("a container belongs to an app that the database does not know; it is left alone", "app", container.App, "container", container.Name)
		return nil
	case container.Role == store.RoleStack:
		return r.removeStack(ctx, container.App)
	}
	return r.discard(ctx, container, store.DefaultStopGrace)
}

func (r *Runner) sweepApp(ctx context.Context, app string, containers []store.Container) error {
	unfinished, err := r.Store.Unfinished(ctx, app)
	if err != nil || len(unfinished) > 0 {
		return err
	}
	live, found, err := r.Store.Live(ctx, app)
	if err == nil && !found && slices.ContainsFunc(containers, func(container store.Container) bool {
		return container.App == app && container.Role == store.RoleStack
	}) {
		err = r.removeStack(ctx, app) // of a first deployment that failed
	}
	if err != nil {
		return err
	}
	return r.removeAllBut(ctx, app, store.Deployment{ID: live.Deployment, Container: live.Container}, store.DefaultStopGrace)
}
