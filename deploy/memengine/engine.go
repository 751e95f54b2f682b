// Package memengine is a fake with state of the container verbs.
package memengine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Engine keeps containers in memory. It stands outside the program under test: what runs in it survives a crash of
// the runner. It is safe for concurrent use; Before and After are set while nobody calls it.
type Engine struct {
	// Before is called ahead of every verb with what is about to happen, such as "start hello-42", and holds no lock,
	// so it may panic or cancel a context. Its error is returned and the verb has no effect.
	Before func(op string) error
	// After is called when the verb has had its effect. Its error is returned in place of success.
	After func(op string) error

	mu         sync.Mutex
	images     map[string]Behaviour
	containers map[string]*container
	watchers   map[*watcher]struct{}
	listeners  map[chan store.EngineChange]store.EngineChange // the last change of each
	lost       bool
}

// Behaviour says how the containers of an image behave from their start on. The zero value serves at once.
type Behaviour struct {
	StartFails   string // what the engine says when the process cannot be started at all
	Exits        bool   // ends at once, with ExitCode
	ExitCode     int
	OOM          bool     // killed for its memory at once
	NeverListens bool     // runs and opens no socket
	LoopbackOnly bool     // listens on 127.0.0.1, where nobody outside reaches it
	ListensAfter int      // refuses this many probes after its start, then listens
	Unhealthy    bool     // answers every probe with an error
	Health       string   // verdict of the image's own HEALTHCHECK right after the start, or "" without one
	Log          []string // what it writes at its start
	CommandCode  int      // what its release command exits with
	CommandWaits bool     // its release command goes on until it is stopped
	CommandLog   []string // what its release command writes
}

type container struct {
	spec    store.ContainerSpec
	foreign bool
	running bool
	ended   bool // ran and came to an end
	exit    int
	oom     bool
	fault   string
	health  string
	probes  int // since its start

	ignoresStop bool // it is killed when its grace is over
	log         []string
}

// New returns an engine without images and containers.
func New() *Engine {
	return &Engine{
		images:     map[string]Behaviour{},
		containers: map[string]*container{},
		watchers:   map[*watcher]struct{}{},
		listeners:  map[chan store.EngineChange]store.EngineChange{},
	}
}

// Behave makes an image known and says how its containers behave from their next start on.
func (e *Engine) Behave(image string, behaviour Behaviour) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[image] = behaviour
}

// Foreign puts a running container of somebody else's in the engine.
func (e *Engine) Foreign(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[name] = &container{spec: store.ContainerSpec{Name: name}, foreign: true, running: true}
}

// Imitate puts a running container in the engine that has all labels of the spec's and another name.
func (e *Engine) Imitate(of store.ContainerSpec, name string) {
	of.Name = name
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[name] = &container{spec: of, foreign: true, running: true}
}

// ForeignRuns says whether the container put there by Foreign still runs.
func (e *Engine) ForeignRuns(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[name]
	return c != nil && c.foreign && c.running
}

// Exit ends a running container by itself, as a crash of its process does.
func (e *Engine) Exit(name string, code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.containers[name]; ok && c.running {
		e.end(c, code, false)
	}
}

// Containers lists all containers that are not foreign, by name.
func (e *Engine) Containers() []store.Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.list("")
}

// KeptRunning says whether the engine was told to start the container again whenever it ends.
func (e *Engine) KeptRunning(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[name]
	return c != nil && c.spec.KeepRunning
}

// Spec gives what a container was made of.
func (e *Engine) Spec(name string) (spec store.ContainerSpec, found bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[name]; c != nil {
		return c.spec, true
	}
	return spec, false
}

// Serving says what a probe of the address meets: whose deployment answers and whether it answers well. It is not ok
// when the connection would be refused.
func (e *Engine) Serving(address netip.AddrPort) (deployment int64, healthy, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.holder(address)
	if c == nil {
		return 0, false, false
	}
	behaviour := e.images[c.spec.Image]
	c.probes++
	if behaviour.NeverListens || behaviour.LoopbackOnly || c.probes <= behaviour.ListensAfter {
		return 0, false, false
	}
	return c.spec.Deployment, !behaviour.Unhealthy, true
}

var pool = store.AddressPool{
	Subnet:  netip.MustParsePrefix("10.214.0.0/22"),
	Gateway: netip.MustParseAddr("10.214.0.1"),
}

// Pool gives a fixed subnet.
func (e *Engine) Pool(ctx context.Context) (store.AddressPool, error) {
	return pool, e.call(ctx, "pool", func() error { return nil })
}

