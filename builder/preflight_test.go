package builder

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

func TestPreflightOnRealDisks(t *testing.T) {
	l := newEngineLab(t)
	l.stacksDir = t.TempDir()
	if err := l.Preflight(t.Context()); err != nil {
		t.Error(err)
	}
	if free, err := freeSpace(t.TempDir()); err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
}

// engineAt answers as an engine on this host that has its data in a directory.
func engineAt(t *testing.T, root string) *client.Client {
	t.Helper()
	return fakeEngine(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(system.Info{DockerRootDir: root})
	})
}

func TestPreflight(t *testing.T) {
	const mib = 1 << 20
	sites, stacks, engine := t.TempDir(), t.TempDir(), t.TempDir()
	broken := errors.New("the disk does not answer")
	for name, c := range map[string]struct {
		free      map[string]int64 // bytes; a disk that is not listed has plenty
		fails     error
		noStacks  bool
		noEngine  bool
		elsewhere bool // the engine is on another host
		want      string
	}{
		"plenty":                     {},
		"just enough":                {free: map[string]int64{sites: 512 * mib, stacks: 256 * mib, engine: 2048 * mib}},
		"sites":                      {free: map[string]int64{sites: 512*mib - 1}, want: "512 MiB free on the disk of " + filepath.Join(sites, "not/made/yet") + ", 512 MiB needed"},
		"stacks":                     {free: map[string]int64{stacks: 100 * mib}, want: "100 MiB free on the disk of " + stacks + ", 256 MiB needed"},
		"images":                     {free: map[string]int64{engine: 1288490188}, want: "1.2 GiB free on the disk of " + engine + ", 2 GiB needed"},
		"no stacks":                  {free: map[string]int64{"": 0, ".": 0}, noStacks: true},
		"no engine":                  {free: map[string]int64{engine: 0}, noEngine: true},
		"engine elsewhere":           {free: map[string]int64{engine: 0}, elsewhere: true},
		"a disk that cannot be read": {fails: broken},
		"a system that cannot say":   {fails: errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Limits{})
			l.sites.dir, l.stacksDir = filepath.Join(sites, "not/made/yet"), stacks
			l.docker = engineAt(t, engine)
			if c.noStacks {
				l.stacksDir = ""
			}
			if c.noEngine {
				l.docker = nil
			}
			if c.elsewhere {
				l.docker = engineAt(t, filepath.Join(engine, "not-here"))
			}
			l.freeSpace = func(dir string) (int64, error) {
				if free, listed := c.free[dir]; listed {
					return free, c.fails
				}
				return 1 << 40, c.fails
			}
			err := l.Preflight(t.Context())
			if c.want == "" && c.fails != broken {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if c.fails != nil {
				if !errors.Is(err, broken) {
					t.Error(err)
				}
				return
			}
			if p := problem(t, err, store.CodeErrored); p.Message != c.want || p.Hint != "shipgate gc" {
				t.Errorf("problem is %q, hint %q, want %q", p.Message, p.Hint, c.want)
			}
		})
	}
}

func TestExisting(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{dir: dir, filepath.Join(dir, "a/b"): dir, "/no-such-folder/a": "/", "no-such-folder": "."} {
		if got := existing(name); got != want {
			t.Errorf("existing(%q) is %q, want %q", name, got, want)
		}
	}
}
