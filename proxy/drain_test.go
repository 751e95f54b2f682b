package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

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

func TestDrainWaitsForTheProcessBeforeUs(t *testing.T) {
	r := startRig(t)
	gone := make(chan struct{})
	r.p.router.predecessor = gone
	drain := r.drain(1, time.Minute)
	select {
	case got := <-drain:
		t.Errorf("drained while it lived: %+v", got)
	case <-time.After(20 * time.Millisecond):
	}
	close(gone)
	if got := <-drain; got.left != 0 || got.err != nil {
		t.Errorf("drain: %+v", got)
	}
}
