package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// runtimeScenarios are those with something that runs and can end: each strategy and source, with what an end can meet.
func runtimeScenarios() []scenario {
	return slices.DeleteFunc(scenarios(), func(s scenario) bool {
		return s.site || s.holdsLost || s.stray || s.repoFile || s.version == "exits" || s.source == store.SourceImage
	})
}

// atEachPoint disturbs a deployment once at each of its points, and holds the end to the invariants: one verdict, what is
// live runs, and nothing else does.
func atEachPoint(t *testing.T, disturb func(s *schedule)) {
	for _, scenario := range runtimeScenarios() {
		scenario.hasty = true
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			for n, at := range l.newSchedule().disturbed(func(string) error { return nil }) {
				if !worth(at) || thinned(scenario, n) || strings.HasPrefix(at, "all done") {
					continue
				}
				s := l.newSchedule()
				s.free = true
				s.disturbed(func(point string) error {
					if point == at {
						disturb(s)
					}
					return nil
				})
				first := s.checkVerdict()
				s.live("")
				s.checkEnd()
				if second := s.checkVerdict(); second != first {
					s.fault("the verdict %s became %s", first, second)
				}
				count.add(t, s, at)
			}
		})
	}
}

// TestEngineGoneAndBack: every container ends between any two effects, and inside of each step.
func TestEngineGoneAndBack(t *testing.T) {
	atEachPoint(t, func(s *schedule) {
		s.world.engine.Lose()
		s.world.engine.Return()
	})
}

// TestLiveContainerEndsAtAnyTime: its process ends, and nobody but us starts it again.
func TestLiveContainerEndsAtAnyTime(t *testing.T) {
	atEachPoint(t, func(s *schedule) {
		live, _, err := s.store.Live(t.Context(), appName)
		s.must(err)
		s.world.engine.Exit(live.Container, 1)
	})
}

// TestLiveContainerIsRemovedAtAnyTime: docker rm -f by hand.
func TestLiveContainerIsRemovedAtAnyTime(t *testing.T) {
	atEachPoint(t, func(s *schedule) {
		live, _, err := s.store.Live(t.Context(), appName)
		s.must(err)
		s.world.engine.RemoveByHand(live.Container)
	})
}

// TestCrashesOfStopAndStart: a wish is stored, and whoever comes next makes it true.
func TestCrashesOfStopAndStart(t *testing.T) {
	for _, scenario := range runtimeScenarios() {
		if scenario.version != "healthy" || scenario.command != "" {
			continue
		}
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			settled := func() *schedule {
				s := l.newSchedule()
				s.live("")
				return s
			}
			for _, wish := range []string{"stop", "start"} {
				for _, at := range append(settled().wish(wish, ""), "") {
					s := settled()
					if wish == "start" {
						s.wish("stop", "")
					}
					s.wish(wish, at)
					s.live("")
					s.checkWish(wish == "stop")
					count.add(t, s, wish+" "+at)
				}
			}
		})
	}
}

// wish stores what is wanted and has a runner make it true, which dies at the point.
func (s *schedule) wish(wish, at string) (points []string) {
	if wish == "stop" {
		s.must(s.store.StopApp(s.t.Context(), appName))
	} else {
		s.must(s.store.StartApp(s.t.Context(), appName))
	}
	s.free = true
	points, _ = s.live(at)
	return points
}

func (s *schedule) checkWish(stopped bool) {
	live, _, err := s.store.Live(s.t.Context(), appName)
	s.must(err)
	route, routed, held := s.world.router.look(appName)
	if !routed || held || route.Stopped != stopped || !route.Target.Equal(live.Target) {
		s.fault("route %+v (%t, held %t), want stopped %t", route, routed, held, stopped)
	}
	for _, container := range s.world.engine.Containers() {
		if want := !stopped && (container.Name == live.Container || container.Role == store.RoleStack); container.Running != want {
			s.fault("%s runs: %t, want %t", container.Name, container.Running, want)
		}
	}
	if states, err := s.store.ContainerStates(s.t.Context(), appName); err != nil || len(states) == 0 || states[0].Up() == stopped {
		s.fault("states %+v, %v", states, err)
	}
}

