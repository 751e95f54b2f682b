package deploy

// The crash suite. A deployment is a list of effects on things that outlive us: containers, routes, branches, rows. A crash may
// come between any two of them, and what is left must be taken up by the next process so that nothing is lost.
//
// How it works: all that is outside the runner is a fake that keeps what survives in reality (world_test.go), and the store is a real
// SQLite file. Every call to the outside passes a point before and after its effect, and every step of a strategy passes
// one before and after its work. A first run records the points; then, for each of them, everything is staged anew, the
// runner is thrown away at that point by a panic, a new one takes over, and the invariants below are checked. Pairs do it again
// within each recovery. fault_test.go does the same with errors and with cancellations, in the same world, because crashes
// alone do not find a dead context or a verdict that is taken back.
//
// SHIPGATE_CRASH_PAIRS=all runs every pair, a number n every n-th; the default is a sample. With the race detector only a
// sample of all this runs: run it without, too.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func init() {
	for _, strategy := range [][]transition{blueGreen, recreate} {
		for i, t := range strategy {
			strategy[i].do = func(a *attempt, ctx context.Context) (store.Change, error) {
				w, watched := a.Builder.(*fakeBuilder)
				if watched {
					w.world.point("do " + string(t.from))
				}
				change, err := t.do(a, ctx)
				if watched && a.root.Err() == nil {
					w.world.point("did " + string(t.from))
				}
				return change, err
			}
		}
	}
}

// crash is what a runner dies of here.
type crash struct{ point string }

var errCrashed = errors.New("the process is dead")

// schedule is one deployment in its world, with all the lives of the runner that it takes.
type schedule struct {
	*laboratory
	world   *world
	d       store.Deployment
	before  store.Live // what was live at the beginning
	hadLive bool
	wrong   []string
	free    bool // the app is stopped or started, so that nothing holds at every moment

	mu       sync.Mutex
	verdicts map[int64]store.Verdict
}

func (l *laboratory) newSchedule() *schedule {
	s := &schedule{laboratory: l, verdicts: map[int64]store.Verdict{}}
	s.world, s.d = l.stage()
	var err error
	s.before, s.hadLive, err = l.store.Live(l.t.Context(), appName)
	l.must(err)
	return s
}

func (s *schedule) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wrong) < 5 {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

// live is one life of the runner: it boots as Start does and works until there is nothing left to do, or dies at the
// point. It gives the points that were passed.
func (s *schedule) live(at string) (points []string, crashed bool) {
	r := New(s.world.options(s.store))
	defer r.stop()
	var mu sync.Mutex
	dead := false
	s.world.setInject(func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		point = s.nameless(point)
		if !dead {
			points = append(points, point)
			if !s.free {
				s.checkBetween(point)
			}
		}
		if point != at && !dead {
			return nil
		}
		dead = true
		if isProbe(point) { // on a goroutine of its own, which cannot take the others with it
			r.stop()
			return errCrashed
		}
		panic(crash{point})
	})
	defer s.world.setInject(nil)
	defer func() {
		if failure := recover(); failure != nil {
			if _, ours := failure.(crash); !ours {
				panic(failure)
			}
		}
		mu.Lock()
		crashed = dead
		mu.Unlock()
	}()
	s.work(r)
	return points, false
}

var numbered = regexp.MustCompile(`(?:shipgate-[0-9a-f]+\.)?(hello\.|apply )(\d+)`)

// nameless makes a point the same in every schedule, whatever number its deployment has.
func (s *schedule) nameless(point string) string {
	return numbered.ReplaceAllStringFunc(point, func(found string) string {
		match := numbered.FindStringSubmatch(found)
		switch match[2] {
		case fmt.Sprint(s.d.ID):
			return match[1] + "new"
		case fmt.Sprint(s.back.ID):
			return match[1] + "back"
		case fmt.Sprint(s.before.Deployment):
			return match[1] + "old"
		}
		return match[1] + "stray"
	})
}

// work is what Start has a runner do, in one goroutine.
func (s *schedule) work(r *Runner) {
	watchdog := time.AfterFunc(20*time.Second, func() {
		s.fault("it hangs")
		r.stop()
	})
	defer watchdog.Stop()
	r.reconcile(r.root)
	r.drainQueue(r.root, appName)
	s.settle(r)
	s.world.point("all done")
}

// settle is what the app's keeper does, without its pauses.
func (s *schedule) settle(r *Runner) {
	for range 5 {
		again, err := r.settle(r.root, appName)
		if again == 0 && err == nil || r.root.Err() != nil {
			return
		}
		r.keepers.revived = map[string]revival{}
	}
}

// tally counts schedules and reports those that went wrong, without drowning the reader.
type tally struct{ run, failed int }

func (c *tally) add(t *testing.T, s *schedule, name string) {
	c.run++
	if len(s.wrong) == 0 {
		return
	}
	if c.failed++; c.failed <= 3 {
		t.Errorf("%s:\n\t%s", name, strings.Join(s.wrong, "\n\t"))
	}
}

func (c *tally) report(t *testing.T) {
	if c.failed > 0 {
		t.Errorf("%d of %d schedules fail", c.failed, c.run)
	}
	total.Lock()
	defer total.Unlock()
	total.run += c.run
	total.failed += c.failed
	t.Logf("%d schedules; %d of %d failed so far", c.run, total.failed, total.run)
}

var total struct {
	sync.Mutex
	tally
}

// worth says whether a crash at this point is its own case: of the many probes of a gate the first two are.
func worth(point string) bool {
	return !isProbe(point) || strings.HasSuffix(point, "#1") || strings.HasSuffix(point, "#2")
}

func isProbe(point string) bool { return strings.Contains(point, " probe ") }

// crashes runs one schedule with a crash at each of the points, one life after another.
func (l *laboratory) crashes(at ...string) (s *schedule, recovery []string) {
	s = l.newSchedule()
	for _, point := range at {
		if _, crashed := s.live(point); !crashed {
			if !slices.ContainsFunc(at, isProbe) { // how often it probes, and so what follows, time decides
				s.fault("%s was not reached", point)
			}
			break
		}
		if l.holdsLost {
			s.world.router.loseHolds()
		}
	}
	recovery, _ = s.live("")
	s.checkEnd()
	s.checkOutcome()
	return s, recovery
}

func TestCrashes(t *testing.T) {
	stride, err := strconv.Atoi(cmp.Or(os.Getenv("SHIPGATE_CRASH_PAIRS"), "41"))
	if err != nil {
		stride = 1
	}
	for _, scenario := range scenarios() {
		t.Run(scenario.String(), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, scenario)
			var count tally
			defer count.report(t)
			s, points := l.crashes()
			count.add(t, s, "no crash")
			pair := 0
			for n, first := range points {
				if !worth(first) || thinned(scenario, n) {
					continue
				}
				s, recovery := l.crashes(first)
				count.add(t, s, first)
				for _, second := range recovery {
					if pair++; worth(second) && pair%stride == 0 {
						s, _ := l.crashes(first, second)
						count.add(t, s, first+", then "+second)
					}
				}
			}
		})
	}
}
