package deploy

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestRollback(t *testing.T) {
	s := newServer(t)
	for n := 1; n <= 3; n++ {
		s.wantVerdict(s.push(appName, n).ID, store.Succeeded, "")
	}
	back, err := s.runner.Rollback(t.Context(), appName, 0)
	s.must(err)
	d := s.wantVerdict(back.ID, store.Succeeded, "")
	s.wantLive(appName, d.ID)
	if d.SHA != sha(2) || d.RollbackOf != 2 || s.branches.tip(appName) != sha(2) {
		t.Errorf("rolled back to %.7s of %d, the branch says %.7s", d.SHA, d.RollbackOf, s.branches.tip(appName))
	}
	again, err := s.runner.Rollback(t.Context(), appName, 1)
	s.must(err)
	s.wantVerdict(again.ID, store.Succeeded, "")
	if got := s.branches.tip(appName); got != sha(1) {
		t.Errorf("the branch says %.7s", got)
	}
	s.builder.mu.Lock()
	s.builder.gone = map[string]bool{image(2): true}
	s.builder.mu.Unlock()
	if _, err := s.runner.Rollback(t.Context(), appName, 2); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("going back to what is gone: %v", err)
	}
	s.wantLive(appName, again.ID)
}

func TestRollbackThatWaitsTakesTheBranchWithIt(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	builds := s.gateBuilds()
	d := s.push(appName, 2)
	builds.wait(t)
	back, err := s.runner.Rollback(t.Context(), appName, 1)
	s.must(err)
	close(builds.proceed)
	s.wantVerdict(d.ID, store.Succeeded, "")
	s.wantVerdict(back.ID, store.Succeeded, "")
	if got := s.branches.tip(appName); got != sha(1) {
		t.Errorf("%.7s is live and the branch says %.7s", sha(1), got)
	}
}

func TestRollbackIsRefused(t *testing.T) {
	s := newServer(t)
	for _, to := range []int64{0, 77} {
		if _, err := s.runner.Rollback(t.Context(), appName, to); store.CodeOf(err) != store.CodeConflict && store.CodeOf(err) != store.CodeNotFound {
			t.Errorf("rollback to %d: %v", to, err)
		}
	}
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if _, err := s.runner.Rollback(t.Context(), appName, 0); store.CodeOf(err) != store.CodeConflict {
		t.Errorf("rollback of the first version: %v", err)
	}
}

func TestReroute(t *testing.T) {
	s := newServer(t)
	s.must(s.runner.Reroute(t.Context(), appName)) // never live: nothing to do
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	rename := func(host string) {
		app, err := s.store.App(t.Context(), appName)
		s.must(err)
		app.Hosts = []string{host}
		_, err = s.store.UpdateApp(t.Context(), app)
		s.must(err)
		s.must(s.runner.Reroute(t.Context(), appName))
	}
	wantHost := func(host string, target int64) {
		t.Helper()
		if route, _, _ := s.router.look(appName); len(route.Hosts) != 1 || route.Hosts[0] != host || route.Target.Deployment != target {
			t.Errorf("route %+v, want %s → %d", route, host, target)
		}
	}
	rename("new.example.com")
	wantHost("new.example.com", 1)
	builds := s.gateBuilds()
	d := s.push(appName, 2)
	builds.wait(t)
	rename("newer.example.com") // the deployment began before and must not bring the old one back
	close(builds.proceed)
	s.wantVerdict(d.ID, store.Succeeded, "")
	wantHost("newer.example.com", d.ID)
}

// TestRerouteBetweenRoutedAndLive: the new target is in place and not live yet; it must not be taken away again.
func TestRerouteBetweenRoutedAndLive(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	s.setInject(func(point string) error {
		if point == "before advance branch #1" {
			return s.runner.Reroute(t.Context(), appName)
		}
		return nil
	})
	d := s.push(appName, 2)
	s.wantVerdict(d.ID, store.Succeeded, "")
	s.wantLive(appName, d.ID)
}

// What is on trial is not started again by the engine when it ends; what is live is.
func TestOnlyTheLiveVersionIsKeptRunning(t *testing.T) {
	s := newServer(t)
	trials := 0
	s.engine.After = func(op string) error {
		if name, starting := strings.CutPrefix(op, "start "); starting && trials == 0 {
			trials++
			if s.engine.KeptRunning(name) {
				t.Errorf("%s is kept running before its gate", name)
			}
		}
		return nil
	}
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if trials == 0 || !s.engine.KeptRunning(s.container(appName, 1)) {
		t.Error("the live version is not kept running")
	}
}

func TestDestroy(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	builds := s.gateBuilds()
	running := s.push(appName, 2)
	builds.wait(t)
	waiting := s.push(appName, 3)
	s.must(s.runner.Destroy(t.Context(), appName))
	s.wantVerdict(waiting.ID, store.Cancelled, "")
	s.wantVerdict(running.ID, store.Cancelled, "")
	if _, routed, _ := s.router.look(appName); routed || len(s.engine.Containers()) > 0 {
		t.Errorf("routed %t, containers %+v", routed, s.engine.Containers())
	}
	s.must(s.store.DestroyApp(t.Context(), appName))
}

func TestStartRemovesWhatNobodyNeeds(t *testing.T) {
	s := newServer(t)
	s.app("gone", `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	s.wantVerdict(s.push("gone", 1).ID, store.Succeeded, "")
	s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	s.engine.Foreign("database")
	s.must(s.runner.Close())
	s.must(s.store.DestroyApp(t.Context(), "gone"))
	s.must(s.engine.Stop(t.Context(), s.container(appName, 2), 0))
	s.boot()
	s.wantStates(map[string]bool{s.container(appName, 2): true})
	if !s.engine.KeptRunning(s.container(appName, 2)) {
		t.Error("what is live and was started again is not kept running")
	}
	if _, routed, _ := s.router.look("gone"); routed || !s.engine.ForeignRuns("database") {
		t.Errorf("routed %t, or a container of somebody else was stopped", routed)
	}
}
