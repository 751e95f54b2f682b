package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// A stopped app answers 503 at once, also while its requests would be held, until a route says otherwise.
func TestStoppedApp(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("app"))
	apply := func(generation int64, stopped bool) {
		t.Helper()
		err := r.client.Apply(t.Context(), store.Route{App: "a", Hosts: []string{"a.test"}, Generation: generation, Stopped: stopped,
			Target: store.Target{Deployment: 1, Address: address}})
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(1, true)
	wantStopped := func() {
		t.Helper()
		response, _ := r.do(r.request(http.MethodGet, "a.test", "/", nil))
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("answer %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
		}
	}
	wantStopped()
	r.hold(patient)
	wantStopped()
	if routes, err := r.client.Routes(t.Context()); err != nil || len(routes) != 1 || !routes[0].Stopped {
		t.Errorf("routes %+v, %v", routes, err)
	}
	apply(2, false)
	if status, body := r.get("a.test", "/"); status != 200 || !strings.Contains(body, "app") {
		t.Errorf("answer %d %q", status, body)
	}
}
