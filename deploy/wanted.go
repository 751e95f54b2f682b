package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/shipgate/shipgate/store"
)

// StopApp stops what is live of an app until StartApp, or until a deployment that is asked for later is live. The wish is
// stored first, and survives every restart. A deployment at work that touches what is live comes first.
func (r *Runner) StopApp(ctx context.Context, app string) error {
	if _, err := r.servedApp(ctx, app); err != nil {
		return err
	}
	if err := r.Store.StopApp(ctx, app); err != nil {
		return err
	}
	return r.settleNow(ctx, app)
}

// StartApp has an app run again that was stopped, and returns when it accepts connections.
func (r *Runner) StartApp(ctx context.Context, app string) error {
	a, err := r.servedApp(ctx, app)
	if err != nil {
		return err
	}
	if err := r.Store.StartApp(ctx, app); err != nil {
		return err
	}
	r.forgetRevivals(a.d.Container)
	return r.settleNow(ctx, app)
}

// settleNow settles the app, and leaves what cannot be done now to its keeper.
func (r *Runner) settleNow(ctx context.Context, app string) error {
	_, err := r.settle(ctx, app)
	r.attend(app)
	return err
}

func (r *Runner) servedApp(ctx context.Context, app string) (*attempt, error) {
	if _, err := r.Store.App(ctx, app); err != nil {
		return nil, err
	}
	a, found, err := r.liveAttempt(ctx, app)
	if err == nil && !found {
		err = store.Problemf(store.CodeConflict, "%s has never been live", app).WithHint("git push shipgate main")
	}
	return a, err
}

// Restart queues a deployment of the release that is live: a new container beside the old one, or in its place, as the
// strategy says. The branch stays where it is, and the forge is not told: nothing is new about the commit.
func (r *Runner) Restart(ctx context.Context, app string) (store.Deployment, error) {
	a, err := r.servedApp(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	if a.isSite() {
		return store.Deployment{}, store.Problemf(store.CodeConflict, "%s is a site: nothing runs that could be restarted", app).
			WithHint("shipgate deploy %s", app)
	}
	if err := r.findArtefact(ctx, a.release); err != nil {
		return store.Deployment{}, err
	}
	return r.Store.Enqueue(ctx, store.NewDeployment{
		App: app, Trigger: store.TriggerRestart, SHA: a.d.SHA, Ref: a.d.Ref, Subject: a.d.Subject, Image: a.d.Image,
		BuiltFrom: a.d.BuiltFrom, Release: a.release.ID,
	})
}

// ensureRouted makes sure that requests go to what is live before anything that they went to before is removed: a proxy
// that lost its snapshot may have gone back to the route of before. While nobody can say, what is old stays.
func (a *attempt) ensureRouted(ctx context.Context) (sure bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	err = retry(bounded, a.putRouteRight)
	if ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	if err != nil {
		a.logger.Error("make sure of the route", "error", err)
		a.say(ctx, "note", "the router does not say where requests go, so the old version stays for now: %s", err)
	}
	return err == nil, nil
}

func (a *attempt) putRouteRight(ctx context.Context) error {
	routes, err := a.Router.Routes(ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	live, _, err := a.Store.Live(ctx, a.d.App)
	if err != nil {
		return err
	}
	app, err := a.Store.App(ctx, a.d.App)
	if err != nil || inPlace(routes, app, live.Target) {
		return err
	}
	a.logger.Warn("the router lost the route of what is live; it is put back")
	return a.applyRoute(ctx, a.d.App, live.Target)
}
