package proxy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shipgate/shipgate/store"
)

// router keeps the route table and changes it so that no request is lost and none reaches a target that was replaced.
type router struct {
	logger    *slog.Logger
	snapshots snapshots
	shelf     *shelf
	table     atomic.Pointer[table]

	// predecessor is closed when the process we took the sockets over from has ended; until then it may have requests
	// under way on any target.
	predecessor <-chan struct{}

	changing sync.Mutex           // one change at a time; requests never take it
	moved    bool                 // another process has the table now, or will
	settings *Settings            // nil until they are known
	internal store.CallTable      // who may call whom
	draining map[string][]*target // by app: replaced, with requests still under way
}

func newRouter(dir string, logger *slog.Logger) *router {
	gone := make(chan struct{})
	close(gone)
	r := &router{logger: logger, snapshots: snapshots{dir: dir}, shelf: newShelf(), predecessor: gone, draining: map[string][]*target{}}
	r.table.Store(newTable(map[string]*entry{}))
	return r
}

// load takes the routes of the last snapshot. One whose target cannot be served is left out, loudly.
func (r *router) load() error {
	last, err := r.snapshots.load(r.logger)
	if err != nil {
		return err
	}
	r.settings, r.internal = last.Settings, last.Internal
	apps := map[string]*entry{}
	for _, route := range last.Routes {
		backend, err := newBackend(route, r.shelf, r.logger)
		if err != nil {
			r.logger.Error("route of the snapshot cannot be served", "app", route.App, "deployment", route.Target.Deployment, "error", err)
			continue
		}
		apps[route.App] = &entry{route: route, target: newTarget(route.Target, backend)}
	}
	r.table.Store(newTable(apps))
	return nil
}

// apply puts the route in place of the app's present one and ends a hold. The snapshot is on disk before a request follows.
func (r *router) apply(route store.Route) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.moved {
		return errMoved
	}
	old := r.table.Load()
	route, err := old.checkRoute(route)
	if err != nil {
		return err
	}
	present := old.apps[route.App]
	repeated, err := present.judge(route)
	if err != nil {
		return err
	}
	if repeated {
		r.unhold(present)
		return nil
	}
	next, err := r.targetFor(present, route)
	if err != nil {
		return err
	}
	changed := old.with(route.App, &entry{route: route, target: next})
	if err := r.save(changed); err != nil {
		return err
	}
	r.put(changed, route.App, next)
	return nil
}

// save writes the table to disk, with the settings.
func (r *router) save(changed *table) error {
	return r.snapshots.save(snapshot{Settings: r.settings, Internal: r.internal, Routes: changed.routes()})
}

// put makes the table the one in force. The order matters: a target is open before the table names it, and closed only
// after the table no longer does, so that a refused request finds something new to read.
func (r *router) put(changed *table, app string, next *target) {
	before := r.table.Load().apps[app]
	if next != nil {
		next.reopen()
		r.draining[app] = slices.DeleteFunc(r.draining[app], func(t *target) bool { return t == next })
	}
	r.table.Store(changed)
	if before != nil && before.target != next {
		r.draining[app] = append(r.draining[app], before.target)
		before.target.close()
	}
	if before != nil && before.hold != nil {
		before.hold.end()
	}
	r.forgetDrained(app)
}

// targetFor gives the target of a route: the present one, one that is still draining and comes back, or a new one.
func (r *router) targetFor(present *entry, route store.Route) (*target, error) {
	if present != nil && present.target.Target.Equal(route.Target) {
		return present.target, nil
	}
	for _, t := range r.draining[route.App] {
		if t.Target.Equal(route.Target) {
			return t, nil
		}
	}
	backend, err := newBackend(route, r.shelf, r.logger)
	if err != nil {
		return nil, err
	}
	return newTarget(route.Target, backend), nil
}

func (r *router) forgetDrained(app string) {
	left := slices.DeleteFunc(r.draining[app], func(t *target) bool { return t.count() == 0 })
	if len(left) == 0 {
		delete(r.draining, app)
		return
	}
	r.draining[app] = left
}

// remove takes the app's route away. A missing one is no error.
func (r *router) remove(app string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.moved {
		return errMoved
	}
	old := r.table.Load()
	if old.apps[app] == nil {
		return nil
	}
	changed := old.with(app, nil)
	if err := r.save(changed); err != nil {
		return err
	}
	r.put(changed, app, nil)
	return nil
}

