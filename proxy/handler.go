package proxy

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// The budget in which a failed dial is tried again, and the pauses between the tries.
const (
	dialBudget     = time.Second
	firstDialPause = 5 * time.Millisecond
	lastDialPause  = 100 * time.Millisecond
)

// handler answers the public requests by the router's table.
type handler struct {
	router     *router
	dialBudget time.Duration
	bodyIdle   time.Duration
	trust      atomic.Pointer[trust]
}

func newHandler(router *router) *handler {
	h := &handler{router: router, dialBudget: dialBudget, bodyIdle: bodyIdle}
	h.trust.Store(&trust{})
	return h
}

// ServeHTTP answers a public request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{trust: *h.trust.Load()}
	x.trusted = x.trust.contains(remoteAddress(r))
	h.serve(w, r, x, func(t *table) *entry { return t.lookup(r.Host) })
}

// serve answers a request by the app that find gives; nil is none.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, x *exchange, find func(*table) *entry) {
	if x.body = watchBody(w, r, h.bodyIdle); x.body != nil && !x.body.streams {
		w = &watchedWriter{ResponseWriter: w, body: x.body}
	}
	defer x.body.finish()
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	h.answer(w, r, find)
}

// answer tries until the request has reached a target. The table is read anew each time: it may have changed because of
// what made the last try fail.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, find func(*table) *entry) {
	if r.Method == http.MethodConnect {
		page(w, r, http.StatusMethodNotAllowed, "this is no forward proxy")
		return
	}
	dial := dialing{pause: firstDialPause, deadline: time.Now().Add(h.dialBudget)}
	for {
		found := find(h.router.table.Load())
		if found == nil {
			page(w, r, http.StatusNotFound, "no app here")
			return
		}
		if found.route.Stopped {
			retryLater(w, r, "the app is stopped")
			return
		}
		if found.hold != nil {
			if !waitOut(w, r, found.hold) {
				return
			}
			continue
		}
		admitted, err := found.target.answer(w, r)
		if !admitted {
			continue
		}
		if err == nil || r.Context().Err() != nil {
			return
		}
		if found.overdue {
			retryLater(w, r, "the app restarts, and is not back yet")
			return
		}
		if !dial.again(r.Context()) {
			if backend, logs := found.target.backend.(interface{ refused(error) }); logs {
				backend.refused(err)
			}
			page(w, r, http.StatusBadGateway, "the app does not accept connections")
			return
		}
	}
}

// answer gives the request to the target, unless that has been closed.
func (t *target) answer(w http.ResponseWriter, r *http.Request) (admitted bool, err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	flight, admitted := t.acquire(w, cancel)
	if !admitted {
		return false, nil
	}
	defer flight.end()
	if isWebSocket(r.Header) {
		w = flight // learns of the connection when it is taken over
	}
	return true, t.backend.serve(w, r.WithContext(ctx))
}

// waitOut parks the request and says whether it may go on; if not, it has been answered.
func waitOut(w http.ResponseWriter, r *http.Request, hold *hold) bool {
	switch hold.park(r.Context()) {
	case parkReleased:
		return true
	case parkFull:
		retryLater(w, r, "the app restarts, and too many requests wait for it already")
	case parkTooLong:
		retryLater(w, r, "the app restarts, and is not back yet")
	case parkGone:
	}
	return false
}

// dialing is the patience of one request with a target that does not accept connections.
type dialing struct {
	pause    time.Duration
	deadline time.Time
}

// again waits for the next try, or says that there is none.
func (d *dialing) again(ctx context.Context) bool {
	if !time.Now().Before(d.deadline) {
		return false
	}
	timer := time.NewTimer(d.pause)
	defer timer.Stop()
	d.pause = min(2*d.pause, lastDialPause)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retryLater answers that the client should come back.
func retryLater(w http.ResponseWriter, r *http.Request, text string) {
	w.Header().Set("Retry-After", "5")
	page(w, r, http.StatusServiceUnavailable, text)
}

// page answers with a small plain text that says what is wrong.
func page(w http.ResponseWriter, r *http.Request, status int, text string) {
	body := strconv.Itoa(status) + " " + http.StatusText(status) + ": " + text + "\n"
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body)) // a client that has gone is nothing to report
	}
}
