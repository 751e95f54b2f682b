package proxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// The addresses of two containers, as far as the proxy can see.
const webAddress, nosyAddress = "127.0.0.11", "127.0.0.12"

func internalSet(listen string) store.CallTable {
	return store.CallTable{Listen: listen, Callers: []store.Caller{
		{Address: netip.MustParseAddr(webAddress), App: "web", May: []string{"api", "docs"}},
		{Address: netip.MustParseAddr(nosyAddress), App: "nosy"},
	}}
}

// callFrom sends a request to the internal listener from an address.
func callFrom(t *testing.T, from, listener, host string, headers ...string) (status int, body string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listener+"/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host, request.GetBody = host, nil
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestCallsBetweenApps: only a container that is known gets through, only to the apps that it may call, and the callee
// learns who it is.
func TestCallsBetweenApps(t *testing.T) {
	r := startRig(t)
	var seen http.Header
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		_, _ = io.WriteString(w, r.Host)
	}))
	r.apply("api", 1, 1, address, "api.test")
	r.apply("shop", 1, 1, address, "shop.test", "shop.internal") // as an earlier server let it be
	listen := freeAddress(t)
	r.must(r.client.SetCallers(t.Context(), internalSet(listen)))
	r.p.handler.trust.Store(&trust{netip.MustParsePrefix("127.0.0.0/8")}) // does not count for containers
	for _, c := range []struct {
		name, from, host string
		status           int
		body             string
	}{
		{"allowed", webAddress, "api.internal", 200, "api.internal"},
		{"with port and case", webAddress, "API.Internal.:80", 200, "API.Internal.:80"},
		{"not deployed", webAddress, "docs.internal", 404, "no app here"},
		{"not allowed", webAddress, "shop.internal", 403, "web may not call shop"},
		{"a name below", webAddress, "x.api.internal", 403, "web may not call x.api"},
		{"a public host", webAddress, "api.test", 404, "only APP.internal"},
		{"no name", webAddress, ".internal", 403, "web may not call :"},
		{"the other side did not agree", nosyAddress, "api.internal", 403, "nosy may not call api"},
		{"not a container", "127.0.0.1", "api.internal", 403, "only containers"},
	} {
		status, body := callFrom(t, c.from, listen, c.host, "X-Shipgate-Caller", "shop", "X-Forwarded-For", "6.6.6.6")
		if status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
		if status == http.StatusOK && (seen.Get("X-Shipgate-Caller") != "web" || seen.Get("X-Forwarded-For") != webAddress) {
			t.Errorf("%s: the callee sees %v", c.name, seen)
		}
	}
	for _, host := range []string{"api.internal", "shop.internal", "Shop.Internal:80"} {
		if status, body := r.get(host, "/"); status != http.StatusNotFound {
			t.Errorf("public listener, %s: %d %s", host, status, body)
		}
	}
}

// TestCallsChangeAtOnceAndAreKept: the whole set counts from the answer on, also after a restart and in a successor.
func TestCallsChangeAtOnceAndAreKept(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, named("api"))
	client, _ := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	check := func(when string, want int, listen string) {
		t.Helper()
		if status, body := callFrom(t, webAddress, listen, "api.internal"); status != want {
			t.Errorf("%s: %d %s", when, status, body)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.Apply(t.Context(), store.Route{App: "api", Generation: 1, Target: store.Target{Deployment: 1, Address: address}}))
	listen := freeAddress(t)
	must(client.SetCallers(t.Context(), internalSet(listen)))
	check("at first", 200, listen)
	must(client.SetCallers(t.Context(), store.CallTable{}))
	check("taken back", 403, listen)
	must(client.SetCallers(t.Context(), internalSet("")))
	check("allowed again, at the same address", 200, listen)

	must(client.Upgrade(t.Context(), os.Args[0]))
	check("by a successor", 200, listen)
	must(client.Stop(t.Context()))
	if _, _, err := Ensure(t.Context(), quietOptions(dir, "127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	check("by a process that starts anew", 200, listen)
	moved := freeAddress(t)
	must(client.SetCallers(t.Context(), internalSet(moved)))
	check("at another address", 200, moved)
}

// TestCallsNeedAnAddress: one that is taken is refused with what to do, changes nothing, and keeps no proxy from starting.
func TestCallsNeedAnAddress(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	kept := snapshots{dir: dir}
	if err := kept.save(snapshot{Internal: internalSet(taken.Addr().String())}); err != nil {
		t.Fatal(err)
	}
	r := startRigIn(t, dir)
	err = r.client.SetCallers(t.Context(), internalSet(taken.Addr().String()))
	problem, known := store.AsProblem(err)
	if !known || !strings.Contains(problem.Hint, "--internal-port") {
		t.Errorf("the error is %v", err)
	}
	r.must(r.client.SetCallers(t.Context(), store.CallTable{}))
	if status, _ := r.get("a.test", "/"); status != http.StatusNotFound {
		t.Errorf("the public address answers %d", status)
	}
}

// TestCallsBesideThePublicAddress: the port may be the public one, on an address that is not there yet.
func TestCallsBesideThePublicAddress(t *testing.T) {
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(freeAddress(t))
	client, _ := startProxy(t, quietOptions(dir, ":"+port))
	for _, address := range []string{"198.51.100.7", "127.0.0.1"} {
		if err := client.SetCallers(t.Context(), internalSet(net.JoinHostPort(address, port))); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
	}
	if status, body := callFrom(t, nosyAddress, "127.0.0.1:"+port, "api.internal"); status != http.StatusForbidden {
		t.Errorf("internal: %d %s", status, body)
	}
	if status, body := callFrom(t, nosyAddress, "127.0.0.2:"+port, "api.internal"); status != http.StatusNotFound {
		t.Errorf("public: %d %s", status, body)
	}
	if _, err := os.Stat(filepath.Join(dir, "proxy.json")); err != nil {
		t.Error(err)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}