// TestDeploymentsOfAStoppedApp: one that was asked for before the stop leaves the app stopped, one after starts it, and one
// that fails changes nothing.
func TestDeploymentsOfAStoppedApp(t *testing.T) {
	for _, scenario := range runtimeScenarios() {
		if !scenario.previous || scenario.command != "" {
			continue
		}
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			for _, before := range []bool{true, false} {
				s := l.newSchedule()
				s.free = true
				if before {
					s.must(s.store.StopApp(t.Context(), appName))
				} else {
					s.stopBefore()
				}
				s.live("")
				s.live("")
				verdict := s.checkVerdict()
				s.checkWish(before || verdict != store.Succeeded)
				count.add(t, s, "stopped")
			}
		})
	}
}

// stopBefore has the app stopped before the deployment under test was asked for.
func (s *schedule) stopBefore() {
	_, err := s.sql.Exec(`UPDATE apps SET stopped_after = ?, stopped_at = 1`, s.d.ID-1)
	s.must(err)
}

// untilState waits until the app's routed container is in the state.
func (s *server) untilState(app string, want store.RunState) store.ContainerState {
	s.t.Helper()
	changed, stop := s.store.Watch(store.RuntimeTopic)
	defer stop()
	deadline := time.After(time.Minute)
	for {
		states, err := s.store.ContainerStates(s.t.Context(), app)
		s.must(err)
		if len(states) > 0 && states[0].State == want {
			return states[0]
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("%s is never %s: %+v", app, want, states)
		}
	}
}

func TestLiveContainerIsStartedAgain(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	name := s.untilState(appName, store.RunRunning).Container
	for _, end := range []func(){
		func() { s.engine.Exit(name, 1) },
		func() { s.engine.RemoveByHand(name) },
		func() { s.engine.Lose(); s.untilState(appName, store.RunUnknown); s.engine.Return() },
	} {
		s.runner.forgetRevivals(name)
		end()
		s.wantStates(map[string]bool{name: true})
		s.untilState(appName, store.RunRunning)
		if !s.engine.KeptRunning(name) {
			t.Error("the engine is not told to keep it running")
		}
	}
}

func TestWhatKeepsEndingIsStartedLessOften(t *testing.T) {
	r := New(newWorld().options(openStore(t)))
	for n, want := range []time.Duration{0, firstRevivalPause, 2 * firstRevivalPause, 4 * firstRevivalPause} {
		pause := r.revivalPause("c")
		if pause > want || n > 0 && pause == 0 {
			t.Errorf("try %d is after %s, want %s", n, pause, want)
		}
		record := r.keepers.revived["c"]
		record.last = record.last.Add(-pause - time.Millisecond)
		r.keepers.revived["c"] = record
		if n > 0 {
			if left := r.revivalPause("c"); left != 0 {
				t.Errorf("try %d waits for another %s", n, left)
			}
		}
	}
	r.keepers.revived["c"] = revival{failures: 9, last: time.Now().Add(-time.Hour)}
	if r.revivalPause("c") != 0 || r.keepers.revived["c"].failures != 1 {
		t.Errorf("what ran for an hour is %+v", r.keepers.revived["c"])
	}
}

func TestStopAndStart(t *testing.T) {
	s := newServer(t)
	if err := s.runner.StopApp(t.Context(), appName); store.CodeOf(err) != store.CodeConflict {
		t.Errorf("stop of what was never live: %v", err)
	}
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	name := s.untilState(appName, store.RunRunning).Container
	s.must(s.runner.StopApp(t.Context(), appName))
	wantStopped := func() {
		t.Helper()
		s.wantStates(map[string]bool{name: false})
		if route, _, _ := s.router.look(appName); !route.Stopped {
			t.Error("the route is open")
		}
	}
	wantStopped()
	s.must(s.runner.Close())
	s.engine.Lose()
	s.engine.Return()
	s.boot()
	wantStopped()
	s.must(s.runner.StartApp(t.Context(), appName))
	s.wantStates(map[string]bool{name: true})
	if route, _, _ := s.router.look(appName); route.Stopped {
		t.Error("the route is closed")
	}
	s.must(s.runner.StopApp(t.Context(), appName))
	again := s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	s.wantLine(again.ID, "note the app is stopped; it starts again when this deployment is live")
	s.untilState(appName, store.RunRunning)
	if route, _, _ := s.router.look(appName); route.Stopped {
		t.Error("a push does not start the app again")
	}
}

