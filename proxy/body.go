package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// How long the client may send nothing while we read its body, and how long what nobody reads may take to arrive.
const (
	bodyIdle    = 30 * time.Second
	bodyDiscard = 10 * time.Second
)

// watchedBody is a request's body that does not wait for ever for its client, and knows when the client is at fault.
// Slow and steady is fine. Over HTTP/2 the client and an app that has begun to answer talk as they like; over HTTP/1 the
// server reads what is left of the body before it answers.
type watchedBody struct {
	io.ReadCloser
	ctx      context.Context
	deadline func(time.Time) error
	idle     time.Duration
	streams  bool // HTTP/2

	mu       sync.Mutex
	answered bool
	closed   bool
	whole    bool
	fault    error
	reading  bool
	over     bool       // the handler is about to return
	idleRead *sync.Cond // no read is under way
}

// watchBody puts a watch on the body of a request that has one. Streams that live as long as they like have none.
func watchBody(w http.ResponseWriter, r *http.Request, idle time.Duration) *watchedBody {
	if r.Body == nil || r.Body == http.NoBody || r.Header.Get("Upgrade") != "" || isGRPC(r.Header.Get("Content-Type")) {
		return nil
	}
	b := &watchedBody{
		ReadCloser: r.Body, ctx: r.Context(), deadline: http.NewResponseController(w).SetReadDeadline, idle: idle, streams: r.ProtoMajor > 1,
	}
	b.idleRead = sync.NewCond(&b.mu)
	r.Body = b
	return b
}

func (b *watchedBody) Read(buffer []byte) (int, error) {
	if !b.beginRead() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.expectWithin(b.idle)
	n, err := b.ReadCloser.Read(buffer)
	if err == nil || err == io.EOF { // else nobody is to wait for this client again
		b.expectWithin(0)
	}
	b.endRead(err)
	return n, err
}

func (b *watchedBody) beginRead() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = !b.over
	return b.reading
}

func (b *watchedBody) endRead(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == io.EOF {
		b.whole = true
	} else if err != nil && !b.closed && b.fault == nil {
		b.fault = err
	}
	b.reading = false
	b.idleRead.Broadcast()
}

// expectWithin sets the connection's deadline, or none for 0. That of a request that is being cut stays.
func (b *watchedBody) expectWithin(wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered || b.ctx.Err() != nil {
		return
	}
	var at time.Time
	if wait > 0 {
		at = time.Now().Add(wait)
	}
	_ = b.deadline(at) // a connection that has none is as it was
	if b.ctx.Err() != nil {
		_ = b.deadline(time.Now().Add(cutGrace))
	}
}

// Close gives what is left of the body a moment: the server reads some of it, to keep the connection.
func (b *watchedBody) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.hurry()
	return b.ReadCloser.Close()
}

// clientFault returns what the client did wrong, if it did.
func (b *watchedBody) clientFault() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault
}

// stopWatch notes that the app has begun to answer.
func (b *watchedBody) stopWatch() {
	if b == nil || !b.streams {
		return
	}
	b.expectWithin(0)
	b.mu.Lock()
	b.answered = true
	b.mu.Unlock()
}

// hurry bounds the wait for what is left of the body.
func (b *watchedBody) hurry() {
	b.mu.Lock()
	whole := b.whole
	b.mu.Unlock()
	if !whole {
		b.expectWithin(min(bodyDiscard, b.idle))
	}
}

// finish must be called before the handler returns: a read that goes on would take the deadline away from the server when
// that reads what is left of the body. Such a read gets the time that is left for the rest of the body, because a client
// whose app answered early is still sending, and must find its connection open.
func (b *watchedBody) finish() {
	if b == nil || b.streams {
		return
	}
	b.mu.Lock()
	b.over = true
	if b.reading {
		_ = b.deadline(time.Now().Add(min(bodyDiscard, b.idle)))
	}
	for b.reading {
		b.idleRead.Wait()
	}
	b.mu.Unlock()
	b.hurry()
}

// watchedWriter bounds the wait for the rest of the body that the server reads before it sends the header.
type watchedWriter struct {
	http.ResponseWriter
	body *watchedBody
}

func (w *watchedWriter) Write(data []byte) (int, error) {
	defer w.begin()()
	return w.ResponseWriter.Write(data)
}

// FlushError is what http.ResponseController looks for.
func (w *watchedWriter) FlushError() error {
	defer w.begin()()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// begin bounds what may read the body; the header is sent with any of the first writes.
func (w *watchedWriter) begin() (end func()) {
	w.body.mu.Lock()
	waits := !w.body.whole && w.body.fault == nil
	w.body.mu.Unlock()
	if !waits {
		return func() {}
	}
	w.body.hurry()
	return func() { w.body.expectWithin(0) }
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func timedOut(err error) bool {
	timeout, is := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return is && timeout.Timeout()
}
