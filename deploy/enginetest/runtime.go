package enginetest

import (
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// status returns the only container of the app.
func (c *contract) status(t *testing.T) store.ContainerStatus {
	t.Helper()
	states, err := c.Engine.States(c.ctx, c.app)
	if err != nil || len(states) != 1 {
		t.Fatalf("states %+v, %v, want one", states, err)
	}
	return states[0]
}

func statesOfContainers(t *testing.T, c *contract) {
	if states, err := c.Engine.States(c.ctx, c.app); err != nil || len(states) != 0 {
		t.Fatalf("states %+v, %v, want none", states, err)
	}
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	if got := c.status(t); got.State != store.RunRunning || got.Name != spec.Name || got.Keep || got.Since.IsZero() || !got.Running {
		t.Errorf("a container that runs is %+v", got)
	}
	spec.KeepRunning = true
	c.start(t, spec)
	if got := c.status(t); !got.Keep {
		t.Errorf("a container that is kept running is %+v", got)
	}
	c.stop(t, spec)
	if got := c.status(t); got.State != store.RunExited || got.Running || got.Keep {
		t.Errorf("a stopped container is %+v", got)
	}
}

func statesOfExit(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Exiting)
	events := c.watch(t, spec.Name)
	c.start(t, spec)
	events.next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
	if got := c.status(t); got.State != store.RunExited || got.ExitCode != 3 {
		t.Errorf("what exited with 3 is %+v", got)
	}
}

// changesAreTold: each change of a container is followed by news, and who looks then sees it.
func changesAreTold(t *testing.T, c *contract) {
	changes := c.Engine.Changes(c.ctx)
	told := func(what string, seen func(states []store.ContainerStatus) bool) {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case change, open := <-changes:
				if !open || change.Lost {
					t.Fatalf("%s: got %+v (open: %t)", what, change, open)
				}
				if change.App != "" && change.App != c.app {
					continue
				}
				states, err := c.Engine.States(c.ctx, c.app)
				if err != nil {
					t.Fatal(err)
				}
				if seen(states) {
					return
				}
			case <-deadline:
				t.Fatalf("%s: nothing was told", what)
			}
		}
	}
	is := func(state store.RunState) func([]store.ContainerStatus) bool {
		return func(states []store.ContainerStatus) bool { return len(states) == 1 && states[0].State == state }
	}
	none := func(states []store.ContainerStatus) bool { return len(states) == 0 }
	told("the beginning", none)
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	told("start", is(store.RunRunning))
	c.stop(t, spec)
	told("stop", is(store.RunExited))
	c.remove(t, spec)
	told("removal", none)
}
