package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

// warmNames are the names of an app's containers that are kept, stopped, for going back.
func (r *Runner) warmNames(ctx context.Context, app string) (map[string]bool, error) {
	warm, err := r.Store.Warm(ctx, app)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, one := range warm {
		names[one.Deployment.Container] = true
	}
	return names, nil
}

// takeWarm takes over the container of the same Release, where one was kept: a Release never changes, so it is the same
// container that would be made anew.
func (a *attempt) takeWarm(ctx context.Context) error {
	if a.d.RollbackOf == 0 || a.d.Container != "" {
		return nil
	}
	warm, err := a.Store.Warm(ctx, a.d.App)
	if err != nil {
		return err
	}
	for _, one := range warm {
		if one.Deployment.Release != a.d.Release {
			continue
		}
		taken, ok, err := a.Store.TakeWarm(ctx, a.d, one)
		if err != nil {
			return err
		}
		if ok {
			a.d = taken
			return nil
		}
	}
	return nil
}

// keepWarm puts the container that was replaced aside for the time that the config says, in place of an older one. What
// cannot be kept is removed with the rest.
func (a *attempt) keepWarm(ctx context.Context) error {
	window := a.config.Shared().Rollback.Warm.Or(0)
	if window == 0 || a.isSite() || a.isStack() || a.d.PreviousLive == 0 || a.d.PreviousLive == a.d.ID {
		return a.endAllWarm(ctx, a.d.App)
	}
	previous, err := a.Store.Deployment(ctx, a.d.PreviousLive)
	if err != nil || previous.Container == "" || previous.Container == a.d.Container {
		return errors.Join(err, a.endAllWarm(ctx, a.d.App))
	}
	if err := a.endAllWarm(ctx, a.d.App, previous.ID); err != nil {
		return err
	}
	if err := a.Store.KeepWarm(ctx, previous.ID, time.Now().Add(window)); err != nil {
		return err
	}
	defer a.lockContainers(a.d.App)()
	grace := a.config.Shared().StopGrace.Or(store.DefaultStopGrace)
	bounded, cancel := context.WithTimeout(ctx, grace+a.Patience.Reap)
	defer cancel()
	kept := false
	err = retry(bounded, func(ctx context.Context) (err error) {
		kept, err = a.stopAndKeep(ctx, previous.Container, grace)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return errors.Join(err, ctx.Err())
	case err != nil:
		a.logger.Error("put old container aside", "container", previous.Container, "error", err)
	}
	if !kept {
		_, err := a.Store.EndWarm(ctx, previous.ID)
		return err
	}
	a.say(ctx, "warm", "%s is kept, stopped, for %s", previous.Container, window)
	return nil
}

// stopAndKeep stops a container; false when it is gone, as after a docker rm by hand.
func (a *attempt) stopAndKeep(ctx context.Context, name string, grace time.Duration) (kept bool, err error) {
	if err := a.Engine.Stop(ctx, name, grace); err != nil {
		return false, err
	}
	present, err := a.Engine.List(ctx, a.d.App)
	return slices.ContainsFunc(present, func(c store.Container) bool { return c.Name == name }), err
}

// lookAtWarm has the ends of the windows looked at again.
func (r *Runner) lookAtWarm() {
	select {
	case r.warmed <- struct{}{}:
	default:
	}
}

// endAllWarm forgets the app's warm containers but one; the reaping that follows removes them.
func (r *Runner) endAllWarm(ctx context.Context, app string, except ...int64) error {
	warm, err := r.Store.Warm(ctx, app)
	if err != nil {
		return err
	}
	var trouble error
	for _, one := range warm {
		if len(except) == 0 || one.Deployment.ID != except[0] {
			_, err := r.Store.EndWarm(ctx, one.Deployment.ID)
			trouble = errors.Join(trouble, err)
		}
	}
	return trouble
}

// endWarmInTime removes each warm container when its time is over, until the runner closes.
func (r *Runner) endWarmInTime() {
	for {
		next, err := r.endExpiredWarm(r.root)
		if err != nil && r.root.Err() == nil {
			r.Logger.Error("remove warm containers", "error", err)
		}
		due := time.NewTimer(next)
		select {
		case <-r.root.Done():
		case <-r.warmed:
		case <-due.C:
		}
		due.Stop()
		if r.root.Err() != nil {
			return
		}
	}
}

// warmTrouble is when an engine that was away is asked again.
const warmTrouble = time.Minute

// endExpiredWarm removes what is out of time and says how long it is until the next. The containers of an app at work are
// its deployment's, which may be about to put one of them aside anew; its end has us look again.
func (r *Runner) endExpiredWarm(ctx context.Context) (next time.Duration, err error) {
	warm, err := r.Store.Warm(ctx, "")
	if err != nil {
		return warmTrouble, err
	}
	for _, one := range warm {
		if left := time.Until(one.Until); left > 0 {
			return left, nil
		}
		unfinished, err := r.Store.Unfinished(ctx, one.Deployment.App)
		if err != nil {
			return warmTrouble, err
		}
		if len(unfinished) > 0 {
			continue
		}
		if err := r.endWarm(ctx, one.Deployment); err != nil {
			return warmTrouble, err
		}
	}
	return 24 * time.Hour, nil
}

// endWarm removes a warm container that nobody took over meanwhile. A crash in between leaves a stray without a row, which
// the next start sweeps.
func (r *Runner) endWarm(ctx context.Context, d store.Deployment) error {
	ended, err := r.Store.EndWarm(ctx, d.ID)
	if err != nil || !ended {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, r.Patience.Engine)
	defer cancel()
	if err := r.Engine.Remove(bounded, d.Container); err != nil {
		return fmt.Errorf("remove warm container %s: %w", d.Container, err)
	}
	return r.Store.FreeAddress(ctx, d.ID)
}
