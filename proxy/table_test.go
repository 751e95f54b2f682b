package proxy

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func tableOf(hosts map[string][]string) *table {
	apps := map[string]*entry{}
	for app, names := range hosts {
		apps[app] = &entry{route: store.Route{App: app, Hosts: names}}
	}
	return newTable(apps)
}

func TestLookup(t *testing.T) {
	routing := tableOf(map[string][]string{
		"exact":    {"www.example.com", "example.com", "127.0.0.1", "[::1]"},
		"wildcard": {"*.example.com"},
		"deeper":   {"*.eu.example.com"},
	})
	for host, want := range map[string]string{
		"www.example.com":        "exact",
		"WWW.Example.COM:8080":   "exact",
		"example.com.":           "exact",
		"example.com.:80":        "exact",
		"127.0.0.1:80":           "exact",
		"[::1]:80":               "exact",
		"[::1]":                  "exact",
		"api.example.com":        "wildcard",
		"api.example.com:1":      "wildcard",
		"a.b.example.com":        "",
		"a.eu.example.com":       "deeper",
		"eu.example.com":         "wildcard",
		".example.com":           "",
		"*.example.com":          "",
		"*.eu.example.com":       "",
		"example.org":            "",
		"notexample.com":         "",
		"":                       "",
		".":                      "",
		":80":                    "",
		"www.example.com.evil.c": "",
	} {
		got := ""
		if found := routing.lookup(host); found != nil {
			got = found.route.App
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", host, got, want)
		}
	}
}

func TestRoutesThatAreRefused(t *testing.T) {
	r := startRig(t)
	r.apply("a", 5, 1, "127.0.0.1:1", "a.test", "*.a.test")
	good := store.Route{App: "a", Hosts: []string{"a.test"}, Generation: 6, Target: store.Target{Deployment: 2, Address: "127.0.0.1:2"}}
	tests := []struct {
		name   string
		change func(*store.Route)
		code   store.Code
	}{
		{"older", func(r *store.Route) { r.Generation = 4 }, store.CodeConflict},
		{"equal but different", func(r *store.Route) { r.Generation = 5 }, store.CodeConflict},
		{"host taken", func(r *store.Route) { r.App, r.Hosts = "b", []string{"b.test", "A.test"} }, store.CodeConflict},
		{"wildcard taken", func(r *store.Route) { r.App, r.Hosts = "b", []string{"*.a.test"} }, store.CodeConflict},
		{"no target", func(r *store.Route) { r.Target = store.Target{} }, store.CodeUsage},
		{"two targets", func(r *store.Route) { r.Target.Site = "/srv" }, store.CodeUsage},
		{"relative site", func(r *store.Route) { r.Target = store.Target{Site: "srv"} }, store.CodeUsage},
		{"no port", func(r *store.Route) { r.Target.Address = "127.0.0.1" }, store.CodeUsage},
		{"host with port", func(r *store.Route) { r.Hosts = []string{"a.test:80"} }, store.CodeUsage},
		{"wildcard inside", func(r *store.Route) { r.Hosts = []string{"a.*.test"} }, store.CodeUsage},
		{"empty host", func(r *store.Route) { r.Hosts = []string{""} }, store.CodeUsage},
		{"host of everything", func(r *store.Route) { r.Hosts = []string{"*"} }, store.CodeUsage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			route := good
			test.change(&route)
			err := r.client.Apply(t.Context(), route)
			if problem, ok := store.AsProblem(err); !ok || problem.Code != test.code {
				t.Errorf("error %v, want code %s", err, test.code)
			}
		})
	}
	routes, err := r.client.Routes(t.Context())
	if err != nil || len(routes) != 1 || routes[0].Generation != 5 || routes[0].Target.Deployment != 1 {
		t.Errorf("routes %+v, %v", routes, err)
	}
	r.apply("a", 5, 1, "127.0.0.1:1", "a.test", "*.a.test") // a repetition
	if err := r.client.Apply(t.Context(), good); err != nil {
		t.Errorf("a newer one: %v", err)
	}
}

func TestRemoveFreesTheHostAndTheGeneration(t *testing.T) {
	r := startRig(t)
	r.apply("a", 5, 1, "127.0.0.1:1", "a.test")
	for range 2 {
		if err := r.client.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if status, body := r.get("a.test", "/"); status != 404 || !strings.Contains(body, "no app here") {
		t.Errorf("answer %d %q", status, body)
	}
	r.apply("b", 1, 1, "127.0.0.1:1", "a.test")
	if err := r.client.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	r.apply("a", 1, 1, "127.0.0.1:1", "a.test")
}

// FuzzHost holds that a Host header finds an app only if it says a name the app has.
func FuzzHost(f *testing.F) {
	routing := tableOf(map[string][]string{"app": {"example.com", "*.example.com"}})
	for _, host := range []string{"example.com", "EXAMPLE.com:80", "a.example.com.", "*.example.com", "a.b.example.com", "[::1]:80", "", ":", "..", "a.example.com:80:90", "\x00.example.com"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		found := routing.lookup(host)
		name := canonicalHost(host)
		label, inside := strings.CutSuffix(name, ".example.com")
		want := name == "example.com" || inside && label != "" && !strings.Contains(label, ".") && !strings.HasPrefix(label, "*")
		if (found != nil) != want {
			t.Errorf("%q (%q): found %v", host, name, found != nil)
		}
		if validHost(name) && canonicalHost(name+":80") != name {
			t.Errorf("%q: a port changes it", name)
		}
	})
}
