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

// gated answers after release is closed, and says when a request has come.
type gated struct {
	came    chan struct{}
	release chan struct{}
	ended   chan error // how the request's context ended
}

func newGated() *gated {
	return &gated{came: make(chan struct{}, 100), release: make(chan struct{}), ended: make(chan error, 100)}
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.came <- struct{}{}
	select {
	case <-g.release:
		_, _ = io.Copy(w, r.Body)
		_, _ = io.WriteString(w, "from the old one")
		g.ended <- nil
	case <-r.Context().Done():
		g.ended <- r.Context().Err()
	}
}

type drained struct {
	left int
	err  error
}

func (r *rig) drain(deployment int64, limit time.Duration) <-chan drained {
	result := make(chan drained, 1)
	go func() {
		left, err := r.client.Drain(context.Background(), "a", deployment, limit)
		result <- drained{left, err}
	}()
	return result
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

func TestRequestsUnderWayEndWhereTheyBegan(t *testing.T) {
	r := startRig(t)
	old := newGated()
	_, oldAddress := serveBackend(t, old)
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, oldAddress, "a.test")

	upload, body := io.Pipe()
	slow := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	uploading := r.inBackground(r.request(http.MethodPost, "a.test", "/", upload))
	for range 2 {
		<-old.came
	}
	r.apply("a", 2, 2, newAddress, "a.test")
	drain := r.drain(1, 20*time.Second)
	if status, body := r.get("a.test", "/"); status != 200 || body != "new" {
		t.Errorf("answer %d %q", status, body)
	}
	select {
	case result := <-drain:
		t.Fatalf("drained with requests under way: %+v", result)
	case <-time.After(20 * time.Millisecond):
	}
	close(old.release)
	_, _ = io.WriteString(body, "upload ")
	_ = body.Close()
	if got := <-slow; got.status != 200 || got.body != "from the old one" {
		t.Errorf("slow: %+v", got)
	}
	if got := <-uploading; got.status != 200 || got.body != "upload from the old one" {
		t.Errorf("upload: %+v", got)
	}
	if result := <-drain; result.left != 0 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
}

func TestDrainCutsAtTheLimit(t *testing.T) {
	r := startRig(t)
	old := newGated()
	_, oldAddress := serveBackend(t, old)
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, oldAddress, "a.test")
	waiting := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-old.came
	r.apply("a", 2, 2, newAddress, "a.test")
	if result := <-r.drain(1, 50*time.Millisecond); result.left != 1 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	if got := <-waiting; got.status != http.StatusGatewayTimeout || !strings.Contains(got.body, "replaced") {
		t.Errorf("answer %+v", got)
	}
	if err := <-old.ended; err == nil {
		t.Error("the backend did not learn of the cut")
	}
	if result := <-r.drain(1, time.Minute); result.left != 0 || result.err != nil {
		t.Errorf("once more: %+v", result)
	}
	if result := <-r.drain(77, time.Minute); result.left != 0 || result.err != nil {
		t.Errorf("unknown: %+v", result)
	}
}

// TestDrainCutsAClientThatDoesNotRead: its handler waits in a write that no context ends.
func TestDrainCutsAClientThatDoesNotRead(t *testing.T) {
	r := startRig(t)
	wrote := make(chan struct{}, 1)
	_, oldAddress := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
			select {
			case wrote <- struct{}{}:
			default:
			}
		}
	}))
	r.apply("a", 1, 1, oldAddress, "a.test")
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-wrote
	r.apply("a", 2, 2, "127.0.0.1:1", "a.test")
	if result := <-r.drain(1, 10*time.Millisecond); result.left != 1 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	if result := <-r.drain(1, 0); result.left != 0 || result.err != nil {
		t.Errorf("it is still there: %+v", result)
	}
}

func TestDrainDoesNotCutWhatServes(t *testing.T) {
	r := startRig(t)
	present := newGated()
	_, address := serveBackend(t, present)
	r.apply("a", 1, 1, address, "a.test")
	waiting := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-present.came
	if result := <-r.drain(1, 10*time.Millisecond); result.left != 1 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	close(present.release)
	if got := <-waiting; got.status != 200 {
		t.Errorf("answer %+v", got)
	}
}

func TestDrainEndsWithItsCaller(t *testing.T) {
	r := startRig(t)
	old := newGated()
	_, oldAddress := serveBackend(t, old)
	r.apply("a", 1, 1, oldAddress, "a.test")
	waiting := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-old.came
	r.apply("a", 2, 2, "127.0.0.1:1", "a.test")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.client.Drain(ctx, "a", 1, time.Minute); err == nil {
		t.Error("no error")
	}
	close(old.release)
	if got := <-waiting; got.status != 200 {
		t.Errorf("a drain that was given up cut a request: %+v", got)
	}
}

// TestTargetThatComesBack is what an undo does: the old target serves again, with its requests still under way.
func TestTargetThatComesBack(t *testing.T) {
	r := startRig(t)
	old := newGated()
	_, oldAddress := serveBackend(t, old)
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, oldAddress, "a.test")
	first := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-old.came
	r.apply("a", 2, 2, newAddress, "a.test")
	r.apply("a", 3, 1, oldAddress, "a.test")
	second := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-old.came
	if result := <-r.drain(2, time.Minute); result.left != 0 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	if result := <-r.drain(1, 0); result.left != 2 || result.err != nil {
		t.Errorf("both under way: %+v", result)
	}
	close(old.release)
	for _, answer := range []<-chan answered{first, second} {
		if got := <-answer; got.status != 200 {
			t.Errorf("answer %+v", got)
		}
	}
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
