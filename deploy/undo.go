package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/shipgate/shipgate/store"
)

// undo takes back what a deployment did that never became live, and writes its verdict when that is so. It does not stop
// because the deployment was cancelled; what cannot be taken back in time is said, and left to the next reaping.
func (a *attempt) undo(ctx context.Context) (store.Change, error) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Patience.Undo)
	defer cancel()
	stopped := context.AfterFunc(a.root, cancel) // a closing runner leaves the rest to the next process
	defer stopped()
	var trouble error
	if err := a.removeOwn(bounded); err != nil {
		trouble = errors.Join(trouble, fmt.Errorf("remove new container: %w", err))
	}
	old, found, err := a.previous(bounded)
	if err != nil {
		return store.Change{}, err
	}
	if found && a.d.Release != 0 { // before it was built, nothing that serves was touched
		trouble = errors.Join(trouble, a.restore(bounded, old))
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

// removeOwn removes the new container, which never got a request. Its name was stored before it was created.
func (a *attempt) removeOwn(ctx context.Context) error {
	if a.d.Container == "" {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, min(a.Patience.Engine, a.Patience.Undo/3))
	defer cancel()
	if err := retry(bounded, func(ctx context.Context) error { return a.Engine.Remove(ctx, a.d.Container) }); err != nil {
		return err
	}
	return a.Store.FreeAddress(ctx, a.d.ID)
}

// restore makes the old version serve as before: started again when recreate has stopped it, routed, and released.
func (a *attempt) restore(ctx context.Context, old *attempt) error {
	var trouble error
	if a.d.Strategy == store.Recreate && !old.isSite() {
		trouble = a.startAgain(ctx, old)
	}
	routed := retry(ctx, func(ctx context.Context) error { return a.routeBack(ctx, old) })
	return errors.Join(trouble, routed)
}

func (a *attempt) startAgain(ctx context.Context, old *attempt) error {
	spec, err := old.spec()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, min(a.Patience.Engine, a.Patience.Undo/3))
	defer cancel()
	if err := retry(bounded, func(ctx context.Context) error { return a.Engine.Start(ctx, spec) }); err != nil {
		return fmt.Errorf("start old container again: %w", err)
	}
	probe, successes, timeout := old.probeOf()
	patient, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	if result := a.probeUntil(patient, probe, successes); !result.passed {
		return fmt.Errorf("wait for old container: %s", result.last.Text)
	}
	a.say(ctx, "undo", "%s runs again", old.d.Container)
	return nil
}

// routeBack lets held requests go to the old target. It moves the route only if that is seen to be elsewhere.
func (a *attempt) routeBack(ctx context.Context, old *attempt) error {
	routes, err := a.Router.Routes(ctx)
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	for _, route := range routes {
		if route.App == a.d.App && route.Target.Deployment == old.d.ID {
			if err := a.Router.Release(ctx, a.d.App); err != nil {
				return fmt.Errorf("release held requests: %w", err)
			}
			return nil
		}
	}
	if err := a.applyRoute(ctx, old.target()); err != nil {
		return fmt.Errorf("move route back: %w", err)
	}
	return nil
}

// lastWord is the line that ends a push that failed.
func (a *attempt) lastWord(found bool, old *attempt, trouble error) string {
	text := a.d.Reason
	switch {
	case found && trouble == nil:
		text += a.sprintf("; %d keeps serving", old.d.ID)
	case !found:
		text += "; nothing serves yet"
	}
	if a.d.Pending == store.Cancelled {
		return text
	}
	return text + a.sprintf(". Full log: shipgate logs %s --deployment %d", a.d.App, a.d.ID)
}
