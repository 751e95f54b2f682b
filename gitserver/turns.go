package gitserver

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

const (
	unpackedAtOnce = 2  // packs whose deltas are resolved at the same time; others wait for their turn
	pushesOfApp    = 8  // pushes and uploads of one app that are received at the same time; more are refused
	pushesAtOnce   = 64 // and of all apps
)

// intake says how a pack is to be taken in.
type intake struct {
	limits  Limits
	shallow []plumbing.Hash // commits whose parents the client itself does not have
	cut     boundary        // commits whose parents may be missing here
	waits   func()          // is called when the pack has to wait for its turn; may be nil
}

// takeTurnToUnpack waits until fewer than unpackedAtOnce packs are at work.
func (r *repository) takeTurnToUnpack(ctx context.Context, waits func()) (done func(), err error) {
	if r.unpacking == nil {
		return func() {}, nil
	}
	done = func() { <-r.unpacking }
	select {
	case r.unpacking <- struct{}{}:
		return done, nil
	default:
	}
	if waits != nil {
		waits()
	}
	select {
	case r.unpacking <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other packs: %w", context.Cause(ctx))
	}
}

// receiving counts the pushes and uploads that are being received.
type receiving struct {
	mu    sync.Mutex
	all   int
	byApp map[string]int
}

// enter counts one in, unless there are too many.
func (r *receiving) enter(app string) (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byApp[app] >= pushesOfApp {
		return nil, store.Problemf(store.CodeConflict, "%d pushes to %s are being received already", pushesOfApp, app).WithHint("push again when they are done")
	}
	if r.all >= pushesAtOnce {
		return nil, store.Problemf(store.CodeConflict, "%d pushes are being received already", pushesAtOnce).WithHint("push again when they are done")
	}
	if r.byApp == nil {
		r.byApp = map[string]int{}
	}
	r.all++
	r.byApp[app]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.byApp[app]--; r.byApp[app] == 0 {
			delete(r.byApp, app)
		}
	}, nil
}
