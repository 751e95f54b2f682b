// Package deploy is the strategy runner: it drives one deployment step by step, resumes it after a crash, and keeps one lane per app.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Options are the collaborators of a Runner and its limits.
type Options struct {
	Store        *store.Store
	Engine       Engine
	Commands     Commands
	Stacks       Stacks
	Addresses    Addresses
	Router       Router
	Builder      Builder
	Branches     Branches
	Probe        func(ctx context.Context, probe Probe) Answer                    // nil: over the network
	Present      func(ctx context.Context, artefact store.Artefact) (bool, error) // for rollbacks; nil: assumed
	Preflight    func(ctx context.Context) error                                  // before a build; nil: none
	URL          func(host string) string                                         // the public address of a host; nil: http://host
	SitesDir     string                                                           // where site artefacts are
	StacksDir    string                                                           // where stack artefacts are, and the apps' own folders
	BuildsAtOnce int                                                              // 0: one
	InternalPort int                                                              // where apps call each other, on the bridge; 0: 80
	Logger       *slog.Logger
	Patience     Patience
}

// Patience bounds how long the runner keeps trying what does not work. Zero fields take the defaults.
type Patience struct {
	Fetch  time.Duration // until the commit is here; default 15 min
	Build  time.Duration // one build; default store.DefaultBuildTimeout
	Engine time.Duration // one verb of the engine, beyond the grace of a stop; default 1 min
	Stack  time.Duration // for a stack to come up, whose databases make their files first; default 2 min
	Route  time.Duration // one verb of the router, beyond the limit of a drain; default 1 min
	Undo   time.Duration // for the old version to answer again; default 90 s
	Reap   time.Duration // for removing what the new version replaced; default 5 min
	Notice time.Duration // after which a step that has not ended looks whether the engine is there; default 5 s
}

// Runner owns the lanes: one goroutine per app that has work.
type Runner struct {
	Options
	keepers *keepers
	builds  *buildSlots

	mu      sync.Mutex
	lanes   map[string]*lane
	routing keyedMutex // one change of an app's route at a time
	callers sync.Mutex // reads who may call whom, and tells the router
	closed  bool
	work    sync.WaitGroup
	warmed  chan struct{} // a container was put aside, so the next end of a window may be another one
	stop    context.CancelFunc
	root    context.Context // ends when the runner closes; the owner of every lane
}

// lane says whether somebody asked for another look at the queue while one was going on.
type lane struct{ again bool }

// New makes a runner that does nothing before Start.
func New(options Options) *Runner {
	if options.Probe == nil {
		options.Probe = probeNetwork
	}
	if options.URL == nil {
		options.URL = func(host string) string { return "http://" + host }
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	options.Patience = options.Patience.withDefaults()
	root, stop := context.WithCancel(context.Background())
	return &Runner{
		Options: options,
		keepers: newKeepers(),
		builds:  newBuildSlots(max(1, options.BuildsAtOnce)),
		lanes:   map[string]*lane{},
		warmed:  make(chan struct{}, 1),
		root:    root,
		stop:    stop,
	}
}

func (p Patience) withDefaults() Patience {
	return Patience{
		Fetch:  or(p.Fetch, 15*time.Minute),
		Build:  or(p.Build, store.DefaultBuildTimeout),
		Engine: or(p.Engine, time.Minute),
		Stack:  or(p.Stack, 2*time.Minute),
		Route:  or(p.Route, time.Minute),
		Undo:   or(p.Undo, 90*time.Second),
		Reap:   or(p.Reap, 5*time.Minute),
		Notice: or(p.Notice, 5*time.Second),
	}
}

func or(value, fallback time.Duration) time.Duration {
	if value == 0 {
		return fallback
	}
	return value
}

// Start puts the routes right, takes up every unfinished deployment where it stands, and follows the queue from then on.
// What cannot be put right now, because the engine is away, is logged and left to the next deployment.
func (r *Runner) Start(ctx context.Context) error {
	changed, unwatch := r.Store.Watch(store.QueueTopic)
	r.reconcile(ctx)
	r.keepers.start()
	if err := r.wakeLanes(ctx); err != nil {
		unwatch()
		return err
	}
	r.work.Go(r.endWarmInTime)
	r.work.Go(r.followEngine)
	r.work.Go(func() {
		defer unwatch()
		for {
			select {
			case <-r.root.Done():
				return
			case <-changed:
				if err := r.wakeLanes(r.root); err != nil && r.root.Err() == nil {
					r.Logger.Error("look into the queue", "error", err)
				}
			}
		}
	})
	return nil
}

// reconcile puts routes and containers right, each within its patience: a router or engine that hangs is not waited for.
func (r *Runner) reconcile(ctx context.Context) {
	routing, cancel := context.WithTimeout(ctx, r.Patience.Route)
	defer cancel()
	if err := r.reconcileRoutes(routing); err != nil {
		r.Logger.Error("put routes right", "error", err)
	}
	if err := r.SetCallers(routing); err != nil {
		r.Logger.Error("tell who may call apps", "error", err)
	}
	if err := r.sweep(ctx); err != nil {
		r.Logger.Error("put containers right", "error", err)
	}
}

// Close stops taking work and waits. Deployments that run stay where they are, for the next process to take up.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.work.Wait()
	return nil
}

func (r *Runner) wakeLanes(ctx context.Context) error {
	apps, err := r.Store.AppsAtWork(ctx)
	if err != nil {
		return fmt.Errorf("list apps at work: %w", err)
	}
	for _, app := range apps {
		r.wakeLane(app)
	}
	return nil
}

func (r *Runner) wakeLane(app string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running := r.lanes[app]; running != nil {
		running.again = true
		return
	}
	if r.closed {
		return
	}
	started := &lane{}
	r.lanes[app] = started
	r.work.Go(func() { r.runLane(app, started) })
}

// runLane works through an app's queue until it is empty. It looks once more when it was woken meanwhile.
func (r *Runner) runLane(app string, self *lane) {
	for {
		r.drainQueue(r.root, app)
		r.mu.Lock()
		if !self.again || r.closed {
			delete(r.lanes, app)
			r.mu.Unlock()
			r.attend(app)
			return
		}
		self.again = false
		r.mu.Unlock()
	}
}

func (r *Runner) drainQueue(ctx context.Context, app string) {
	pause := newBackoff(100*time.Millisecond, 5*time.Second)
	for ctx.Err() == nil {
		d, found, err := r.Store.Claim(ctx, app)
		switch {
		case err != nil && store.CodeOf(err) == store.CodeNotFound:
			return // the app was destroyed
		case err != nil:
			r.Logger.Error("claim deployment", "app", app, "error", err)
			r.makeRoom(err)
			pause.wait(ctx)
		case !found:
			return
		default:
			r.finish(ctx, d)
		}
	}
}

// finish runs one deployment to its end. Errors that no step could deal with are our own store's; it tries again.
func (r *Runner) finish(ctx context.Context, d store.Deployment) {
	logger := r.Logger.With("app", d.App, "deployment", d.ID, "sha", d.ShortSHA())
	pause := newBackoff(100*time.Millisecond, 5*time.Second)
	for ctx.Err() == nil {
		err := r.run(ctx, d.ID, logger)
		if err == nil || store.CodeOf(err) == store.CodeNotFound {
			r.lookAtWarm() // containers of an app at work are left alone
			return
		}
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return
		}
		logger.Error("run deployment", "error", err)
		r.makeRoom(err)
		pause.wait(ctx)
	}
}
