package proxy

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func routesNamed(app string) []store.Route {
	return []store.Route{{App: app, Hosts: []string{app + ".test"}, Generation: 1, Target: store.Target{Deployment: 1, Address: "127.0.0.1:1"}}}
}

func TestSnapshotLoad(t *testing.T) {
	tests := []struct {
		name   string
		damage func(dir string) error
		want   string // the app of the route that is found
		loud   bool
	}{
		{"whole", func(string) error { return nil }, "second", false},
		{"torn", func(dir string) error { return os.Truncate(filepath.Join(dir, "proxy.json"), 40) }, "first", true},
		{"empty", func(dir string) error { return os.Truncate(filepath.Join(dir, "proxy.json"), 0) }, "first", true},
		{"missing", func(dir string) error { return os.Remove(filepath.Join(dir, "proxy.json")) }, "first", true},
		{"from the future", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "proxy.json"), []byte(`{"version":9,"routes":[]}`), 0o600)
		}, "first", true},
		{"both torn", func(dir string) error {
			if err := os.Truncate(filepath.Join(dir, "proxy.json.prev"), 40); err != nil {
				return err
			}
			return os.Truncate(filepath.Join(dir, "proxy.json"), 40)
		}, "", true},
		{"write was interrupted", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "proxy.json.new"), []byte(`{"ver`), 0o600)
		}, "second", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			kept := snapshots{dir: t.TempDir()}
			for _, app := range []string{"first", "second"} {
				if err := kept.save(snapshot{Routes: routesNamed(app)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.damage(kept.dir); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			for range 2 { // the second time what was repaired is read
				last, err := kept.load(slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				routes := last.Routes
				got := ""
				if len(routes) == 1 {
					got = routes[0].App
				}
				if got != test.want {
					t.Errorf("found %q, want %q", got, test.want)
				}
			}
			if loud := strings.Contains(log.String(), "level=ERROR"); loud != test.loud {
				t.Errorf("log: %s", log.String())
			}
			if err := kept.save(snapshot{Routes: routesNamed("third")}); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(kept.file(), 1); err != nil {
				t.Fatal(err)
			}
			last, err := kept.load(slog.New(slog.DiscardHandler))
			if routes := last.Routes; err != nil || len(routes) > 1 || len(routes) == 1 && routes[0].App == "third" {
				t.Errorf("after another save: %v, %v", routes, err)
			} else if test.want != "" && (len(routes) != 1 || routes[0].App != test.want) {
				t.Errorf("after another save: %v, want %s", routes, test.want)
			}
		})
	}
}

// TestRestartFromSnapshot starts a second process on what a first one has left, with one copy torn.
func TestRestartFromSnapshot(t *testing.T) {
	dir := t.TempDir()
	_, one := serveBackend(t, named("one"))
	_, two := serveBackend(t, named("two"))
	tree := exampleTree(t)
	t.Run("first process", func(t *testing.T) {
		r := startRigIn(t, dir)
		r.apply("a", 1, 1, one, "a.test")
		r.apply("a", 2, 2, two, "a.test", "*.a.test")
		if err := r.client.Apply(t.Context(), store.Route{App: "s", Hosts: []string{"s.test"}, Generation: 1, Target: store.Target{Deployment: 3, Site: tree}}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("second process", func(t *testing.T) {
		r := startRigIn(t, dir)
		if status, body := r.get("x.a.test", "/"); status != 200 || body != "two" {
			t.Errorf("answer %d %q", status, body)
		}
		if status, body := r.get("s.test", "/"); status != 200 || body != "home" {
			t.Errorf("answer %d %q", status, body)
		}
		err := r.client.Apply(t.Context(), store.Route{App: "a", Hosts: []string{"a.test"}, Generation: 1, Target: store.Target{Deployment: 1, Address: one}})
		if store.CodeOf(err) != store.CodeConflict {
			t.Errorf("an older generation after a restart: %v", err)
		}
	})
	if err := os.Truncate(filepath.Join(dir, "proxy.json"), 100); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	t.Run("third process", func(t *testing.T) {
		r := startRigIn(t, dir)
		if status, body := r.get("a.test", "/"); status != 200 || body != "two" {
			t.Errorf("answer %d %q", status, body)
		}
	})
}

func TestApplyThatCannotBeWrittenChangesNothing(t *testing.T) {
	r := startRig(t)
	_, one := serveBackend(t, named("one"))
	r.apply("a", 1, 1, one, "a.test")
	if err := os.Mkdir(filepath.Join(r.dir, "proxy.json.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	route := store.Route{App: "a", Hosts: []string{"a.test"}, Generation: 2, Target: store.Target{Deployment: 2, Address: "127.0.0.1:1"}}
	if err := r.client.Apply(t.Context(), route); err == nil {
		t.Error("no error")
	}
	if status, body := r.get("a.test", "/"); status != 200 || body != "one" {
		t.Errorf("answer %d %q", status, body)
	}
	if err := os.Remove(filepath.Join(r.dir, "proxy.json.new")); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Apply(t.Context(), route); err != nil {
		t.Errorf("once it can be written: %v", err)
	}
}
