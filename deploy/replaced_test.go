package deploy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// engineBetween does something between the engine's answer to States and what is made of it, once.
type engineBetween struct {
	Engine
	mu      sync.Mutex
	do      func()
	started []string
}

func (e *engineBetween) States(ctx context.Context, app string) ([]store.ContainerStatus, error) {
	states, err := e.Engine.States(ctx, app)
	e.mu.Lock()
	do := e.do
	e.do = nil
	e.mu.Unlock()
	if do != nil {
		do()
	}
	return states, err
}

func (e *engineBetween) Start(ctx context.Context, spec store.ContainerSpec) error {
	e.mu.Lock()
	e.started = append(e.started, spec.Name)
	e.mu.Unlock()
	return e.Engine.Start(ctx, spec)
}

// TestKeeperDoesNotStartWhatIsReplacedMeanwhile: a keeper looked at the old version, stopped for a recreate, and the new one
// is live by the time it decides. Two versions would write to one volume.
func TestKeeperDoesNotStartWhatIsReplacedMeanwhile(t *testing.T) {
	gate, closed := make(chan struct{}), atomic.Bool{}
	engine := &engineBetween{}
	s := newServer(t, func(o *Options) {
		probe := o.Probe
		o.Probe = func(ctx context.Context, p Probe) Answer {
			if closed.Load() {
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}
			return probe(ctx, p)
		}
		engine.Engine = o.Engine
		o.Engine = engine
	})
	s.configure(appName, `{"deploy_strategy":"recreate","healthcheck":{"path":"/healthz"}}`)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	closed.Store(true)
	second := s.push(appName, 2)
	s.until(second.ID, "started", func(d store.Deployment) bool { return d.Step == store.StepStarted })

	engine.mu.Lock()
	engine.started = nil
	engine.do = func() {
		close(gate)
		s.until(second.ID, "live", func(d store.Deployment) bool { return d.Verdict != "" })
	}
	engine.mu.Unlock()
	_, err := s.runner.settle(t.Context(), appName)
	s.must(err)
	s.wantVerdict(second.ID, store.Succeeded, "")
	engine.mu.Lock()
	defer engine.mu.Unlock()
	if slices.Contains(engine.started, s.container(appName, 1)) {
		t.Errorf("started: %q", engine.started)
	}
}
