package deploy

import (
	"context"
	"time"

	"github.com/shipgate/shipgate/store"
)

// advance stores that the deployment has reached a step. On a full disk it is tried again until there is room, without doing the
// step's work anew; a deployment that can be undone is undone, with the room that the reserve gives back. Who follows the
// deployment learns of the full disk from store.WriteFault, because the history cannot be written.
func (a *attempt) advance(ctx context.Context, to store.Step, change store.Change) error {
	pause := newBackoff(100*time.Millisecond, 5*time.Second)
	for {
		d, err := a.Store.Advance(context.WithoutCancel(ctx), a.d, to, change)
		if err == nil {
			a.d = d
			return nil
		}
		if !store.IsDiskFull(err) {
			return err
		}
		a.logger.Error("write step", "step", to, "error", err)
		a.makeRoom(err)
		if to != store.StepUndoing && a.d.Step.CanCancel() { // from healthy on, the route may have moved
			to, change = store.StepUndoing, a.verdictOf(err)
		}
		if !pause.wait(a.root) {
			return err
		}
	}
}

// makeRoom gives the reserve back when an error says that the disk is full.
func (r *Runner) makeRoom(err error) {
	if !store.IsDiskFull(err) {
		return
	}
	if err := r.Store.ReleaseReserve(); err != nil {
		r.Logger.Error("make room on the full disk", "error", err)
	}
}
