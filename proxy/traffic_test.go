package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestSwapsUnderLoad switches fifty times under requests that cannot be repeated. Each old backend is closed the moment
// Drain returns. No request may fail, and none may reach what was drained.
func TestSwapsUnderLoad(t *testing.T) {
	r := startRig(t)
	old, address := serveBackend(t, named("0"))
	r.apply("a", 1, 1, address, "a.test")
	var sent, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 8 {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		load.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if err := post(transport, r.public); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	for swap := range int64(50) {
		next, address := serveBackend(t, named("next"))
		r.apply("a", swap+2, swap+2, address, "a.test")
		if left, err := r.client.Drain(t.Context(), "a", swap+1, 10*time.Second); left != 0 || err != nil {
			t.Fatalf("drain: %d, %v", left, err)
		}
		_ = old.Close()
		old = next
		pause(t.Context(), 20*time.Millisecond) // lets keep-alive connections to the new backend form
	}
	stop()
	load.Wait()
	t.Logf("%d requests", sent.Load())
	if failed.Load() > 0 || sent.Load() < 200 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
}

// TestNoRequestReachesAClosedTarget races requests with swaps, where a backend counts those that come after its drain.
func TestNoRequestReachesAClosedTarget(t *testing.T) {
	r := startRig(t)
	var late atomic.Int64
	backend := func() (address string, drained *atomic.Bool) {
		drained = new(atomic.Bool)
		_, address = serveBackend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if drained.Load() {
				late.Add(1)
			}
		}))
		return address, drained
	}
	address, drained := backend()
	r.apply("a", 1, 1, address, "a.test")
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				if response, err := r.http.Do(r.request(http.MethodGet, "a.test", "/", nil)); err == nil {
					_ = response.Body.Close()
				}
			}
		})
	}
	for swap := range int64(60) {
		next, nextDrained := backend()
		r.apply("a", swap+2, swap+2, next, "a.test")
		if _, err := r.client.Drain(t.Context(), "a", swap+1, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		drained.Store(true)
		drained = nextDrained
	}
	stop()
	load.Wait()
	if late.Load() > 0 {
		t.Errorf("%d requests reached a backend after its drain", late.Load())
	}
}

type answered struct {
	status int
	body   string
	err    error
}

func (r *rig) inBackground(request *http.Request) <-chan answered {
	result := make(chan answered, 1)
	go func() {
		response, err := r.http.Do(request)
		if err != nil {
			result <- answered{err: err}
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		result <- answered{response.StatusCode, string(body), err}
	}()
	return result
}

func TestClientThatGoesAwayIsSeenByTheBackend(t *testing.T) {
	r := startRig(t)
	backend := newGated()
	_, address := serveBackend(t, backend)
	r.apply("a", 1, 1, address, "a.test")
	ctx, cancel := context.WithCancel(t.Context())
	waiting := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil).WithContext(ctx))
	<-backend.came
	cancel()
	if got := <-waiting; got.err == nil {
		t.Errorf("answer %+v", got)
	}
	if err := <-backend.ended; err == nil {
		t.Error("the backend did not learn of it")
	}
}

func TestDialIsTriedAgain(t *testing.T) {
	r := startRig(t)
	r.p.handler.dialBudget = time.Minute
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	r.apply("a", 1, 1, unusedAddress(t), "a.test")
	body := strings.Repeat("body ", 50_000)
	waiting := r.inBackground(r.request(http.MethodPost, "a.test", "/", io.MultiReader(strings.NewReader(body))))
	target := r.p.router.table.Load().apps["a"].target
	eventually(t, "the request has been tried", func() bool { return target.count() == 1 })
	r.apply("a", 2, 2, address, "a.test")
	if got := <-waiting; got.status != 200 || got.body != body {
		t.Errorf("answer %d, %d bytes, %v", got.status, len(got.body), got.err)
	}
}

func TestDialIsGivenUp(t *testing.T) {
	r := startRig(t)
	r.p.handler.dialBudget = 30 * time.Millisecond
	r.apply("a", 1, 1, unusedAddress(t), "a.test")
	if status, body := r.get("a.test", "/"); status != http.StatusBadGateway || !strings.Contains(body, "does not accept connections") {
		t.Errorf("answer %d %q", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r.p.handler.dialBudget = time.Minute
	if _, err := r.http.Do(r.request(http.MethodGet, "a.test", "/", nil).WithContext(ctx)); err == nil {
		t.Error("no error for a client that went away")
	}
}

func TestBackendThatDropsTheRequest(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	r.apply("a", 1, 1, address, "a.test")
	if status, body := r.get("a.test", "/"); status != http.StatusBadGateway || !strings.Contains(body, "without an answer") {
		t.Errorf("answer %d %q", status, body)
	}
}

// unusedAddress is one that refuses connections.
func unusedAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestRequestBetweenTableAndTarget: a request that has read the table just before a change finds its target closed. It
// must wait for the change and go where that leads.
func TestRequestBetweenTableAndTarget(t *testing.T) {
	r := startRig(t)
	_, oldAddress := serveBackend(t, named("old"))
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, oldAddress, "a.test")
	old := r.p.router.table.Load().apps["a"].target
	old.close()
	caught := r.inBackground(r.request(http.MethodPost, "a.test", "/", strings.NewReader("body")))
	r.apply("a", 2, 2, newAddress, "a.test")
	if got := <-caught; got.status != 200 || got.body != "new" {
		t.Errorf("answer %+v", got)
	}
}

// TestWhoMayBeReached holds what a request that still knows the old table finds after each change.
func TestWhoMayBeReached(t *testing.T) {
	r := startRig(t)
	first, second := unusedAddress(t), unusedAddress(t)
	r.apply("a", 1, 1, first, "a.test")
	old := r.p.router.table.Load().apps["a"].target
	check := func(when string, want bool) {
		t.Helper()
		flight, admitted := old.acquire(nil, func(error) {})
		if admitted != want {
			t.Errorf("%s: admitted %v", when, admitted)
		}
		if admitted {
			flight.end()
		}
	}
	check("in place", true)
	r.hold(patient)
	check("held", false)
	if err := r.client.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	check("released", true)
	r.apply("a", 2, 2, second, "a.test")
	check("replaced", false)
	r.apply("a", 3, 3, second, "a.test")
	if err := r.client.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	check("removed", false)
}
