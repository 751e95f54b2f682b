package proxy

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

var patient = store.Hold{Requests: 100, Limit: time.Minute, Drain: time.Minute}

func (r *rig) hold(wanted store.Hold) {
	r.t.Helper()
	if left, err := r.client.Hold(r.t.Context(), "a", wanted); left != 0 || err != nil {
		r.t.Fatalf("hold: %d, %v", left, err)
	}
}

// parked waits until so many requests wait for the end of the hold.
func (r *rig) parked(want int) {
	r.t.Helper()
	eventually(r.t, "requests are parked", func() bool {
		e := r.p.router.table.Load().apps["a"]
		return e.hold != nil && e.hold.waiting() == want
	})
}

func TestHoldLetsRequestsGoToTheNewTarget(t *testing.T) {
	r := startRig(t)
	oldServer, oldAddress := serveBackend(t, named("old"))
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, oldAddress, "a.test")
	if _, body := r.get("a.test", "/"); body != "old" {
		t.Fatalf("answer %q", body)
	}
	r.hold(patient)
	_ = oldServer.Close()
	var waiting []<-chan answered
	for range 5 {
		waiting = append(waiting, r.inBackground(r.request(http.MethodPost, "a.test", "/", strings.NewReader("body"))))
	}
	r.parked(5)
	r.hold(patient) // a repetition keeps them
	r.parked(5)
	r.apply("a", 2, 2, newAddress, "a.test")
	for _, answer := range waiting {
		if got := <-answer; got.status != 200 || got.body != "new" {
			t.Errorf("answer %+v", got)
		}
	}
}

func TestReleaseLetsRequestsGoToThePresentTarget(t *testing.T) {
	r := startRig(t)
	server, address := serveBackend(t, named("old"))
	r.apply("a", 1, 1, address, "a.test")
	_, _ = r.get("a.test", "/") // leaves an idle connection, which must not be used again
	r.hold(patient)
	waiting := r.inBackground(r.request(http.MethodPost, "a.test", "/", strings.NewReader("body")))
	r.parked(1)
	_ = server.Close()
	restartBackend(t, address, named("old again"))
	if err := r.client.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := <-waiting; got.status != 200 || got.body != "old again" {
		t.Errorf("answer %+v", got)
	}
	if err := r.client.Release(t.Context(), "a"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestHoldWaitsForRequestsUnderWay(t *testing.T) {
	r := startRig(t)
	old := newGated()
	_, address := serveBackend(t, old)
	r.apply("a", 1, 1, address, "a.test")
	waiting := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	<-old.came
	short := patient
	short.Drain = 20 * time.Millisecond
	if left, err := r.client.Hold(t.Context(), "a", short); left != 1 || err != nil {
		t.Errorf("hold: %d, %v", left, err)
	}
	parked := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	r.parked(1)
	drained := make(chan error, 1)
	go func() {
		_, err := r.client.Hold(context.Background(), "a", patient)
		drained <- err
	}()
	close(old.release)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := <-waiting; got.status != 200 { // left is not cut
		t.Errorf("answer %+v", got)
	}
	if err := r.client.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := <-parked; got.status != 404 {
		t.Errorf("parked when the app went: %+v", got)
	}
}

func TestHoldIsBounded(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	r.hold(store.Hold{Requests: 2, Limit: time.Minute, Drain: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	first := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil).WithContext(ctx))
	second := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	r.parked(2)
	response, body := r.do(r.request(http.MethodGet, "a.test", "/", nil))
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || !strings.Contains(body, "too many") {
		t.Errorf("one too many: %d %v %q", response.StatusCode, response.Header, body)
	}
	cancel() // a client that goes away makes room
	<-first
	r.parked(1)
	third := r.inBackground(r.request(http.MethodGet, "a.test", "/", nil))
	r.parked(2)
	if err := r.client.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, answer := range []<-chan answered{second, third} {
		if got := <-answer; got.status != 200 || got.body != "one" {
			t.Errorf("answer %+v", got)
		}
	}
}

func TestRequestWaitsNoLongerThanTheLimit(t *testing.T) {
	waiting := newHold(store.Hold{Requests: 1, Limit: 10 * time.Millisecond})
	if got := waiting.park(t.Context()); got != parkTooLong {
		t.Errorf("parked: %v", got)
	}
	waiting.end()
	waiting.end()
	if got := waiting.park(t.Context()); got != parkReleased {
		t.Errorf("parked after the end: %v", got)
	}
}

// TestHoldEndsByItself: whoever asked for it may have died.
func TestHoldEndsByItself(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	r.hold(store.Hold{Requests: 10, Limit: 30 * time.Millisecond, Drain: time.Minute})
	eventually(t, "the hold ends", func() bool { return r.p.router.table.Load().apps["a"].hold == nil })
	if status, body := r.get("a.test", "/"); status != 200 || body != "one" {
		t.Errorf("answer %d %q", status, body)
	}
}

// A new version that takes longer than the hold may: what comes then is told to come back, until somebody says what serves.
func TestHoldThatRunsOutWhileTheAppIsStopped(t *testing.T) {
	for name, end := range map[string]func(r *rig, address string) error{
		"a new version": func(r *rig, address string) error { r.apply("a", 2, 2, address, "a.test"); return nil },
		"the old one":   func(r *rig, _ string) error { return r.client.Release(r.t.Context(), "a") },
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			stopped := unusedAddress(t)
			r.apply("a", 1, 1, stopped, "a.test")
			r.hold(store.Hold{Requests: 10, Limit: 30 * time.Millisecond, Drain: time.Minute})
			parked := r.inBackground(r.request(http.MethodPost, "a.test", "/", strings.NewReader("x")))
			if got := <-parked; got.status != 503 || !strings.Contains(got.body, "not back yet") {
				t.Errorf("a parked request: %+v", got)
			}
			eventually(t, "the hold ends", func() bool { return r.p.router.table.Load().apps["a"].hold == nil })
			response, body := r.do(r.request(http.MethodGet, "a.test", "/", nil))
			if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || !strings.Contains(body, "not back yet") {
				t.Errorf("beyond the window: %d %v %q", response.StatusCode, response.Header, body)
			}
			_, address := serveBackend(t, named("new"))
			if err := end(r, address); err != nil {
				t.Fatal(err)
			}
			want := map[string]int{"a new version": 200, "the old one": 502}[name]
			if status, body := r.get("a.test", "/"); status != want {
				t.Errorf("after the end: %d %q", status, body)
			}
		})
	}
}

func TestHoldOfAnAppWithoutRoute(t *testing.T) {
	r := startRig(t)
	r.hold(patient)
	if err := r.client.Release(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := r.client.Hold(t.Context(), "a", store.Hold{Requests: 1, Limit: -1}); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("a hold with a negative limit: %v", err)
	}
}

func TestHoldForbidsAnUpgrade(t *testing.T) {
	r := startRig(t)
	r.apply("a", 1, 1, "127.0.0.1:1", "a.test")
	r.hold(patient)
	if err := r.client.Upgrade(t.Context(), "/bin/false"); store.CodeOf(err) != store.CodeConflict {
		t.Errorf("error %v", err)
	}
}

// With no time to wait nobody is parked, and nobody is sent to the target that is about to stop.
func TestHoldWithoutTimeAnswersAtOnce(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("old"))
	r.apply("a", 1, 1, address, "a.test")
	r.hold(store.Hold{Requests: 100})
	for range 3 {
		if got := <-r.inBackground(r.request(http.MethodGet, "a.test", "/", nil)); got.status != http.StatusServiceUnavailable {
			t.Errorf("answer %+v", got)
		}
	}
}
