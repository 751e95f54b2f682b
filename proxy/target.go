package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// errCut is the cause of a request's end when its target had to go before it was answered.
var errCut = errors.New("the version at work on this request was replaced")

// cutGrace is how long a cut request may take to get its error page out before its connection is given up.
const cutGrace = time.Second

// backend answers requests. An error means that nothing was sent to either side, so that another try is safe.
type backend interface {
	serve(w http.ResponseWriter, r *http.Request) error
	closeIdle()
}

// target counts the requests that are under way on one deployment. Once closed it refuses new ones.
type target struct {
	store.Target
	backend backend

	mu      sync.Mutex
	closed  bool
	flights map[*flight]struct{}
	empty   chan struct{} // made on demand; closed when the last flight has ended
}

// flight is one request under way on a target, until its hijacked connection ends, too.
type flight struct {
	http.ResponseWriter
	target *target
	cancel context.CancelCauseFunc
	socket net.Conn // set when a WebSocket took the connection over
}

func newTarget(wanted store.Target, backend backend) *target {
	return &target{Target: wanted, backend: backend, flights: map[*flight]struct{}{}}
}

// acquire admits a request, or refuses it when the target has been closed: whoever closed it has changed the table before.
func (t *target) acquire(w http.ResponseWriter, cancel context.CancelCauseFunc) (*flight, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false
	}
	f := &flight{ResponseWriter: w, target: t, cancel: cancel}
	t.flights[f] = struct{}{}
	return f, true
}

// end must be called before the handler returns, so that cut never touches a connection that has moved on.
func (f *flight) end() {
	t := f.target
	t.mu.Lock()
	delete(t.flights, f)
	last := len(t.flights) == 0
	if last && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
	idle := last && t.closed
	t.mu.Unlock()
	if idle {
		t.backend.closeIdle()
	}
}

// close refuses all further requests. Connections that wait for work are closed with the last request under way.
func (t *target) close() {
	t.mu.Lock()
	t.closed = true
	idle := len(t.flights) == 0
	t.mu.Unlock()
	if idle {
		t.backend.closeIdle()
	}
}

func (t *target) reopen() {
	t.mu.Lock()
	t.closed = false
	t.mu.Unlock()
}

// inUse says that new requests are admitted.
func (t *target) inUse() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.closed
}

func (t *target) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flights)
}

// emptied gives a channel that is closed when no request is under way.
func (t *target) emptied() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	if len(t.flights) == 0 {
		close(empty)
		t.empty = nil
	}
	return empty
}

// cut ends the requests under way and gives their number. They may still take cutGrace to be gone.
func (t *target) cut() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for f := range t.flights {
		f.cut()
	}
	return len(t.flights)
}

// awaitEmpty waits until no request is under way or ctx ends, and says which.
func (t *target) awaitEmpty(ctx context.Context) bool {
	select {
	case <-t.emptied():
		return true
	case <-ctx.Done():
		return t.count() == 0
	}
}

// goingAway is a WebSocket close frame with status 1001 (RFC 6455, sections 5.5.1 and 7.4.1).
var goingAway = []byte{0x88, 0x02, 0x03, 0xe9}

func (f *flight) cut() {
	deadline := time.Now().Add(cutGrace)
	if f.socket != nil {
		// Best effort: a client that reads gets the frame, one that does not must not hold us up.
		if f.socket.SetWriteDeadline(time.Now().Add(cutGrace/10)) == nil {
			_, _ = f.socket.Write(goingAway)
		}
		f.cancel(errCut)
		return
	}
	f.cancel(errCut)
	// A client that neither reads nor writes would keep the handler for ever; the context does not reach it there.
	controller := http.NewResponseController(f.ResponseWriter)
	_ = controller.SetWriteDeadline(deadline)
	_ = controller.SetReadDeadline(deadline)
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (f *flight) Unwrap() http.ResponseWriter { return f.ResponseWriter }
