package enginetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func runDeadline(t *testing.T, c *commands) {
	ctx, cancel := context.WithTimeout(c.ctx, 3*time.Second)
	defer cancel()
	r := c.begin(ctx, c.spec(t, c.Waiting))
	r.await(t)
	if !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("got %d, %v, want that the time was up", r.code, r.err)
	}
	c.stopped(t)
}

func runCancelled(t *testing.T, c *commands) {
	asked := store.Problemf(store.CodeCancelled, "cancelled")
	ctx, cancel := context.WithCancelCause(c.ctx)
	r := c.begin(ctx, c.spec(t, c.Waiting))
	r.awaitLines(t)
	cancel(asked)
	r.await(t)
	if !errors.Is(r.err, asked) {
		t.Errorf("got %d, %v, want the reason that was given", r.code, r.err)
	}
	c.stopped(t)
}

// stopped wants the container there for a look, and no longer at work.
func (c *commands) stopped(t *testing.T) {
	t.Helper()
	if c.listed(t).Running {
		t.Error("the command still runs")
	}
}

func runDead(t *testing.T, c *commands) {
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	r := c.begin(ctx, c.spec(t, c.Quick))
	r.await(t)
	if !errors.Is(r.err, context.Canceled) || len(r.lines) > 0 {
		t.Errorf("got %d, %v, %q, want that the context was cancelled", r.code, r.err, r.lines)
	}
	if containers, err := c.Engine.List(c.ctx, c.app); err != nil || len(containers) > 0 {
		t.Errorf("listed %+v, %v, want nothing", containers, err)
	}
}

func runRemoved(t *testing.T, c *commands) {
	spec := c.spec(t, c.Waiting)
	r := c.begin(c.ctx, spec)
	r.awaitLines(t)
	if err := c.Engine.Remove(c.ctx, spec.Name); err != nil {
		t.Fatal(err)
	}
	r.await(t)
	// The engine may tell of the end before the removal: then it is that of a process that was killed.
	if r.err == nil && r.code != 137 {
		t.Errorf("got %d of a command that was removed", r.code)
	}
}

func runForeign(t *testing.T, c *commands) {
	spec := c.spec(t, c.Quick)
	untouched := c.Foreign(t, spec.Name)
	c.refused(t, spec, store.CodeErrored)
	if !untouched() {
		t.Fatal("somebody else's container was touched")
	}
}

// A name that means a container which serves is a mistake of the caller's: its process is not waited for.
func runServing(t *testing.T, c *commands) {
	spec := c.spec(t, c.Waiting)
	r := c.begin(c.ctx, spec)
	r.awaitLines(t)
	serving := spec
	serving.Role = store.RoleServe
	c.refused(t, serving, store.CodeErrored)
	if !c.listed(t).Running {
		t.Error("the container was stopped")
	}
	c.Finish(t, spec.Name)
	r.await(t)
}

func runMissing(t *testing.T, c *commands) {
	spec := c.spec(t, c.Quick)
	spec.Image = c.Missing
	c.refused(t, spec, store.CodeFailed)
}

func (c *commands) refused(t *testing.T, spec store.ContainerSpec, code store.Code) {
	t.Helper()
	r := c.run(t, spec)
	if problem, ok := store.AsProblem(r.err); !ok || problem.Code != code {
		t.Errorf("got %d, %v, want a problem %s", r.code, r.err, code)
	}
	if len(r.lines) > 0 {
		t.Errorf("lines %q of what was not run", r.lines)
	}
}
