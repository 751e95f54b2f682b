package deploy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// filedBranches have one file in every commit.
type filedBranches struct {
	*fakeBranches
	text string
}

func (b *filedBranches) File(context.Context, string, string, string) ([]byte, bool, error) {
	return []byte(b.text), b.text != "", nil
}

// fakeCommands remember what ran, as containers do.
type fakeCommands struct {
	mu   sync.Mutex
	code int
	ran  []string
	spec store.ContainerSpec
}

func (c *fakeCommands) Run(_ context.Context, spec store.ContainerSpec, log func(string)) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.ran, spec.Name) {
		c.ran = append(c.ran, spec.Name)
	}
	c.spec = spec
	log("migrating")
	return c.code, nil
}

func TestEarlierSites(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(site string, hours int) store.EarlierSite {
		return store.EarlierSite{Site: site, Until: now.Add(time.Duration(hours) * time.Hour)}
	}
	for name, test := range map[string]struct {
		live store.Target
		site string
		want []store.EarlierSite
	}{
		"the one that is replaced": {store.Target{Site: "/1"}, "/2", []store.EarlierSite{at("/1", 24)}},
		"those before it, too":     {store.Target{Site: "/2", Earlier: []store.EarlierSite{at("/1", 5)}}, "/3", []store.EarlierSite{at("/2", 24), at("/1", 5)}},
		"none that is out of time": {store.Target{Site: "/2", Earlier: []store.EarlierSite{at("/1", 0)}}, "/3", []store.EarlierSite{at("/2", 24)}},
		"not what is gone back to": {store.Target{Site: "/2", Earlier: []store.EarlierSite{at("/1", 5)}}, "/1", []store.EarlierSite{at("/2", 24)}},
		"each once":                {store.Target{Site: "/1", Earlier: []store.EarlierSite{at("/2", 5), at("/1", 9)}}, "/3", []store.EarlierSite{at("/1", 24), at("/2", 5)}},
		"five at the most": {store.Target{Site: "/6", Earlier: []store.EarlierSite{at("/5", 5), at("/4", 4), at("/3", 3), at("/2", 2), at("/1", 1)}}, "/7",
			[]store.EarlierSite{at("/6", 24), at("/5", 5), at("/4", 4), at("/3", 3), at("/2", 2)}},
		"no container": {store.Target{Address: "10.0.0.1:80"}, "/1", nil},
	} {
		got := earlierSites(test.live, test.site, now, 24*time.Hour)
		if !(store.Target{Earlier: got}).Equal(store.Target{Earlier: test.want}) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	before := store.Target{Site: "/2", Earlier: []store.EarlierSite{at("/1", 20)}}
	if got, want := earlierSites(before, "/3", now, 2*time.Hour), []store.EarlierSite{at("/2", 2), at("/1", 2)}; !(store.Target{Earlier: got}).Equal(store.Target{Earlier: want}) {
		t.Errorf("with a shorter time: %v, want %v", got, want)
	}
	if got := earlierSites(before, "/3", now, 0); len(got) > 0 {
		t.Errorf("with no time: %v", got)
	}
}

func TestReleaseCommand(t *testing.T) {
	for _, strategy := range []string{"blue-green", "recreate"} {
		t.Run(strategy, func(t *testing.T) {
			commands := &fakeCommands{}
			s := newServer(t, func(o *Options) { o.Commands = commands })
			s.configure(appName, `{"deploy_strategy":"`+strategy+`","healthcheck":{"path":"/healthz"},"release":"./migrate --all 'two words'"}`)
			first := s.push(appName, 1)
			s.wantVerdict(first.ID, store.Succeeded, "")
			if want := []string{"./migrate", "--all", "two words"}; !slices.Equal(commands.spec.Command, want) || commands.spec.Role != store.RoleCommand {
				t.Errorf("ran %q as %q", commands.spec.Command, commands.spec.Role)
			}
			said := strings.Join(s.lines(first.ID), "\n")
			if ran, started := strings.Index(said, "release migrating"), strings.Index(said, "start "); ran < 0 || started < ran {
				t.Errorf("the command did not run before the start:\n%s", said)
			}
			commands.code = 4
			s.wantVerdict(s.push(appName, 2).ID, store.Failed, "the release command exited with code 4")
			s.wantLive(appName, first.ID)
			commands.code = 0
			s.wantVerdict(s.push(appName, 3).ID, store.Succeeded, "")
			ran := len(commands.ran)
			back, err := s.runner.Rollback(t.Context(), appName, first.ID)
			s.must(err)
			s.wantVerdict(back.ID, store.Succeeded, "")
			if len(commands.ran) != ran {
				t.Errorf("going back ran the command: %v", commands.ran)
			}
		})
	}
}

func TestRepoFileDecidesAgain(t *testing.T) {
	var branches *filedBranches
	s := newServer(t, func(o *Options) {
		branches = &filedBranches{fakeBranches: o.Branches.(*fakeBranches), text: "strategy: recreate\n"}
		o.Branches = branches
	})
	d := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if d.Strategy != store.Recreate || !strings.Contains(strings.Join(s.lines(d.ID), "\n"), "plan shipgate.yaml decides: recreate") {
		t.Errorf("strategy %s:\n%s", d.Strategy, strings.Join(s.lines(d.ID), "\n"))
	}
	release, err := s.store.Release(t.Context(), d.Release)
	s.must(err)
	if !strings.Contains(string(release.Config), `"recreate"`) {
		t.Errorf("the release has the config %s", release.Config)
	}
	branches.text = "hosts: [a]\n"
	s.wantVerdict(s.push(appName, 2).ID, store.Failed, "")
	s.wantLive(appName, d.ID)
}

// wantStates waits until the containers are these, running or not.
func (s *server) wantStates(want map[string]bool) {
	s.t.Helper()
	var got map[string]bool
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = map[string]bool{}
		for _, container := range s.engine.Containers() {
			got[container.Name] = container.Running
		}
		same := len(got) == len(want)
		for name, running := range want {
			state, there := got[name]
			same = same && there && state == running
		}
		if same {
			return
		}
	}
	s.t.Errorf("containers run: %v, want %v", got, want)
}

func (s *server) configure(app, config string) {
	s.t.Helper()
	workload, err := s.store.App(s.t.Context(), app)
	s.must(err)
	workload.Config = []byte(config)
	_, err = s.store.UpdateApp(s.t.Context(), workload)
	s.must(err)
}
