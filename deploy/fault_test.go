package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// impatient is for worlds in which what does not work at once never will.
var impatient = Patience{
	Fetch: 300 * time.Millisecond, Build: 10 * time.Second, Engine: 150 * time.Millisecond, Stack: 150 * time.Millisecond, Route: 150 * time.Millisecond,
	Undo: 300 * time.Millisecond, Reap: 150 * time.Millisecond,
}

var errFault = errors.New("the other side does not answer")

// disturbed is one life in which something happens at points, and nobody dies.
func (s *schedule) disturbed(inject func(point string) error) (points []string) {
	r := New(s.world.options(s.store))
	defer r.Close()
	s.world.setInject(func(point string) error {
		s.mu.Lock()
		point = s.nameless(point)
		points = append(points, point)
		s.mu.Unlock()
		return inject(point)
	})
	defer s.world.setInject(nil)
	s.work(r)
	return points
}

// outside says whether a point belongs to a call that leaves the process, and so can fail.
func outside(point string) bool {
	return worth(point) && !strings.HasPrefix(point, "do ") && !strings.HasPrefix(point, "did ") && !strings.HasPrefix(point, "all done")
}

// verb is the call that a point belongs to, such as "start hello.new" of "before start hello.new #1".
func verb(point string) string {
	_, call, _ := strings.Cut(point, " ")
	call, _, _ = strings.Cut(call, " #")
	return call
}

// checkVerdict: whatever happened, the verdict says succeeded if and only if the deployment is live.
func (s *schedule) checkVerdict() store.Verdict {
	seen := s.look(s.d.ID, 0)
	if seen.verdict == "" || (seen.verdict == store.Succeeded) != (seen.live == s.d.ID) {
		s.fault("the verdict is %q and %d is live", seen.verdict, seen.live)
	}
	if seen.live == s.d.ID && !s.goesLive() {
		s.fault("live and never healthy")
	}
	s.checkOld()
	return seen.verdict
}

// TestFaults fails every call to the outside once: before it had its effect, and after it, when only the answer is lost.
// Everything is in order at the end, and a second process finds nothing to do.
func TestFaults(t *testing.T) {
	for _, scenario := range scenarios() {
		if scenario.holdsLost {
			continue
		}
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			for n, at := range l.newSchedule().disturbed(func(string) error { return nil }) {
				if !outside(at) || thinned(scenario, n) {
					continue
				}
				s := l.newSchedule()
				s.disturbed(func(point string) error {
					if point == at {
						return errFault
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

// TestLastingFaults breaks one verb from some moment on. Every deployment gets its verdict all the same, and when the other side is
// back, the next process puts everything in order.
func TestLastingFaults(t *testing.T) {
	for _, scenario := range scenarios() {
		if scenario.holdsLost || scenario.stray || scenario.version == "exits" {
			continue
		}
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			broken := map[string]bool{}
			for n, from := range l.newSchedule().disturbed(func(string) error { return nil }) {
				if !outside(from) || thinned(scenario, n) || broken[verb(from)] || verb(from) == "probe" || strings.HasPrefix(from, "within") {
					continue
				}
				broken[verb(from)] = true
				s := l.newSchedule()
				s.world.patience = impatient
				down := false
				s.disturbed(func(point string) error {
					s.mu.Lock()
					defer s.mu.Unlock()
					if down = down || point == from; down && verb(point) == verb(from) {
						return errFault
					}
					return nil
				})
				first := s.checkVerdict()
				s.world.patience = Patience{}
				s.live("")
				if verb(from) != "advance branch" { // the branch stays behind until the next push; the history says so
					s.checkEnd()
				}
				if second := s.checkVerdict(); second != first {
					s.fault("the verdict %s became %s", first, second)
				}
				count.add(t, s, from)
			}
		})
	}
}

// TestCancellations asks for a stop at every point: it is honoured, or refused as too late, and never half of each.
func TestCancellations(t *testing.T) {
	for _, scenario := range scenarios() {
		if scenario.holdsLost || scenario.version == "exits" {
			continue
		}
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			for n, at := range l.newSchedule().disturbed(func(string) error { return nil }) {
				if !worth(at) || thinned(scenario, n) {
					continue
				}
				s := l.newSchedule()
				var asked store.Step
				var refused error
				s.disturbed(func(point string) error {
					if point != at {
						return nil
					}
					var d store.Deployment
					if d, refused = l.store.AskCancel(t.Context(), s.d.ID); refused == nil {
						asked = d.Step
						time.Sleep(time.Millisecond) // the runner's context ends at about now; any moment will do
					}
					return nil
				})
				verdict := s.checkVerdict()
				if asked.CanCancel() && verdict != store.Cancelled && (scenario.goesLive() || verdict == store.Succeeded) {
					s.fault("cancelled at %s and %s", asked, verdict) // what failed by itself at that moment may say so
				}
				if refused != nil && verdict == store.Cancelled {
					s.fault("refused and cancelled: %s", refused)
				}
				s.checkEnd()
				count.add(t, s, at)
			}
		})
	}
}

// TestRouterThatTakesARouteAndIsGone: nobody can say where requests go, so what they may go to is left running.
func TestRouterThatTakesARouteAndIsGone(t *testing.T) {
	for _, previous := range []bool{true, false} {
		l := newLaboratory(t, scenario{strategy: store.BlueGreen, version: "healthy", previous: previous})
		s := l.newSchedule()
		s.world.patience = impatient
		gone := false
		s.disturbed(func(point string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			gone = gone || point == "after apply new #1"
			if call := verb(point); gone && (strings.HasPrefix(call, "apply") || call == "routes" || call == "release" || call == "remove route") {
				return errFault
			}
			return nil
		})
		if verdict := s.checkVerdict(); verdict != store.Errored {
			s.fault("verdict %s", verdict)
		}
		route, _, _ := s.world.router.look(appName)
		if !slices.ContainsFunc(s.world.engine.Containers(), func(c store.Container) bool {
			return c.Deployment == route.Target.Deployment && c.Running
		}) {
			s.fault("requests go to %d, which does not run", route.Target.Deployment)
		}
		s.live("")
		s.checkEnd()
		var count tally
		count.add(t, s, "router gone")
	}
}
