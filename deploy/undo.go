package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// undo takes back what a deployment did that never became live, and writes its verdict when that is so. It does not stop
// because the deployment was cancelled; what cannot be taken back in time is said, and left to the next reaping.
func (a *attempt) undo(ctx context.Context) (store.Change, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopped := context.AfterFunc(a.root, cancel) // a closing runner leaves the rest to the next process
	defer stopped()
	old, found, err := a.previous(ctx)
	trouble := err
	if err == nil {
		trouble = a.takeBack(ctx, old, found)
	} else {
		trouble = fmt.Errorf("read the old version: %w", err)
	}
	if a.root.Err() != nil {
		return store.Change{}, errors.Join(trouble, a.root.Err())
	}
	change := store.Change{Verdict: a.d.Pending, Reason: a.d.Reason, Hint: a.d.Hint}
	if trouble != nil {
		a.logger.Error("undo deployment", "error", trouble)
		change.Events = append(change.Events, store.Event{Kind: "undo", Text: "not everything could be taken back: " + a.masked.Replace(trouble.Error())})
	}
	change.Events = append(change.Events, store.Event{Kind: string(a.d.Pending), Text: a.lastWord(found, old, trouble)})
	return change, nil
}

// takeBack makes the old version serve as before and removes the new one. Each part has a deadline of its own, so that one
// that takes for ever does not keep the others from being done.
func (a *attempt) takeBack(ctx context.Context, old *attempt, found bool) error {
	reached, err := a.Store.StepTimes(ctx, a.d.ID)
	if err != nil {
		return err
	}
	_, built := reached[store.StepBuilt]
	_, held := reached[store.StepHeld]
	_, healthy := reached[store.StepHealthy] // the router was asked, and perhaps it did
	if a.d.Strategy == store.BlueGreen && healthy {
		if err := a.routeBack(ctx, old, found, true); err != nil {
			return err // the route may lead to the new container, so it stays
		}
	}
	if a.isStack() {
		return errors.Join(a.undoStack(ctx, old, found), a.routeBack(ctx, old, found, healthy), a.tidy(ctx, old, found))
	}
	trouble := a.removeOwn(ctx)
	if a.d.Strategy == store.Recreate && found && held && !old.isSite() && !old.stopped() {
		trouble = errors.Join(trouble, a.startAgain(ctx, old))
	}
	if a.d.Strategy == store.Recreate && built {
		trouble = errors.Join(trouble, a.routeBack(ctx, old, found, healthy))
	}
	return errors.Join(trouble, a.tidy(ctx, old, found))
}

// removeOwn removes the new container, which never got a request. Its name was stored before it was created.
func (a *attempt) removeOwn(ctx context.Context) error {
	if a.d.Container == "" {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	if err := retry(bounded, func(ctx context.Context) error { return a.Engine.Remove(ctx, a.d.Container) }); err != nil {
		return fmt.Errorf("remove new container: %w", err)
	}
	return a.Store.FreeAddress(ctx, a.d.ID)
}

func (a *attempt) startAgain(ctx context.Context, old *attempt) error {
	began := time.Now()
	spec, err := old.liveSpec()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Undo)
	defer cancel()
	err = a.untilAnswers(bounded, old, func(ctx context.Context) error { return a.Engine.Start(ctx, spec) })
	if err != nil {
		return fmt.Errorf("start old container again: %w", err)
	}
	a.say(ctx, "undo", "%s runs again · %s", old.d.Container, seconds(time.Since(began)))
	return nil
}

// againAfter is how long what was started may take to answer before it is started once more: it may have ended meanwhile,
// with its engine.
const againAfter = 5 * time.Second

// untilAnswers starts the old version until it answers.
func (a *attempt) untilAnswers(ctx context.Context, old *attempt, start func(ctx context.Context) error) error {
	probe, successes, _ := old.probeOf()
	return retry(ctx, func(ctx context.Context) error {
		if err := start(ctx); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, againAfter)
		defer cancel()
		if result := a.probeUntil(bounded, probe, successes); !result.passed {
			return fmt.Errorf("no answer: %s", result.last.Text)
		}
		return nil
	})
}

// routeBack makes sure that requests go to the old target, or nowhere when there was none, and ends a hold. The route is
// put in place anew where it may have moved: the new generation also keeps out a move that is still on its way.
func (a *attempt) routeBack(ctx context.Context, old *attempt, found, moved bool) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Route)
	defer cancel()
	err := retry(bounded, func(ctx context.Context) error {
		switch {
		case found && moved:
			return a.applyRoute(ctx, a.d.App, old.target())
		case found:
			return a.letGo(ctx, old)
		case moved:
			return a.Router.Remove(ctx, a.d.App)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("route back: %w", err)
	}
	return nil
}

// letGo lets held requests go to the old target. A route that is not as it should be is put right instead.
func (a *attempt) letGo(ctx context.Context, old *attempt) error {
	routes, err := a.Router.Routes(ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	app, err := a.Store.App(ctx, a.d.App)
	if err != nil {
		return err
	}
	if inPlace(routes, app, old.target()) {
		return a.Router.Release(ctx, a.d.App)
	}
	return a.applyRoute(ctx, a.d.App, old.target())
}

// tidy removes strays, which would otherwise stay until a deployment succeeds.
func (a *attempt) tidy(ctx context.Context, old *attempt, found bool) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Engine)
	defer cancel()
	var live store.Deployment
	if found {
		live = old.d
	}
	return a.removeAllBut(bounded, a.d.App, live, store.DefaultStopGrace)
}

// lastWord is the line that ends a push that failed.
func (a *attempt) lastWord(found bool, old *attempt, trouble error) string {
	text, _, _ := strings.Cut(a.d.Reason, " failed: ") // the details stand above, and after "rejected" below
	switch {
	case found && trouble == nil && old.stopped():
		text += a.sprintf("; %s stays stopped", a.d.App)
	case found && trouble == nil:
		text += a.sprintf("; %d keeps serving", old.d.ID)
	case !found && trouble == nil:
		text += "; nothing serves yet"
	}
	if a.d.Pending == store.Cancelled {
		return text
	}
	return text + a.sprintf(". Full log: shipgate logs %s --deployment %d", a.d.App, a.d.ID)
}
