package deploy

import (
	"context"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Keepers make what runs of each app what is wanted of it: what is live runs, and what was stopped on purpose does not. An
// app has a keeper only while there is something to do: after news of the engine, after a deployment, while a start that
// failed waits for its next try. A keeper works under the app's container lock and gives way to a deployment at work.
type keepers struct {
	containers keyedMutex // one change of an app's containers at a time

	mu      sync.Mutex
	started bool // set by Start: before, the apps are swept
	byApp   map[string]chan struct{}
	revived map[string]revival   // by container
	gone    map[string]time.Time // apps that are being destroyed, by name, with the time they were created
}

// revival is how often a container had to be started again of late.
type revival struct {
	failures int
	last     time.Time
}

// How long a keeper waits before it starts again what keeps ending, and before it asks again who did not answer.
const (
	firstRevivalPause = time.Second
	lastRevivalPause  = time.Minute
	keeperRetry       = 2 * time.Second
)

func newKeepers() *keepers {
	return &keepers{
		byApp: map[string]chan struct{}{}, revived: map[string]revival{}, gone: map[string]time.Time{},
	}
}

func (k *keepers) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.started = true
}

// lockContainers keeps a keeper and a deployment from touching the same containers at once. Call unlock when done.
func (r *Runner) lockContainers(app string) (unlock func()) { return r.keepers.containers.lock(app) }

// followEngine has each app looked at when something happens to its containers, and all of them when the engine is lost and
// when it is back.
func (r *Runner) followEngine() {
	lost := false
	for change := range r.Engine.Changes(r.root) {
		if change.App != "" {
			r.attend(change.App)
			continue
		}
		if change.Lost || lost { // also when it is back: a start that was under way as it went has failed
			r.forgetAllRevivals()
		}
		lost = change.Lost
		r.Recheck()
	}
}

// Recheck has every app that is live looked at, and the router told again who may call whom.
func (r *Runner) Recheck() {
	if err := r.SetCallers(r.root); err != nil && r.root.Err() == nil {
		r.Logger.Error("tell who may call apps", "error", err)
	}
	apps, err := r.Store.LiveDeployments(r.root)
	if err != nil && r.root.Err() == nil {
		r.Logger.Error("list live apps", "error", err)
	}
	for app := range apps {
		r.attend(app)
	}
}

// attend has an app looked at, now or once more after the look that is under way.
func (r *Runner) attend(app string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keepers
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.started || r.closed {
		return
	}
	if wake := k.byApp[app]; wake != nil {
		select {
		case wake <- struct{}{}:
		default: // it will look once more anyway
		}
		return
	}
	wake := make(chan struct{}, 1)
	k.byApp[app] = wake
	r.work.Go(func() { r.keep(app, wake) })
}

// keep settles the app until there is nothing left to do.
func (r *Runner) keep(app string, wake chan struct{}) {
	said := ""
	for r.root.Err() == nil {
		again, err := r.settle(r.root, app)
		if err != nil && r.root.Err() == nil {
			if again == 0 {
				again = keeperRetry
			}
			if err.Error() != said { // once, however long it lasts
				said = err.Error()
				r.Logger.Error("keep app running", "app", app, "error", err)
			}
		}
		if again == 0 && r.dismiss(app, wake) {
			return
		}
		await(r.root, wake, again)
	}
}

// dismiss ends a keeper that nobody has woken meanwhile.
func (r *Runner) dismiss(app string, wake chan struct{}) bool {
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	if len(wake) > 0 {
		return false
	}
	delete(r.keepers.byApp, app)
	return true
}

// await returns when it is woken, when the time is over, or with ctx. A time of 0 is none.
func await(ctx context.Context, wake <-chan struct{}, limit time.Duration) {
	var due <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-due:
	}
}

// revivalPause returns how long to wait before a container is started again, 0 when it may be now, which is then counted.
// The first end is answered at once. One that ran for long enough has a clean record.
func (r *Runner) revivalPause(container string) time.Duration {
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	record := r.keepers.revived[container]
	if record.failures == 0 {
		r.keepers.revived[container] = revival{failures: 1, last: time.Now()}
		return 0
	}
	pause := min(firstRevivalPause<<min(record.failures-1, 10), lastRevivalPause)
	since := time.Since(record.last)
	if since < pause {
		return pause - since
	}
	failures := record.failures + 1
	if since > pause+lastRevivalPause {
		failures = 1
	}
	r.keepers.revived[container] = revival{failures: failures, last: time.Now()}
	return 0
}

// forgetRevivals gives a container that somebody starts on purpose a clean record.
func (r *Runner) forgetRevivals(container string) {
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	delete(r.keepers.revived, container)
}

// forgetAllRevivals gives every container a clean record: an engine that goes ends them all, and none of them is to blame.
func (r *Runner) forgetAllRevivals() {
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	clear(r.keepers.revived)
}

// giveUp has keepers leave an app alone that is being destroyed; one that is created later by the same name is another.
func (r *Runner) giveUp(app store.App) (takeBack func()) {
	defer r.lockContainers(app.Name)() // a keeper at work comes to its end
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	r.keepers.gone[app.Name] = app.CreatedAt
	return func() {
		r.keepers.mu.Lock()
		delete(r.keepers.gone, app.Name)
		r.keepers.mu.Unlock()
		r.attend(app.Name)
	}
}

func (r *Runner) givenUp(app store.App) bool {
	r.keepers.mu.Lock()
	defer r.keepers.mu.Unlock()
	created, gone := r.keepers.gone[app.Name]
	return gone && created.Equal(app.CreatedAt)
}

// liveAttempt returns what is live of an app; false when nothing is, also because the app is gone.
func (r *Runner) liveAttempt(ctx context.Context, name string) (*attempt, bool, error) {
	live, found, err := r.Store.Live(ctx, name)
	if err != nil || !found {
		return nil, false, err
	}
	d, err := r.Store.Deployment(ctx, live.Deployment)
	if err != nil {
		return nil, false, notFoundIsNil(err)
	}
	a, err := r.newAttempt(ctx, d, r.Logger)
	if err == nil {
		err = a.load(ctx)
	}
	if err != nil {
		return nil, false, notFoundIsNil(err)
	}
	a.serving = &live.Target
	return a, !r.givenUp(a.app), nil
}

func notFoundIsNil(err error) error {
	if store.CodeOf(err) == store.CodeNotFound {
		return nil
	}
	return err
}

// mayTouch reports whether what is live may be started or stopped now. A deployment at work has precedence as soon as it
// touches what is live; it leaves that alone while it builds, and with blue-green until the new version is live.
func (r *Runner) mayTouch(ctx context.Context, app string) (bool, error) {
	unfinished, err := r.Store.Unfinished(ctx, app)
	if err != nil || len(unfinished) == 0 || unfinished[0].StartedAt.IsZero() {
		return err == nil, err
	}
	d := unfinished[0]
	return d.Strategy == store.BlueGreen || d.Step == store.StepQueued || d.Step == store.StepLive, nil
}