// An engine that goes ends every container. That is no reason to wait before one is started again, however often it happens.
func TestLostEngineIsNotHeldAgainstContainers(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	name := s.untilState(appName, store.RunRunning).Container
	for range 3 {
		s.engine.Lose()
		s.untilState(appName, store.RunUnknown)
		s.runner.revivalPause(name) // as a start counts that was under way when the engine went
		s.engine.Return()
		s.untilState(appName, store.RunRunning)
	}
	s.runner.keepers.mu.Lock()
	defer s.runner.keepers.mu.Unlock()
	if failures := s.runner.keepers.revived[name].failures; failures > 1 {
		t.Errorf("%d failures are counted, want that of the last loss only", failures)
	}
}

func TestRestart(t *testing.T) {
	s := newServer(t)
	if _, err := s.runner.Restart(t.Context(), appName); store.CodeOf(err) != store.CodeConflict {
		t.Errorf("restart of what was never live: %v", err)
	}
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	d, err := s.runner.Restart(t.Context(), appName)
	s.must(err)
	d = s.wantVerdict(d.ID, store.Succeeded, "")
	s.wantLive(appName, d.ID)
	if d.Trigger != store.TriggerRestart || d.SHA != first.SHA || d.Release != first.Release || s.branches.tip(appName) != first.SHA {
		t.Errorf("restarted %+v after %+v", d, first)
	}
}

// A service of a stack that ended comes back with the stack; a job that is done does not.
func TestEndedServices(t *testing.T) {
	a := &attempt{}
	for _, test := range []struct {
		is   store.ContainerState
		want bool
	}{
		{store.ContainerState{State: store.RunRunning, Routed: true}, false},
		{store.ContainerState{State: store.RunRestarting, Routed: true}, false},
		{store.ContainerState{State: store.RunExited, Routed: true}, true},
		{store.ContainerState{State: store.RunMissing, Routed: true}, true},
		{store.ContainerState{State: store.RunExited}, false},
		{store.ContainerState{State: store.RunExited, ExitCode: 137}, true},
		{store.ContainerState{State: store.RunExited, Keep: true}, true},
		{store.ContainerState{State: store.RunMissing, Keep: true}, true},
		{store.ContainerState{State: store.RunMissing}, false},
		{store.ContainerState{State: store.RunUnknown, Routed: true}, false},
	} {
		if got := a.hasEnded(test.is); got != test.want {
			t.Errorf("%+v has ended: %t", test.is, got)
		}
	}
}

// Row 65: the router goes back to the old route while a deployment is at live, with the server or without it.
func TestLostRouteIsPutBack(t *testing.T) {
	for _, point := range []string{"do live #1", "before routes #1", "before drain #1"} {
		t.Run(point, func(t *testing.T) {
			s := newServer(t)
			s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
			old, _, _ := s.router.look(appName)
			lose := func() {
				s.router.mu.Lock()
				defer s.router.mu.Unlock()
				s.router.routes[appName] = old
			}
			s.setInject(func(at string) error {
				switch {
				case at == point && point == "do live #1":
					lose()
				case at == point:
					<-s.runner.root.Done() // and the server dies
				}
				return nil
			})
			d := s.push(appName, 2)
			if point != "do live #1" {
				s.until(d.ID, "live", func(d store.Deployment) bool { return d.Step == store.StepLive })
				s.must(s.runner.Close())
				s.setInject(nil)
				lose()
				s.boot()
			}
			s.wantVerdict(d.ID, store.Succeeded, "")
			s.wantLive(appName, d.ID)
		})
	}
}

// Row 54: a database that knows nothing takes nothing away.
func TestEmptyDatabaseRemovesNothing(t *testing.T) {
	s := newServer(t)
	name := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "").Container
	s.must(s.runner.Close())
	s.store = openStore(t)
	s.boot()
	s.wantStates(map[string]bool{name: true})
	if _, err := s.runner.Collect(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.wantStates(map[string]bool{name: true})
	if _, routed, _ := s.router.look(appName); !routed {
		t.Error("the route was removed")
	}
	s.app(appName, `{"deploy_strategy":"blue-green"}`)
	s.must(s.runner.Close())
	s.boot()
	if _, routed, _ := s.router.look(appName); !routed {
		t.Error("the route was removed because an app of this name has no deployment")
	}
}
