package deploy

import (
	"context"
	"fmt"
	"slices"

	"github.com/shipgate/shipgate/store"
)

// Rollback queues a deployment of an old Release: that of deployment to, or, with 0, the one that was live before the
// present one. The deploy branch goes back with it, so that what is live and what the branch says stay one.
func (r *Runner) Rollback(ctx context.Context, app string, to int64) (store.Deployment, error) {
	workload, err := r.Store.App(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	goal, err := r.rollbackGoal(ctx, app, to)
	if err != nil {
		return store.Deployment{}, err
	}
	release, err := r.Store.Release(ctx, goal.Release)
	if err != nil {
		return store.Deployment{}, err
	}
	if err := r.findArtefact(ctx, release); err != nil {
		return store.Deployment{}, err
	}
	branch, tip, err := r.Branches.DeployBranch(ctx, workload)
	if err != nil {
		return store.Deployment{}, fmt.Errorf("read deploy branch: %w", err)
	}
	request := store.NewDeployment{
		App: app, Trigger: store.TriggerRollback, SHA: goal.SHA, Ref: branch, Subject: goal.Subject,
		Image: goal.Image, BuiltFrom: goal.BuiltFrom, Release: goal.Release, RollbackOf: goal.ID,
	}
	if tip != "" && workload.Source != store.SourceImage { // also when it is there already: what runs now may move it before
		request.Updates = []store.RefUpdate{{Name: branch, Old: tip, New: goal.SHA}}
	}
	return r.Store.Enqueue(ctx, request)
}

// rollbackGoal finds a deployment that was live once and has a Release to go back to.
func (r *Runner) rollbackGoal(ctx context.Context, app string, to int64) (store.Deployment, error) {
	live, found, err := r.Store.Live(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	if to != 0 {
		return r.rollbackTo(ctx, app, to)
	}
	if !found {
		return store.Deployment{}, store.Problemf(store.CodeConflict, "%s has never been live", app).WithHint("git push shipgate main")
	}
	history, err := r.Store.Deployments(ctx, app, 1000)
	if err != nil {
		return store.Deployment{}, err
	}
	for _, d := range history {
		if d.ID < live.Deployment && d.Verdict == store.Succeeded && d.Release != live.Release {
			return d, nil
		}
	}
	return store.Deployment{}, store.Problemf(store.CodeConflict, "%s has no version before the present one", app).
		WithHint("shipgate deployments %s", app)
}

func (r *Runner) rollbackTo(ctx context.Context, app string, to int64) (store.Deployment, error) {
	d, err := r.Store.Deployment(ctx, to)
	if err != nil {
		return store.Deployment{}, err
	}
	if d.App != app || d.Release == 0 || d.Verdict != store.Succeeded {
		return store.Deployment{}, store.Problemf(store.CodeConflict, "deployment %d is not one of %s that was live", to, app).
			WithHint("shipgate deployments %s", app)
	}
	return d, nil
}

// Reroute gives the router the app's present hosts. The target stays: a deployment may have moved it already and not be
// live yet. An app that was never live has no route yet, and one that is being recreated gets it from its deployment.
func (r *Runner) Reroute(ctx context.Context, app string) error {
	defer r.lockRoute(app)()
	live, found, err := r.Store.Live(ctx, app)
	if err != nil || !found {
		return err
	}
	if held, err := r.mayBeHeld(ctx, app); err != nil || held {
		return err
	}
	routes, err := r.Router.Routes(ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	target := live.Target
	for _, route := range routes {
		if route.App == app {
			target = route.Target
		}
	}
	return r.applyLocked(ctx, app, target)
}

// PurgeSite has files of earlier releases of a site served no longer, all or those under a path, and returns how many releases
// that is about. A deployment that began meanwhile knows of it, and brings its own route.
func (r *Runner) PurgeSite(ctx context.Context, app, under string) (releases int, err error) {
	if releases, err = r.Store.PurgeSite(ctx, app, under); err != nil {
		return 0, err
	}
	defer r.lockRoute(app)()
	live, _, err := r.Store.Live(ctx, app)
	if err != nil {
		return 0, err
	}
	routes, err := r.Router.Routes(ctx)
	if err != nil {
		return 0, fmt.Errorf("read routes: %w", err)
	}
	for _, route := range routes {
		if route.App == app && route.Target.Deployment == live.Deployment {
			return releases, r.applyLocked(ctx, app, live.Target)
		}
	}
	return releases, nil
}

// mayBeHeld says whether a deployment of the app is between parking its requests and letting them go.
func (r *Runner) mayBeHeld(ctx context.Context, app string) (bool, error) {
	unfinished, err := r.Store.Unfinished(ctx, app)
	if err != nil || len(unfinished) == 0 {
		return false, err
	}
	d := unfinished[0]
	held := []store.Step{store.StepBuilt, store.StepHeld, store.StepStopped, store.StepStarted, store.StepHealthy, store.StepUndoing}
	return d.Strategy == store.Recreate && slices.Contains(held, d.Step), nil
}

// Destroy ends the app's deployments and removes its route and containers. Volumes and images stay.
func (r *Runner) Destroy(ctx context.Context, name string) (err error) {
	app, err := r.Store.App(ctx, name)
	if err != nil {
		return err
	}
	takeBack := r.giveUp(app)
	defer func() {
		if err != nil {
			takeBack()
		}
	}()
	return r.takeDown(ctx, name)
}

func (r *Runner) takeDown(ctx context.Context, app string) error {
	if err := r.endLane(ctx, app); err != nil {
		return err
	}
	if err := r.Router.Remove(ctx, app); err != nil {
		return fmt.Errorf("remove route: %w", err)
	}
	if err := r.endAllWarm(ctx, app); err != nil {
		return err
	}
	if err := r.removeStack(ctx, app); err != nil {
		return err
	}
	return r.removeAllBut(ctx, app, store.Deployment{}, store.DefaultStopGrace)
}

// endLane asks every deployment of the app to stop and waits until all have their end.
func (r *Runner) endLane(ctx context.Context, app string) error {
	for {
		unfinished, err := r.Store.Unfinished(ctx, app)
		if err != nil || len(unfinished) == 0 {
			return err
		}
		last := unfinished[len(unfinished)-1]
		if _, err := r.Store.AskCancel(ctx, last.ID); err != nil && store.CodeOf(err) != store.CodeConflict {
			return err
		}
		if err := r.awaitEnd(ctx, last.ID); err != nil {
			return err
		}
	}
}

func (r *Runner) awaitEnd(ctx context.Context, id int64) error {
	changed, unwatch := r.Store.Watch(store.DeploymentTopic(id))
	defer unwatch()
	for {
		d, err := r.Store.Deployment(ctx, id)
		if err != nil || d.Step.Terminal() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
