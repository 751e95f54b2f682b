package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// hold parks the requests of one app while its container is replaced.
type hold struct {
	requests int
	limit    time.Duration
	ended    chan struct{} // closed when the parked may go on

	mu     sync.Mutex
	parked int
	expiry *time.Timer
	done   bool
}

// The ways a parked request goes on.
type parkResult int

const (
	parkReleased parkResult = iota // look at the table again
	parkFull                       // too many wait already
	parkTooLong                    // it waited as long as it may
	parkGone                       // the client went away
)

func newHold(wanted store.Hold) *hold {
	return &hold{requests: wanted.Requests, limit: wanted.Limit, ended: make(chan struct{})}
}

// expireAfter sets when the hold ends by itself, should nobody be left to end it.
func (h *hold) expireAfter(d time.Duration, expire func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return
	}
	if h.expiry != nil {
		h.expiry.Stop()
	}
	h.expiry = time.AfterFunc(d, expire)
}

func (h *hold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return
	}
	h.done = true
	if h.expiry != nil {
		h.expiry.Stop()
	}
	close(h.ended)
}

// park waits for the end of the hold, within its bounds.
func (h *hold) park(ctx context.Context) parkResult {
	if !h.enter() {
		return parkFull
	}
	defer h.leave()
	timer := time.NewTimer(h.limit)
	defer timer.Stop()
	select {
	case <-h.ended:
		return parkReleased
	case <-timer.C:
		return parkTooLong
	case <-ctx.Done():
		return parkGone
	}
}

func (h *hold) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.parked >= h.requests && !h.done {
		return false
	}
	h.parked++
	return true
}

func (h *hold) leave() {
	h.mu.Lock()
	h.parked--
	h.mu.Unlock()
}

func (h *hold) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parked
}