// hold parks the app's new requests and waits for those under way, giving the number left at the drain's cap. The hold
// ends with apply, release or, should the server be gone, by itself: its limit after the drain.
func (r *router) hold(ctx context.Context, app string, wanted store.Hold) (int, error) {
	if wanted.Requests < 0 || wanted.Limit < 0 || wanted.Drain < 0 {
		return 0, store.Problemf(store.CodeUsage, "a hold has no number below zero")
	}
	held, err := r.startHold(app, wanted)
	if held == nil {
		return 0, err
	}
	bounded, cancel := context.WithTimeout(ctx, wanted.Drain)
	defer cancel()
	held.target.awaitEmpty(bounded)
	r.awaitPredecessor(bounded)
	held.hold.expireAfter(lifetime(wanted), func() { r.expire(held) })
	return held.target.count(), ctx.Err()
}

// startHold is what hold does at once. Repeating it keeps the hold that is there, with its parked requests.
func (r *router) startHold(app string, wanted store.Hold) (*entry, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.moved {
		return nil, errMoved
	}
	old := r.table.Load()
	present := old.apps[app]
	if present == nil {
		return nil, nil
	}
	held := present
	if present.hold == nil {
		held = &entry{route: present.route, target: present.target, hold: newHold(wanted)}
		r.table.Store(old.with(app, held))
		held.target.close()
	}
	held.hold.expireAfter(wanted.Drain+lifetime(wanted), func() { r.expire(held) })
	return held, nil
}

// lifetime returns when a hold ends by itself after its drain. One that parks nobody answers 503 for as long as others wait.
func lifetime(wanted store.Hold) time.Duration { return cmp.Or(wanted.Limit, store.DefaultHold) }

// expire ends a hold that nobody has ended.
func (r *router) expire(held *entry) {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.table.Load().apps[held.route.App] != held {
		return
	}
	r.logger.Warn("hold ran out; requests go to the present target again", "app", held.route.App, "deployment", held.target.Deployment)
	r.reopen(held, true)
}

// release lets parked requests go to the present target.
func (r *router) release(app string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if r.moved {
		return errMoved
	}
	if present := r.table.Load().apps[app]; present != nil {
		r.unhold(present)
	}
	return nil
}

func (r *router) unhold(present *entry) {
	if present.hold != nil || present.overdue {
		r.reopen(present, false)
	}
}

func (r *router) reopen(held *entry, overdue bool) {
	app := held.route.App
	r.put(r.table.Load().with(app, &entry{route: held.route, target: held.target, overdue: overdue}), app, held.target)
}

// drain waits until the deployment has no request under way. At the limit it cuts those left, unless the deployment is
// the one that serves, and gives their number.
func (r *router) drain(ctx context.Context, app string, deployment int64, limit time.Duration) (int, error) {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	left := 0
	for _, t := range r.targetsOf(app, deployment) {
		if t.awaitEmpty(bounded) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return left, fmt.Errorf("drain deployment %d: %w", deployment, err)
		}
		left += endFlights(ctx, t)
	}
	r.awaitPredecessor(bounded)
	r.changing.Lock()
	r.forgetDrained(app)
	r.changing.Unlock()
	return left, ctx.Err()
}

// endFlights cuts what is under way on a target that no longer serves, and waits until it is gone.
func endFlights(ctx context.Context, t *target) int {
	if t.inUse() {
		return t.count()
	}
	cut := t.cut()
	bounded, cancel := context.WithTimeout(ctx, 2*cutGrace)
	defer cancel()
	t.awaitEmpty(bounded)
	return cut
}

func (r *router) targetsOf(app string, deployment int64) []*target {
	r.changing.Lock()
	defer r.changing.Unlock()
	var found []*target
	if present := r.table.Load().apps[app]; present != nil && present.target.Deployment == deployment {
		found = append(found, present.target)
	}
	for _, t := range r.draining[app] {
		if t.Deployment == deployment {
			found = append(found, t)
		}
	}
	return found
}

func (r *router) awaitPredecessor(ctx context.Context) {
	select {
	case <-r.predecessor:
	case <-ctx.Done():
	}
}

// stopChanging refuses all further changes, after the one that is being made.
func (r *router) stopChanging() {
	r.changing.Lock()
	r.moved = true
	r.changing.Unlock()
}

// drainAll waits until no request is under way on any target, and cuts those that are left when ctx ends.
func (r *router) drainAll(ctx context.Context) int {
	cut := 0
	for _, t := range r.allTargets() {
		if !t.awaitEmpty(ctx) {
			cut += t.cut()
		}
	}
	return cut
}

func (r *router) allTargets() []*target {
	r.changing.Lock()
	defer r.changing.Unlock()
	var all []*target
	for _, e := range r.table.Load().apps {
		all = append(all, e.target)
	}
	for _, targets := range r.draining {
		all = append(all, targets...)
	}
	return all
}
