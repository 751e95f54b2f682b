package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shipgate/shipgate/store"
)

// removeAllBut stops and removes every container of the app except the one of the deployment that is live.
func (a *attempt) removeAllBut(ctx context.Context, live int64) error {
	containers, err := a.Engine.List(ctx, a.d.App)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	grace := a.config.Shared().StopGrace.Or(store.DefaultStopGrace)
	var trouble error
	for _, container := range containers {
		if container.Deployment == live {
			continue
		}
		if err := a.Engine.Stop(ctx, container.Name, grace); err != nil {
			trouble = errors.Join(trouble, fmt.Errorf("stop old container: %w", err))
			continue
		}
		trouble = errors.Join(trouble, a.discard(ctx, container))
	}
	return trouble
}

// discard removes a container that nothing needs and gives its address back.
func (r *Runner) discard(ctx context.Context, container store.Container) error {
	if err := r.Engine.Remove(ctx, container.Name); err != nil {
		return fmt.Errorf("remove container %s: %w", container.Name, err)
	}
	return r.Store.FreeAddress(ctx, container.Deployment)
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
	if err != nil || !found {
		return err
	}
	unfinished, err := r.Store.Unfinished(ctx, app.Name)
	if err != nil || slices.ContainsFunc(unfinished, func(d store.Deployment) bool { return !d.StartedAt.IsZero() }) {
		if err != nil || routed(routes, app.Name) {
			return err
		}
	}
	for _, route := range routes {
		if route.App == app.Name && route.Target == live.Target && slices.Equal(route.Hosts, app.Hosts) {
			return nil
		}
	}
	if err := r.applyRoute(ctx, app, live.Target); err != nil {
		return fmt.Errorf("put route of %s right: %w", app.Name, err)
	}
	r.Logger.Info("put route right", "app", app.Name, "deployment", live.Deployment)
	return nil
}

func routed(routes []store.Route, app string) bool {
	return slices.ContainsFunc(routes, func(route store.Route) bool { return route.App == app })
}

// sweep removes the containers that an earlier process left behind and that no deployment at work will deal with.
func (r *Runner) sweep(ctx context.Context) {
	containers, err := r.Engine.List(ctx, "")
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.Warn("look for strays", "error", err)
		}
		return
	}
	for _, container := range containers {
		stray, err := r.isStray(ctx, container)
		if err == nil && stray {
			err = r.discard(ctx, container)
			r.Logger.Info("remove stray", "container", container.Name)
		}
		if err != nil && ctx.Err() == nil {
			r.Logger.Warn("remove stray", "container", container.Name, "error", err)
		}
	}
}

func (r *Runner) isStray(ctx context.Context, container store.Container) (bool, error) {
	unfinished, err := r.Store.Unfinished(ctx, container.App)
	if err != nil || len(unfinished) > 0 {
		return false, err
	}
	live, found, err := r.Store.Live(ctx, container.App)
	return err == nil && (!found || live.Deployment != container.Deployment), err
}
