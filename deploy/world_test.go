package deploy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

// world is all that is outside the runner and outlives it: containers, routes, branches, images. Everything that is
// asked of it passes a point before and a point after the effect, where a test can crash the runner, fail the call or cancel.
type world struct {
	engine   *memengine.Engine
	stacks   *memengine.Stacks
	commands *memengine.Commands
	router   *fakeRouter
	branches *fakeBranches
	builder  *fakeBuilder
	patience Patience

	mu     sync.Mutex
	counts map[string]int           // how often each point was passed
	inject func(point string) error // nil: nothing happens at points
}

func newWorld() *world {
	w := &world{engine: memengine.New(), counts: map[string]int{}}
	w.stacks, w.commands = memengine.NewStacks(w.engine), memengine.NewCommands(w.engine)
	w.router = &fakeRouter{world: w, routes: map[string]store.Route{}, held: map[string]bool{}, inFlight: map[int64]int{}}
	w.branches = &fakeBranches{world: w, tips: map[string]string{}}
	w.builder = &fakeBuilder{world: w, artefacts: map[string]store.Artefact{}}
	w.engine.Before = func(op string) error { return w.point("before " + op) }
	w.engine.After = func(op string) error { return w.point("after " + op) }
	return w
}

// point numbers what passes, so that "the second before start hello-2" is the same moment in every run.
func (w *world) point(name string) error {
	w.mu.Lock()
	w.counts[name]++
	name = fmt.Sprintf("%s #%d", name, w.counts[name])
	inject := w.inject
	w.mu.Unlock()
	if inject == nil {
		return nil
	}
	return inject(name)
}

func (w *world) setInject(inject func(point string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inject, w.counts = inject, map[string]int{}
}

// call is the way through for all that is not the engine.
func (w *world) call(ctx context.Context, op string, effect func() error) error {
	if err := w.point("before " + op); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := effect(); err != nil {
		return err
	}
	return w.point("after " + op)
}

func (w *world) probe(ctx context.Context, probe Probe) Answer {
	answer := Answer{Text: "connection refused"}
	err := w.call(ctx, "probe", func() error {
		address, err := netip.ParseAddrPort(probe.Address)
		if err != nil {
			return err
		}
		switch _, healthy, ok := w.engine.Serving(address); {
		case ok && (healthy || probe.Path == ""):
			answer = Answer{OK: true, Text: "200"}
		case ok:
			answer = Answer{Text: "503", Body: "db: connection refused"}
		}
		return nil
	})
	if err != nil {
		return Answer{Text: err.Error()}
	}
	return answer
}

// options is what a runner of this world is made with.
func (w *world) options(s *store.Store) Options {
	return Options{
		Store: s, Engine: w.engine, Addresses: w.engine, Router: w.router, Builder: w.builder, Branches: w.branches,
		Commands: w.commands, Stacks: w.stacks, StacksDir: "/stacks",
		Probe:    w.probe,
		Present:  w.builder.present,
		URL:      func(host string) string { return "https://" + host },
		SitesDir: w.builder.sites,
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Patience: w.patience,
	}
}

// fakeRouter keeps its routes through every crash of ours; whether its holds survive is the scenario's to say.
type fakeRouter struct {
	world    *world
	mu       sync.Mutex
	routes   map[string]store.Route
	held     map[string]bool
	wanted   store.Hold    // the last one
	inFlight map[int64]int // requests that do not end by themselves, by deployment
	applied  []store.Route
	refuse   error // what Apply answers, when set
	internal store.CallTable
}

// SetCallers takes the whole set. It is no point of its own: repeating it changes nothing.
func (r *fakeRouter) SetCallers(ctx context.Context, internal store.CallTable) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if internal.Listen == "" {
		internal.Listen = r.internal.Listen
	}
	r.internal = internal
	return ctx.Err()
}

func (r *fakeRouter) locked(ctx context.Context, op string, effect func() error) error {
	return r.world.call(ctx, op, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		return effect()
	})
}

func (r *fakeRouter) Apply(ctx context.Context, route store.Route) error {
	return r.locked(ctx, fmt.Sprintf("apply %d", route.Target.Deployment), func() error {
		if r.refuse != nil {
			return r.refuse
		}
		if present, ok := r.routes[route.App]; ok && present.Generation > route.Generation {
			return store.Problemf(store.CodeConflict, "generation %d of %s is older than %d", route.Generation, route.App, present.Generation)
		}
		r.routes[route.App] = route
		r.applied = append(r.applied, route)
		delete(r.held, route.App)
		return nil
	})
}

