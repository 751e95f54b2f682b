package gitserver

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// bodyIdle is how long the body of a push may bring no byte. However slow it is otherwise, it is waited for.
const bodyIdle = time.Minute

// steadyBody reads a request's body, and gives up on a client that sends nothing.
type steadyBody struct {
	body    io.Reader
	control *http.ResponseController
	idle    time.Duration

	mu      sync.Mutex
	stopped bool
	silent  bool
}

func (b *steadyBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if !b.stopped {
		_ = b.control.SetReadDeadline(time.Now().Add(b.idle)) // what cannot have a deadline is not from outside
	}
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && !b.stopped && errors.Is(err, os.ErrDeadlineExceeded) {
		b.silent = true
		err = store.Problemf(store.CodeUsage, "the client sent nothing for %s", b.idle).WithHint("push again")
	}
	return n, err
}

// stop makes a read that waits fail, and all that follow.
func (b *steadyBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	_ = b.control.SetReadDeadline(time.Now())
}

// end takes the deadline off again: the server goes on to watch whether the client is there.
func (b *steadyBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped && !b.silent {
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// over reports whether nothing more can be read.
func (b *steadyBody) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped || b.silent
}
