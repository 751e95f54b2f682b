package memengine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/shipgate/shipgate/store"
)

// Stacks is a fake with state of the stack verbs. A stack has a routed service and another one, which is left alone as long
// as it runs. Its containers are the engine's, and pass the engine's hooks.
type Stacks struct {
	engine  *Engine
	refused map[string]bool // by folder of the release
	ignores map[string]bool // that they are asked to stop: the other services, by folder of the release
	starts  map[string]int  // of the other service, by app
}

// NewStacks returns stacks on an engine.
func NewStacks(engine *Engine) *Stacks {
	return &Stacks{engine: engine, refused: map[string]bool{}, ignores: map[string]bool{}, starts: map[string]int{}}
}

// Behave says how the routed service of a release's folder behaves from its next start on.
func (s *Stacks) Behave(dir string, behaviour Behaviour) { s.engine.Behave(stackImage(dir), behaviour) }

// Refuse has the compose file in a release's folder ask for what no stack gets.
func (s *Stacks) Refuse(dir string) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.refused[dir] = true
}

// IgnoreStop has the other service of a release's folder ignore that it is asked to stop, from its next start on.
func (s *Stacks) IgnoreStop(dir string) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.ignores[dir] = true
}

// Kept lists the containers of an app's stack.
func (s *Stacks) Kept(app string) (names []string) {
	for _, c := range s.engine.Containers() {
		if c.App == app && c.Role == store.RoleStack {
			names = append(names, c.Name)
		}
	}
	return names
}

// ExitCodes returns those of the routed and the other service of an app's stack.
func (s *Stacks) ExitCodes(container, app string) (routed, other int) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	return s.engine.containers[container].exit, s.engine.containers[otherName(app)].exit
}

// Other tells the runs of an app's other service apart; empty: it does not run.
func (s *Stacks) Other(app string) string {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if c := s.engine.containers[otherName(app)]; c == nil || !c.running {
		return ""
	}
	return fmt.Sprintf("%s run %d", otherName(app), s.starts[app])
}

func stackImage(dir string) string   { return "stack of " + dir }
func otherName(app string) string    { return "shipgate-" + app + "-other-1" }
func up(spec store.StackSpec) string { return fmt.Sprintf("up %s", spec.Container) }

// Up makes the app's stack what the spec says.
func (s *Stacks) Up(ctx context.Context, spec store.StackSpec, log func(line string)) error {
	var lines []string
	err := s.engine.call(ctx, up(spec), func() (err error) {
		lines, err = s.up(spec)
		return err
	})
	for _, line := range lines {
		log(line)
	}
	return err
}

func (s *Stacks) up(spec store.StackSpec) ([]string, error) {
	if s.refused[spec.Dir] {
		return nil, store.Problemf(store.CodeFailed, "service web asks for privileged").WithHint("shipgate app update %s --trusted", spec.App)
	}
	s.startOther(spec)
	name := spec.Container
	for other, c := range maps.Clone(s.engine.containers) {
		if c.spec.App == spec.App && c.spec.Role == store.RoleStack && other != name && other != otherName(spec.App) {
			delete(s.engine.containers, other)
		}
	}
	behaviour := s.engine.images[stackImage(spec.Dir)]
	if c := s.engine.containers[name]; c != nil && c.running {
		return nil, nil
	}
	c := &container{running: true, log: behaviour.Log, spec: store.ContainerSpec{
		Name: name, App: spec.App, Deployment: spec.Deployment, Role: store.RoleStack, Image: stackImage(spec.Dir), Address: spec.Address, Port: spec.Port,
	}}
	s.engine.containers[name] = c
	s.engine.changed(store.EngineChange{})
	s.engine.live(c, behaviour)
	if !c.running {
		return behaviour.Log, store.Problemf(store.CodeFailed, "service web exited with code %d", c.exit).
			WithHint("shipgate logs %s --deployment %d", spec.App, spec.Deployment)
	}
	return nil, nil
}

func (s *Stacks) startOther(spec store.StackSpec) {
	app, name := spec.App, otherName(spec.App)
	if c := s.engine.containers[name]; c != nil && c.running {
		return
	}
	s.starts[app]++
	s.engine.containers[name] = &container{
		running: true, ignoresStop: s.ignores[spec.Dir], spec: store.ContainerSpec{Name: name, App: app, Role: store.RoleStack},
	}
}

// Running says whether the routed service of this very deployment runs.
func (s *Stacks) Running(ctx context.Context, app string, deployment int64) (running bool, err error) {
	err = s.engine.call(ctx, "look at stack "+app, func() error {
		for _, c := range s.engine.containers {
			running = running || c.running && c.spec.Role == store.RoleStack && c.spec.App == app && c.spec.Deployment == deployment
		}
		return nil
	})
	return running, err
}

// Stop stops the containers of the app's stack and keeps them.
func (s *Stacks) Stop(ctx context.Context, app string) error {
	return s.engine.call(ctx, "stop stack "+app, func() error {
		for _, c := range s.engine.containers {
			switch {
			case c.spec.App != app || c.spec.Role != store.RoleStack || !c.running:
			case c.ignoresStop:
				s.engine.end(c, 137, false)
			default:
				s.engine.end(c, 0, false)
			}
		}
		return nil
	})
}

// Down removes the containers of the app's stack.
func (s *Stacks) Down(ctx context.Context, app string) error {
	return s.engine.call(ctx, "down "+app, func() error {
		maps.DeleteFunc(s.engine.containers, func(_ string, c *container) bool {
			return c.spec.App == app && c.spec.Role == store.RoleStack
		})
		return nil
	})
}

// List gives the apps that have containers of a stack.
func (s *Stacks) List(ctx context.Context) (apps []string, err error) {
	err = s.engine.call(ctx, "list stacks", func() error {
		for _, c := range s.engine.containers {
			if c.spec.Role == store.RoleStack && !slices.Contains(apps, c.spec.App) {
				apps = append(apps, c.spec.App)
			}
		}
		slices.Sort(apps)
		return nil
	})
	return apps, err
}
