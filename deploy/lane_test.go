package deploy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

func TestNewerPushSupersedesQueuedOnes(t *testing.T) {
	s := newServer(t)
	builds := s.gateBuilds()
	running := s.push(appName, 1)
	builds.wait(t)
	waiting := s.push(appName, 2)
	newest := s.push(appName, 3)
	s.wantVerdict(waiting.ID, store.Superseded, "superseded by deployment 3")
	s.wantLine(newest.ID, "wait behind deployment 1")
	close(builds.proceed)
	s.wantVerdict(running.ID, store.Succeeded, "")
	s.wantVerdict(newest.ID, store.Succeeded, "")
	s.wantLive(appName, newest.ID)
	if got := s.branches.tip(appName); got != sha(3) {
		t.Errorf("the branch says %.7s", got)
	}
}

func TestOnPushCancelEndsABuild(t *testing.T) {
	s := newServer(t)
	s.app("eager", `{"on_push":"cancel","deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	builds := s.gateBuilds()
	running := s.push("eager", 1)
	builds.wait(t)
	newest := s.push("eager", 2)
	s.wantVerdict(running.ID, store.Cancelled, "cancelled on request")
	s.wantLine(running.ID, "note deployment 2 takes its place (on_push: cancel)")
	close(builds.proceed)
	s.wantVerdict(newest.ID, store.Succeeded, "")
}

func TestCancel(t *testing.T) {
	t.Run("queued", func(t *testing.T) {
		s := newServer(t)
		builds := s.gateBuilds()
		running := s.push(appName, 1)
		builds.wait(t)
		waiting := s.push(appName, 2)
		_, err := s.store.AskCancel(t.Context(), waiting.ID)
		s.must(err)
		s.wantVerdict(waiting.ID, store.Cancelled, "before it started")
		close(builds.proceed)
		s.wantVerdict(running.ID, store.Succeeded, "")
	})
	t.Run("building", func(t *testing.T) {
		s := newServer(t)
		builds := s.gateBuilds()
		d := s.push(appName, 1)
		builds.wait(t)
		_, err := s.store.AskCancel(t.Context(), d.ID)
		s.must(err)
		s.wantVerdict(d.ID, store.Cancelled, "cancelled on request")
		s.wantLine(d.ID, "cancelled cancelled on request; nothing serves yet")
	})
	t.Run("gating", func(t *testing.T) {
		s := newServer(t)
		s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
		s.version(2, memengine.Behaviour{NeverListens: true})
		d := s.push(appName, 2)
		s.until(d.ID, "started", func(d store.Deployment) bool { return d.Step == store.StepStarted })
		_, err := s.store.AskCancel(t.Context(), d.ID)
		s.must(err)
		s.wantVerdict(d.ID, store.Cancelled, "cancelled on request")
		s.wantLive(appName, 1)
		if containers := s.engine.Containers(); len(containers) != 1 {
			t.Errorf("left: %+v", containers)
		}
	})
	t.Run("too late", func(t *testing.T) {
		s := newServer(t)
		d := s.push(appName, 1)
		s.end(d.ID)
		if _, err := s.store.AskCancel(t.Context(), d.ID); store.CodeOf(err) != store.CodeConflict {
			t.Errorf("cancel of a finished deployment: %v", err)
		}
	})
}

func TestLanesRunAtOnceAndBuildsOneByOne(t *testing.T) {
	s := newServer(t)
	s.app("other", `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	builds := s.gateBuilds()
	first := s.push(appName, 1)
	builds.wait(t)
	second := s.push("other", 2)
	s.until(second.ID, "waiting for the builder", func(d store.Deployment) bool {
		return slices.Contains(s.lines(d.ID), "wait for a build slot (1 ahead)")
	})
	builds.proceed <- struct{}{}
	s.wantVerdict(first.ID, store.Succeeded, "")
	if got := builds.wait(t); got != sha(2) {
		t.Errorf("built %.7s", got)
	}
	close(builds.proceed)
	s.wantVerdict(second.ID, store.Succeeded, "")
}

// A slow build holds nobody who needs no build, and waiting does not count as building.
func TestSlowBuildHoldsOnlyBuilds(t *testing.T) {
	s := newServer(t, func(o *Options) { o.Patience.Build = 2 * time.Second })
	for _, name := range []string{"other", "page"} {
		s.app(name, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	}
	s.builder.slotless = map[string]bool{sha(3): true}
	builds, building := make(chan struct{}), make(chan struct{})
	s.builder.during = func(_ context.Context, request store.BuildRequest) error {
		if request.App == appName {
			close(building)
			<-builds
		}
		return nil
	}
	slow := s.push(appName, 1)
	<-building
	waiting := s.push("other", 2)
	s.wantVerdict(s.push("page", 3).ID, store.Succeeded, "")
	s.until(waiting.ID, "waiting for a slot", func(d store.Deployment) bool {
		return slices.Contains(s.lines(d.ID), "wait for a build slot (1 ahead)")
	})
	close(builds)
	s.wantVerdict(slow.ID, store.Succeeded, "")
	s.wantVerdict(waiting.ID, store.Succeeded, "")
}

func TestBuildsAtOnce(t *testing.T) {
	s := newServer(t, func(o *Options) { o.BuildsAtOnce = 2 })
	s.app("other", `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	builds := s.gateBuilds()
	first, second := s.push(appName, 1), s.push("other", 2)
	builds.wait(t)
	builds.wait(t) // both run, though neither has been let go
	third := s.push(appName, 3)
	close(builds.proceed)
	for _, d := range []store.Deployment{first, second, third} {
		s.wantVerdict(d.ID, store.Succeeded, "")
	}
	s.wantLive(appName, third.ID)
	s.wantLive("other", second.ID)
}

func TestBuildThatHangsEndsByItsDeadline(t *testing.T) {
	s := newServer(t, func(o *Options) { o.Patience.Build = 50 * time.Millisecond })
	s.gateBuilds()
	s.wantVerdict(s.push(appName, 1).ID, store.Failed, "the build took longer than 50ms")
}

func TestBuildThatFails(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	delete(s.builder.artefacts, sha(2))
	s.wantVerdict(s.push(appName, 2).ID, store.Failed, "Dockerfile:3")
	s.wantLine(2, "failed Dockerfile:3: RUN false: exit code 1; 1 keeps serving. Full log: shipgate logs hello --deployment 2")
	s.builder.during = func(context.Context, store.BuildRequest) error { return errors.New("socket hang up") }
	s.wantVerdict(s.push(appName, 3).ID, store.Errored, "internal error, see deployment 3")
	s.wantLine(3, "note socket hang up")
	s.wantLive(appName, 1)
}

func TestNoAddressIsLeft(t *testing.T) {
	s := newServer(t, func(o *Options) { o.Addresses = fullPool{} })
	s.wantVerdict(s.push(appName, 1).ID, store.Errored, "every address for containers is taken")
}

type fullPool struct{}

func (fullPool) Pool(context.Context) (store.AddressPool, error) {
	return store.AddressPool{Subnet: netip.MustParsePrefix("10.214.0.0/31")}, nil
}

func TestBranchThatMovedIsRefusedBeforeTheBuild(t *testing.T) {
	s := newServer(t)
	s.branches.moved = store.Problemf(store.CodeConflict, "main moved to 1234567 while deployment 1 waited")
	s.builder.during = func(context.Context, store.BuildRequest) error {
		t.Error("it was built")
		return nil
	}
	s.wantVerdict(s.push(appName, 1).ID, store.Failed, "main moved")
}

func TestFullDiskIsRefusedBeforeTheBuild(t *testing.T) {
	s := newServer(t, func(o *Options) {
		o.Preflight = func(context.Context) error { return store.Problemf(store.CodeErrored, "12 MB free, 500 MB needed") }
	})
	s.wantVerdict(s.push(appName, 1).ID, store.Errored, "12 MB free")
}

func TestCloseLeavesWorkForTheNextProcess(t *testing.T) {
	for _, strategy := range []string{"blue-green", "recreate"} {
		for _, at := range []string{"within build #1", "after start NEW #1", "after probe #1", "before apply 2 #1", "before drain #1"} {
			t.Run(strategy+"/"+at, func(t *testing.T) {
				s := newServer(t)
				_, err := s.store.UpdateApp(t.Context(), store.App{Name: appName, Source: store.SourceDockerfile,
					Hosts: []string{appHost}, Config: []byte(`{"deploy_strategy":"` + strategy + `","healthcheck":{"path":"/"}}`)})
				s.must(err)
				s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
				at := strings.Replace(at, "NEW", store.ContainerName(s.store.ServerID(), appName, 2), 1)
				reached, closed := make(chan struct{}), make(chan struct{})
				var once sync.Once
				s.setInject(func(point string) error {
					if point == at {
						once.Do(func() { close(reached) })
						<-s.runner.root.Done()
					}
					return nil
				})
				d := s.push(appName, 2)
				select {
				case <-reached:
				case <-time.After(time.Minute):
					t.Fatal("the point was not reached")
				}
				go func() { defer close(closed); s.runner.Close() }()
				select {
				case <-closed:
				case <-time.After(time.Minute):
					t.Fatal("Close waits for ever")
				}
				if left := leftGoroutines(); len(left) > 0 {
					t.Errorf("left after Close: %s", left[0])
				}
				if now, err := s.store.Deployment(t.Context(), d.ID); err != nil || now.Step.Terminal() {
					t.Errorf("it is %s (%v)", now.Step, err)
				}
				s.setInject(nil)
				s.boot()
				s.wantVerdict(d.ID, store.Succeeded, "")
				s.wantLive(appName, d.ID)
			})
		}
	}
}

func TestStartDoesNotWaitForAnEngineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := &server{world: w, t: t, store: openStore(t)}
		options := w.options(s.store)
		options.Engine = hangingEngine{w.engine}
		r := New(options)
		s.must(r.Start(t.Context()))
		s.must(r.Close())
		s.must(s.store.Close())
	})
}

type hangingEngine struct{ *memengine.Engine }

func (hangingEngine) List(ctx context.Context, _ string) ([]store.Container, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
