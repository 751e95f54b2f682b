// Package compose is the stack verbs on the Docker Compose plugin, and the rules for what a stack may be.
package compose

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Options is what Stacks needs.
type Options struct {
	ServerID string // value of store.LabelData on everything of ours
	// Network makes sure of the network that the proxy reaches containers on, and gives its name.
	Network func(ctx context.Context) (name string, err error)
	// Containers lists those of an app, or of all apps when it is empty, that carry our labels.
	Containers func(ctx context.Context, app string) ([]store.Container, error)
	// DropDoubles removes networks of an app's stack until there is one of each name.
	DropDoubles func(ctx context.Context, app string) error
	Getenv      func(name string) string // nil: the process's own
	Logger      *slog.Logger             // nil: the default one
}

// Stacks runs stacks with the Docker Compose plugin. It is safe for concurrent use.
type Stacks struct {
	options Options

	mu      sync.Mutex
	busy    map[string]chan struct{} // apps whose stack is being changed; closed when it is done
	plugin  plugin                   // zero until it was found
	version string
}

// New makes Stacks without looking for the plugin or the engine.
func New(options Options) *Stacks {
	options.Logger = cmp.Or(options.Logger, slog.Default())
	if options.Getenv == nil {
		options.Getenv = os.Getenv
	}
	return &Stacks{options: options, busy: map[string]chan struct{}{}}
}

// Version gives the version of the plugin, or an errored Problem that says how to install one.
func (s *Stacks) Version(ctx context.Context) (string, error) {
	_, err := s.findPlugin(ctx)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, nil
}

func (s *Stacks) findPlugin(ctx context.Context) (plugin, error) {
	s.mu.Lock()
	known := s.plugin
	s.mu.Unlock()
	if _, err := os.Stat(known.path); known.path != "" && err == nil {
		return known, nil
	}
	found, version, err := findPlugin(ctx, s.options.Getenv)
	if err != nil {
		return plugin{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plugin, s.version = found, version
	return found, nil
}

// Up makes the app's stack what the spec says and returns when each service runs and is healthy. It can be repeated, also
// after a crash in its midst. A compose file or service that is at fault is a failed Problem.
func (s *Stacks) Up(ctx context.Context, spec store.StackSpec, log func(line string)) error {
	release, err := s.acquire(ctx, spec.App)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.rendering(ctx, spec)
	if err != nil {
		return err
	}
	model, err := r.render()
	if err != nil {
		return err
	}
	for _, note := range r.notes {
		log(note)
	}
	if err := s.bringUp(ctx, r, model, log); err != nil {
		return err
	}
	if err := r.binds.sweep(); err != nil {
		s.options.Logger.Warn("files that no service mounts are left", "app", spec.App, "error", err)
	}
	return nil
}

// bringUp begins again where a network is there twice: the one that an ended plugin had asked for came to be after all.
func (s *Stacks) bringUp(ctx context.Context, r *rendering, model []byte, log func(string)) error {
	for try := 1; ; try++ {
		on, err := s.project(ctx, r.spec.App)
		if err != nil {
			return err
		}
		err = on.up(ctx, r, model, log)
		if !errors.Is(err, errDoubleNetwork) || try == busyTries {
			return err
		}
		if err := s.options.DropDoubles(ctx, r.spec.App); err != nil {
			return err
		}
	}
}

func (s *Stacks) rendering(ctx context.Context, spec store.StackSpec) (*rendering, error) {
	model, err := Load(ctx, spec.App, filepath.Join(spec.Dir, store.StackCheckout), spec.Config, spec.Env)
	if err != nil {
		return nil, err
	}
	built, err := readBuilt(spec.Dir)
	if err != nil {
		return nil, err
	}
	network, err := s.options.Network(ctx)
	if err != nil {
		return nil, err
	}
	return &rendering{
		Model: model, spec: spec, built: built, server: s.options.ServerID, network: network,
		binds: &binds{model: model, data: spec.Data, used: map[string]bool{}},
	}, nil
}

// up has Compose do it, and finds out which service is to blame when that fails.
func (p *project) up(ctx context.Context, r *rendering, model []byte, log func(string)) error {
	wait := cmp.Or(r.spec.Wait, store.DefaultHealthTimeout)
	with := p.plugin
	with.env = slices.Concat(with.env, r.env)
	said := &tail{}
	run := func(args ...string) error {
		common := []string{"--env-file", os.DevNull, "-f", "-", "up", "--no-build", "--pull", "never"}
		return unlessBusy(ctx, said, func() error {
			return with.run(ctx, model, func(line string) { said.add(line); log(line) }, p.args(slices.Concat(common, args)...)...)
		})
	}
	var err error
	if half := p.halfMade(r); len(half) > 0 {
		err = run(slices.Concat([]string{"--no-start", "--no-deps", "--force-recreate"}, half)...)
	}
	healthy := []string{"--detach", "--wait", "--wait-timeout", strconv.Itoa(int(math.Ceil(wait.Seconds())))}
	if err == nil {
		err = run(append(slices.Clone(healthy), "--remove-orphans")...)
	}
	if err == nil && nobodyAt(ctx, r.spec.Address) {
		err = run(append(slices.Clone(healthy), "--no-deps", "--force-recreate", r.built.Routed)...)
	}
	if ctx.Err() != nil {
		return err
	}
	if err == nil {
		return p.confirm(ctx, wait, log)
	}
	return p.explain(ctx, err, said.lines, wait, log)
}

// Running says whether the routed service of this very deployment runs.
func (s *Stacks) Running(ctx context.Context, app string, deployment int64) (bool, error) {
	containers, err := s.options.Containers(ctx, app)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(containers, func(c store.Container) bool {
		return c.Deployment == deployment && c.Role == store.RoleStack && c.Running
	}), nil
}

// Down removes the containers and networks of the app's stack. Volumes stay. A missing stack is no error.
func (s *Stacks) Down(ctx context.Context, app string) error {
	release, err := s.acquire(ctx, app)
	if err != nil {
		return err
	}
	defer release()
	on, err := s.project(ctx, app)
	if err != nil {
		return err
	}
	said := &tail{}
	err = on.plugin.run(ctx, nil, said.add, on.args("down", "--remove-orphans")...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return engineTrouble("take the stack down", err, said.lines)
}

// List gives the apps that have containers of a stack.
func (s *Stacks) List(ctx context.Context) ([]string, error) {
	containers, err := s.options.Containers(ctx, "")
	if err != nil {
		return nil, err
	}
	apps := map[string]bool{}
	for _, c := range containers {
		if c.Role == store.RoleStack {
			apps[c.App] = true
		}
	}
	return slices.Sorted(maps.Keys(apps)), nil
}

// acquire waits until nobody else changes the app's stack.
func (s *Stacks) acquire(ctx context.Context, app string) (release func(), err error) {
	for {
		s.mu.Lock()
		other, taken := s.busy[app]
		if !taken {
			mine := make(chan struct{})
			s.busy[app] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.busy, app)
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tail keeps the last lines.
type tail struct{ lines []string }

func (t *tail) add(line string) {
	if t.lines = append(t.lines, line); len(t.lines) > lastLines {
		t.lines = t.lines[1:]
	}
}

// seconds is how a duration is said.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s" }
