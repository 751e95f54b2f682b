package deploy

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// portPool is an engine whose bridge this host cannot reach.
type portPool struct{}

func (portPool) Pool(context.Context) (store.AddressPool, error) {
	return store.AddressPool{FirstPort: 20000, LastPort: 20010}, nil
}

const callsAPI = `{"healthcheck":{"path":"/healthz"},"calls":["api"]}`

// TestRouterKnowsACallerBeforeItStarts: the container finds the names, and the router knows its address.
func TestRouterKnowsACallerBeforeItStarts(t *testing.T) {
	s := newServer(t)
	s.appOf(store.SourceDockerfile, "api", `{"allow_from":["other"]}`)
	s.configure(appName, callsAPI)
	d := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if spec, _ := s.engine.Spec(d.Container); strings.Join(spec.Calls, " ") != "api" {
		t.Errorf("the container calls %q", spec.Calls)
	}
	if said := strings.Join(s.lines(d.ID), "\n"); !strings.Contains(said, "note api does not allow calls from hello yet: shipgate app update api --allow-from other,hello") {
		t.Errorf("said:\n%s", said)
	}
	address := netip.MustParseAddrPort(d.Address).Addr()
	want := func(may ...string) {
		t.Helper()
		got := s.router.internal
		if got.Listen != "10.214.0.1:80" || len(got.Callers) != 1 || got.Callers[0].Address != address || strings.Join(got.Callers[0].May, " ") != strings.Join(may, " ") {
			t.Errorf("the router knows %+v", got)
		}
	}
	want()
	api, err := s.store.App(t.Context(), "api")
	s.must(err)
	api.Config = []byte(`{"allow_from":["hello"]}`)
	_, err = s.store.UpdateApp(t.Context(), api)
	s.must(err)
	s.must(s.runner.SetCallers(t.Context()))
	want("api")
}

// TestAddressOfACallerIsNotInherited: what starts at an address that was a caller's is none.
func TestAddressOfACallerIsNotInherited(t *testing.T) {
	s := newServer(t)
	s.configure(appName, callsAPI)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if callers := s.router.internal.Callers; len(callers) != 1 {
		t.Fatalf("the router knows %+v", callers)
	}
	s.configure(appName, `{"healthcheck":{"path":"/healthz"},"calls":null}`)
	s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	s.wantVerdict(s.push(appName, 3).ID, store.Succeeded, "")
	if callers := s.router.internal.Callers; len(callers) != 0 {
		t.Errorf("the router still knows %+v", callers)
	}
}

// TestCallsNeedTheBridge: where containers are told apart by ports only, nobody could say who calls.
func TestCallsNeedTheBridge(t *testing.T) {
	s := newServer(t, func(o *Options) { o.Addresses = portPool{} })
	s.configure(appName, callsAPI)
	d := s.wantVerdict(s.push(appName, 1).ID, store.Failed, "need the engine's bridge")
	if d.Release != 0 {
		t.Error("it was built first")
	}
}