func (r *fakeRouter) Hold(ctx context.Context, app string, wanted store.Hold) (left int, err error) {
	err = r.locked(ctx, "hold", func() error {
		route, ok := r.routes[app]
		if !ok {
			return store.Problemf(store.CodeNotFound, "%s has no route", app)
		}
		r.held[app], r.wanted = true, wanted
		left = r.inFlight[route.Target.Deployment]
		return nil
	})
	return left, err
}

func (r *fakeRouter) Release(ctx context.Context, app string) error {
	return r.locked(ctx, "release", func() error {
		delete(r.held, app)
		return nil
	})
}

func (r *fakeRouter) Drain(ctx context.Context, app string, deployment int64, _ time.Duration) (left int, err error) {
	err = r.locked(ctx, "drain", func() error {
		if r.routes[app].Target.Deployment == deployment {
			return store.Problemf(store.CodeConflict, "%d still gets requests", deployment)
		}
		left = r.inFlight[deployment]
		delete(r.inFlight, deployment)
		return nil
	})
	return left, err
}

func (r *fakeRouter) Remove(ctx context.Context, app string) error {
	return r.locked(ctx, "remove route", func() error {
		delete(r.routes, app)
		delete(r.held, app)
		return nil
	})
}

func (r *fakeRouter) Routes(ctx context.Context) (routes []store.Route, err error) {
	err = r.locked(ctx, "routes", func() error {
		for _, route := range r.routes {
			routes = append(routes, route)
		}
		return nil
	})
	return routes, err
}

// look reads the router's state without passing a point.
func (r *fakeRouter) look(app string) (route store.Route, routed, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	route, routed = r.routes[app]
	return route, routed, r.held[app]
}

// loseHolds is what the death of the proxy does: its routes come back from its snapshot, the parked requests do not.
func (r *fakeRouter) loseHolds() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.held)
}

type fakeBranches struct {
	world *world
	mu    sync.Mutex
	tips  map[string]string // by app
	files map[string]string // each commit's shipgate.yaml
	moved error             // what Check answers
	far   map[string]bool   // commits that are still at the forge
	away  func() error      // what Obtain answers when the forge is asked; nil: nothing is wrong
}

const mainBranch = "refs/heads/main"

func (b *fakeBranches) Obtain(ctx context.Context, d store.Deployment) (fetched bool, err error) {
	err = b.world.call(ctx, "obtain commit", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.far[d.SHA] {
			return nil
		}
		if b.away != nil {
			if err := b.away(); err != nil {
				return err
			}
		}
		delete(b.far, d.SHA)
		fetched = true
		return nil
	})
	return fetched && err == nil, err
}

func (b *fakeBranches) Check(ctx context.Context, _ store.Deployment) error {
	return b.world.call(ctx, "check branch", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.moved
	})
}

func (b *fakeBranches) Advance(ctx context.Context, d store.Deployment) error {
	return b.world.call(ctx, "advance branch", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, update := range d.Updates {
			b.tips[d.App] = update.New
		}
		return nil
	})
}

func (b *fakeBranches) File(_ context.Context, _, sha, _ string) ([]byte, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, found := b.files[sha]
	return []byte(text), found, nil
}

func (b *fakeBranches) DeployBranch(ctx context.Context, app store.App) (string, string, error) {
	return mainBranch, b.tip(app.Name), ctx.Err()
}

func (b *fakeBranches) tip(app string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tips[app]
}

// fakeBuilder has an artefact ready for every commit it knows.
type fakeBuilder struct {
	world     *world
	sites     string
	mu        sync.Mutex
	artefacts map[string]store.Artefact // by commit
	gone      map[string]bool           // images somebody removed
	slotless  map[string]bool           // commits whose build needs no step in BuildKit
	lines     []string                  // what a build says
	during    func(ctx context.Context, request store.BuildRequest) error
}

func (b *fakeBuilder) Build(ctx context.Context, request store.BuildRequest, log func(string)) (artefact store.Artefact, err error) {
	err = b.world.call(ctx, "build", func() error {
		for _, line := range b.lines {
			log(line)
		}
		if request.Slot != nil && !b.slotless[request.SHA] {
			release, err := request.Slot(ctx)
			if err != nil {
				return err
			}
			defer release()
		}
		if err := b.world.point("within build"); err != nil {
			return err
		}
		if b.during != nil {
			if err := b.during(ctx, request); err != nil {
				return err
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		known := false
		if artefact, known = b.artefacts[request.SHA]; !known {
			return store.Problemf(store.CodeFailed, "Dockerfile:3: RUN false: exit code 1")
		}
		return nil
	})
	return artefact, err
}

func (b *fakeBuilder) present(ctx context.Context, artefact store.Artefact) (present bool, err error) {
	err = b.world.call(ctx, "look for image", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		present = !b.gone[artefact.Image]
		return nil
	})
	return present, err
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), fastDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
