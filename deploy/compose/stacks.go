// Package compose is the stack verbs on the Docker Compose plugin, and the rules for what a stack may be.
package compose

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
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
	Policy   store.Policy
	Engine   Engine
	Getenv   func(name string) string // nil: the process's own
	Logger   *slog.Logger             // nil: the default one
}

// Engine is what is asked of the engine beside Compose.
type Engine interface {
	// List returns the containers of an app, or of all apps when it is empty, that are this server's.
	List(ctx context.Context, app string) ([]store.Container, error)
	// StackContainers returns all containers that carry the label of a Compose project, whoever made them.
	StackContainers(ctx context.Context, project string) ([]store.StackContainer, error)
	// StackChanges reports that something happened to one of them. It closes when the engine tells no more.
	StackChanges(ctx context.Context, project string) <-chan struct{}
	// StopStackContainer stops a container within its own grace and keeps it.
	StopStackContainer(ctx context.Context, id string) error
	// RemoveStackContainer stops and removes a container. Its volumes stay.
	RemoveStackContainer(ctx context.Context, id string) error
	RenameStackContainer(ctx context.Context, id, name string) error
	// ConnectStack puts a container where the proxy dials it, without a name there.
	ConnectStack(ctx context.Context, app, id string, address netip.AddrPort) error
	VolumeLabels(ctx context.Context, name string) (labels map[string]string, found bool, err error)
	// RemoveStackNetworks removes the networks of an app's project that nothing uses.
	RemoveStackNetworks(ctx context.Context, app, project string) error
	// DropDoubles removes networks of an app's stack until there is one of each name.
	DropDoubles(ctx context.Context, app string) error
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
	if err := store.ValidateAppName(spec.App); err != nil {
		return err
	}
	r, err := s.rendering(ctx, spec)
	if err != nil {
		return err
	}
	before, err := s.containers(ctx, spec.App, true)
	if err != nil {
		return err
	}
	if err := r.keepVolumes(ctx, s.options.Engine); err != nil {
		return err
	}
	r.keepAnonymous(before.old)
	model, err := r.render()
	if err != nil {
		return err
	}
	for _, note := range r.notes {
		log(note)
	}
	if err := s.bringUp(ctx, r, model, before, log); err != nil {
		return err
	}
	if err := r.binds.sweep(); err != nil {
		s.options.Logger.Warn("files that no service mounts are left", "app", spec.App, "error", err)
	}
	return nil
}

func (s *Stacks) rendering(ctx context.Context, spec store.StackSpec) (*rendering, error) {
	model, err := s.Load(ctx, spec.App, filepath.Join(spec.Dir, store.StackCheckout), spec.Config, spec.Env)
	if err != nil {
		return nil, err
	}
	built, err := readBuilt(spec.Dir)
	if err != nil {
		return nil, err
	}
	return &rendering{
		Model: model, spec: spec, built: built, binds: &binds{model: model, data: spec.Data, used: map[string]bool{}},
	}, nil
}

// Running says whether the routed service of this very deployment runs.
func (s *Stacks) Running(ctx context.Context, app string, deployment int64) (bool, error) {
	found, err := s.containers(ctx, app, false)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(slices.Concat(found.ours, found.old), func(c store.StackContainer) bool {
		return c.Labels[store.LabelDeployment] == strconv.FormatInt(deployment, 10) && c.State == "running"
	}), nil
}

// Down removes the containers and networks of the app's stack. Volumes stay, and so does what only carries its labels. A
// missing stack is no error.
func (s *Stacks) Down(ctx context.Context, app string) error {
	all, release, err := s.acquireContainers(ctx, app)
	if err != nil {
		return err
	}
	defer release()
	if err := s.remove(ctx, all); err != nil {
		return err
	}
	for _, project := range []string{s.projectName(app), store.OldProjectName(app)} {
		if err := s.options.Engine.RemoveStackNetworks(ctx, app, project); err != nil {
			return err
		}
	}
	return nil
}

// acquireContainers waits as acquire does and returns the containers of the app's stack, under its present and its old project.
func (s *Stacks) acquireContainers(ctx context.Context, app string) (all []store.StackContainer, release func(), err error) {
	if release, err = s.acquire(ctx, app); err != nil {
		return nil, nil, err
	}
	found, err := s.containers(ctx, app, false)
	if err != nil {
		release()
		return nil, nil, err
	}
	return slices.Concat(found.ours, found.old), release, nil
}

// List returns the apps that have containers of a stack.
func (s *Stacks) List(ctx context.Context) ([]string, error) {
	containers, err := s.options.Engine.List(ctx, "")
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
