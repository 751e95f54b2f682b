package deploy

import (
	"context"
	"errors"
	"log/slog"

	"github.com/shipgate/shipgate/store"
)

// errCancelAsked is the cause of a context that ends because somebody asked for the deployment to stop.
var errCancelAsked = store.Problemf(store.CodeCancelled, "cancelled")

// run drives a deployment from where it stands to its end. Resuming is the same call: what was not recorded is done again.
func (r *Runner) run(ctx context.Context, id int64, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d, err := r.Store.Deployment(ctx, id)
	if err != nil {
		return err
	}
	a, err := r.newAttempt(ctx, d, logger)
	if err != nil {
		return err
	}
	stopListening := r.listenForCancel(ctx, id, cancel)
	defer stopListening()
	for !a.d.Step.Terminal() {
		t := nextTransition(a.d)
		to := t.to
		change, err := a.do(ctx, t)
		if err != nil {
			if change, err = a.failure(ctx, t.from, err); err != nil {
				return err
			}
			to = store.StepUndoing
		}
		if err = a.advance(ctx, to, change); err != nil {
			return err
		}
		logger.Info("step", "step", a.d.Step)
		if a.d.Step == store.StepLive {
			r.attend(a.d.App)
		}
	}
	return nil
}

// do works on one transition. Undoing needs nothing that could be unreadable. A cancellation that was accepted counts,
// also when the step it was to stop was faster: until the router is asked, all can be undone.
func (a *attempt) do(ctx context.Context, t transition) (store.Change, error) {
	if a.d.CancelAsked && t.from.CanUndo() {
		return store.Change{}, errCancelAsked
	}
	if t.from != store.StepUndoing {
		if err := a.load(ctx); err != nil {
			return store.Change{}, err
		}
	}
	if !a.isSite() {
		defer a.sayWhenAway(a.root)()
	}
	return t.do(a, a.contextFor(ctx, t.from))
}

// contextFor gives steps that can still be cancelled the context that a cancellation ends; the others only end with the runner.
func (a *attempt) contextFor(ctx context.Context, step store.Step) context.Context {
	if step.CanCancel() {
		return ctx
	}
	return a.root
}

// listenForCancel ends the context when the deployment is asked to stop, also when it was asked before a crash.
func (r *Runner) listenForCancel(ctx context.Context, id int64, cancel context.CancelCauseFunc) (stop func()) {
	changed, unwatch := r.Store.Watch(store.DeploymentTopic(id))
	ctx, end := context.WithCancel(ctx)
	finished := make(chan struct{})
	check := func() {
		if d, err := r.Store.Deployment(ctx, id); err == nil && d.CancelAsked {
			cancel(errCancelAsked)
		}
	}
	check()
	go func() {
		defer close(finished)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				check()
			}
		}
	}()
	return func() { end(); unwatch(); <-finished }
}

// failure turns a step's error into the intent to undo. With the runner closing, or at a step that only rolls forward,
// it gives the error back and the deployment stays where it is.
func (a *attempt) failure(ctx context.Context, at store.Step, err error) (store.Change, error) {
	if !at.CanUndo() || a.root.Err() != nil {
		return store.Change{}, errors.Join(err, a.root.Err())
	}
	change := a.verdictOf(err)
	if errors.Is(err, errCancelAsked) || (at.CanCancel() && errors.Is(context.Cause(ctx), errCancelAsked)) {
		change = store.Change{Verdict: store.Cancelled, Reason: "cancelled on request"}
	}
	return change, nil
}

// verdictOf judges an error: the user's fault, or ours. Details of ours go to the history and the log, not to the reason.
func (a *attempt) verdictOf(err error) store.Change {
	problem, known := store.AsProblem(err)
	if !known {
		a.logger.Error("deployment errored", "step", a.d.Step, "error", err)
		return store.Change{
			Verdict: store.Errored,
			Reason:  a.sprintf("internal error, see deployment %d", a.d.ID),
			Hint:    a.sprintf("shipgate show %d", a.d.ID),
			Events:  []store.Event{{Kind: "note", Text: a.masked.Replace(err.Error())}},
		}
	}
	change := store.Change{Verdict: store.Errored, Reason: a.masked.Replace(problem.Message), Hint: problem.Hint}
	switch problem.Code {
	case store.CodeFailed, store.CodeUsage, store.CodeNotFound, store.CodeConflict:
		change.Verdict = store.Failed
	case store.CodeCancelled:
		change.Verdict = store.Cancelled
	}
	return change
}