// Start creates the container when there is none of this name and starts it when it does not run.
func (e *Engine) Start(ctx context.Context, spec store.ContainerSpec) error {
	return e.call(ctx, "start "+spec.Name, func() error { return e.start(spec) })
}

// Stop ends the container and keeps it. The exit code is 0, as of a process that heeds the signal.
func (e *Engine) Stop(ctx context.Context, name string, _ time.Duration) error {
	return e.call(ctx, "stop "+name, func() error {
		c, err := e.ours(name)
		if c != nil && c.running {
			c.spec.KeepRunning = false // or a restarted engine would start it again
			e.end(c, 0, false)
		}
		return err
	})
}

// Remove ends the container and forgets it.
func (e *Engine) Remove(ctx context.Context, name string) error {
	return e.call(ctx, "remove "+name, func() error {
		c, err := e.ours(name)
		if c == nil {
			return err
		}
		if c.running {
			e.end(c, 137, false)
		}
		delete(e.containers, name)
		e.tell(name, store.ContainerEvent{Kind: store.ContainerRemoved})
		return nil
	})
}

// List gives the containers of an app, or of all apps when it is empty, by name.
func (e *Engine) List(ctx context.Context, app string) (found []store.Container, err error) {
	err = e.call(ctx, "list", func() error {
		found = e.list(app)
		return nil
	})
	return found, err
}

// Diagnose says what can be learnt of the container.
func (e *Engine) Diagnose(ctx context.Context, name string, logLines int) (diagnosis store.Diagnosis, err error) {
	err = e.call(ctx, "diagnose "+name, func() error {
		c, err := e.ours(name)
		if err != nil {
			return err
		}
		if c == nil {
			return store.Problemf(store.CodeErrored, "container %s is gone", name)
		}
		diagnosis = store.Diagnosis{
			Running: c.running, ExitCode: c.exit, OOMKilled: c.oom, Error: c.fault,
			Log:       slices.Clone(c.log[max(0, len(c.log)-logLines):]),
			Listening: e.listening(c),
		}
		return nil
	})
	return diagnosis, err
}

// call is the way through for every verb: hook, dead context, effect, hook.
func (e *Engine) call(ctx context.Context, op string, effect func() error) error {
	if e.Before != nil {
		if err := e.Before(op); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := e.locked(effect); err != nil {
		return err
	}
	if e.After != nil {
		return e.After(op)
	}
	return nil
}

func (e *Engine) locked(effect func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.check()
	if e.lost {
		return store.Problemf(store.CodeErrored, "the engine does not answer")
	}
	return effect()
}

// check holds the fake to what a real engine guarantees.
func (e *Engine) check() {
	holders := map[netip.AddrPort]string{}
	for name, c := range e.containers {
		if name != c.spec.Name {
			panic(fmt.Sprintf("memengine: container %s is kept as %s", c.spec.Name, name))
		}
		if !c.running || c.foreign || !c.spec.Address.IsValid() {
			continue
		}
		if other, taken := holders[c.spec.Address]; taken {
			panic(fmt.Sprintf("memengine: %s and %s both run on %s", other, name, c.spec.Address))
		}
		holders[c.spec.Address] = name
	}
}

// ours gives the container of this name, nil when there is none, or the refusal to touch somebody else's.
func (e *Engine) ours(name string) (*container, error) {
	c := e.containers[name]
	if c != nil && c.foreign {
		return nil, store.Problemf(store.CodeErrored, "container %s is not one of this server's; it was left alone", name)
	}
	return c, nil
}

func (e *Engine) holder(address netip.AddrPort) *container {
	for _, c := range e.containers {
		if c.running && !c.foreign && c.spec.Address == address {
			return c
		}
	}
	return nil
}

func (e *Engine) list(app string) []store.Container {
	found := []store.Container{}
	for c := range maps.Values(e.containers) {
		if c.foreign || app != "" && c.spec.App != app {
			continue
		}
		found = append(found, store.Container{
			Name: c.spec.Name, App: c.spec.App, Deployment: c.spec.Deployment, Role: c.spec.Role, Running: c.running, Health: c.health,
		})
	}
	slices.SortFunc(found, func(a, b store.Container) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

func (e *Engine) listening(c *container) []netip.AddrPort {
	behaviour := e.images[c.spec.Image]
	listening := []netip.AddrPort{}
	switch {
	case !c.running || behaviour.NeverListens || c.probes < behaviour.ListensAfter:
	case behaviour.LoopbackOnly:
		listening = append(listening, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(c.spec.Port)))
	default:
		listening = append(listening, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(c.spec.Port)))
	}
	return listening
}
