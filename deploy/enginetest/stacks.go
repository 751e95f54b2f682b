package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// Stacks is the stack verbs as the deployment runner needs them.
type Stacks interface {
	Up(ctx context.Context, spec store.StackSpec, log func(line string)) error
	Running(ctx context.Context, app string, deployment int64) (bool, error)
	Stop(ctx context.Context, app string) error
	Down(ctx context.Context, app string) error
	List(ctx context.Context) ([]string, error)
}

// StackKind says how the services of a stack behave. The other service than the routed one differs in StackIgnores only.
type StackKind int

// The kinds of stacks.
const (
	StackServes  StackKind = iota // it takes requests
	StackExits                    // it writes a line and exits with 3 at its start
	StackRefused                  // it asks for what no stack gets
	StackIgnores                  // it serves; the other service ignores that it is asked to stop, and has a short grace
)

// StackHarness is what the contract needs around the stacks under test.
type StackHarness struct {
	Stacks Stacks
	// Spec makes the stack of a deployment, with an address that is free.
	Spec func(t *testing.T, app string, deployment int64, kind StackKind) store.StackSpec
	// Other tells apart the runs of the app's other service: each start has another name. Empty: it does not run.
	Other func(t *testing.T, app string) string
	// Answers says whether the app at the address takes requests by now; it may wait for it.
	Answers func(t *testing.T, address netip.AddrPort) bool
	// Kept names the containers and volumes of the app's stack. What is made anew has another name.
	Kept func(t *testing.T, app string) []string
	// Busy has the app at the address work on a request that takes longer than the short grace, and returns what waits for
	// its end and reports whether it was answered.
	Busy func(t *testing.T, address netip.AddrPort) (answered func() bool)
	// ExitCodes returns those of the routed and the other service, both of which have ended.
	ExitCodes func(t *testing.T, app string, deployment int64) (routed, other int)
}

// RunStacks holds stack verbs to the contract. Each part gets a StackHarness of its own.
func RunStacks(t *testing.T, harness func(t *testing.T) StackHarness) {
	for _, p := range []struct {
		name string
		part func(t *testing.T, c *stackContract)
	}{
		{"up is up, and up again changes nothing", stackUpTwice},
		{"the next deployment takes the place of the last", stackNext},
		{"a deployment before can be gone back to", stackBack},
		{"what exits fails, with its log", stackExits},
		{"what is refused fails, and nothing changes", stackRefused},
		{"down forgets, and a missing stack can be taken down", stackDown},
		{"stop keeps containers and volumes, and up starts them", stackStop},
		{"a missing stack can be stopped", stackStopMissing},
		{"stop gives each service its own grace", stackStopGrace},
		{"apps are known apart", stackApps},
		{"two at once are one after the other", stackTwoAtOnce},
		{"a dead context does nothing", stackDead},
	} {
		t.Run(p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			c := &stackContract{StackHarness: harness(t), ctx: ctx, app: "s" + strings.ToLower(rand.Text()[:10])}
			p.part(t, c)
		})
	}
}

// stackContract is one part's view: a fresh app name, and what was logged.
type stackContract struct {
	StackHarness
	ctx context.Context
	app string
	log strings.Builder
}

func (c *stackContract) spec(t *testing.T, app string, deployment int64, kind StackKind) store.StackSpec {
	t.Helper()
	spec := c.Spec(t, app, deployment, kind)
	t.Cleanup(func() {
		if err := c.Stacks.Down(context.WithoutCancel(c.ctx), app); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return spec
}

func (c *stackContract) try(ctx context.Context, spec store.StackSpec) error {
	return c.Stacks.Up(ctx, spec, func(line string) { c.log.WriteString(line + "\n") })
}

func (c *stackContract) up(t *testing.T, spec store.StackSpec) {
	t.Helper()
	if err := c.try(c.ctx, spec); err != nil {
		t.Fatalf("up of deployment %d: %v\n%s", spec.Deployment, err, c.log.String())
	}
	if !c.running(t, spec.App, spec.Deployment) {
		t.Fatalf("deployment %d is up and does not run", spec.Deployment)
	}
	if !c.Answers(t, spec.Address) {
		t.Fatalf("nothing answers at %s", spec.Address)
	}
}

func (c *stackContract) running(t *testing.T, app string, deployment int64) bool {
	t.Helper()
	running, err := c.Stacks.Running(c.ctx, app, deployment)
	if err != nil {
		t.Fatal(err)
	}
	return running
}

func (c *stackContract) down(t *testing.T, app string) {
	t.Helper()
	if err := c.Stacks.Down(c.ctx, app); err != nil {
		t.Fatalf("down of %s: %v", app, err)
	}
}

func (c *stackContract) listed(t *testing.T, app string) bool {
	t.Helper()
	apps, err := c.Stacks.List(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(apps, app)
}

func stackUpTwice(t *testing.T, c *stackContract) {
	if c.running(t, c.app, 1) || c.listed(t, c.app) {
		t.Fatal("it runs before it was made")
	}
	spec := c.spec(t, c.app, 1, StackServes)
	c.up(t, spec)
	other := c.Other(t, c.app)
	c.up(t, spec)
	if again := c.Other(t, c.app); again != other || other == "" {
		t.Errorf("the other service was %q and is %q: it was started again", other, again)
	}
	if !c.listed(t, c.app) {
		t.Error("the app is not listed")
	}
}

func stackNext(t *testing.T, c *stackContract) {
	first, second := c.spec(t, c.app, 1, StackServes), c.spec(t, c.app, 2, StackServes)
	c.up(t, first)
	other := c.Other(t, c.app)
	c.up(t, second)
	if c.running(t, c.app, 1) {
		t.Error("deployment 1 still runs")
	}
	if again := c.Other(t, c.app); again != other {
		t.Errorf("the other service was %q and is %q: it was started again", other, again)
	}
}

func stackBack(t *testing.T, c *stackContract) {
	first, second := c.spec(t, c.app, 1, StackServes), c.spec(t, c.app, 2, StackServes)
	c.up(t, first)
	c.up(t, second)
	c.up(t, first)
	if c.running(t, c.app, 2) {
		t.Error("deployment 2 still runs")
	}
}

func stackExits(t *testing.T, c *stackContract) {
	serving, exiting := c.spec(t, c.app, 1, StackServes), c.spec(t, c.app, 2, StackExits)
	c.up(t, serving)
	problem := c.problem(t, c.try(c.ctx, exiting))
	if problem != nil && (!strings.Contains(problem.Message, "3") || problem.Hint == "") {
		t.Errorf("%q (%q) does not say the exit code, or no hint", problem.Message, problem.Hint)
	}
	if !strings.Contains(c.log.String(), "line 1") {
		t.Errorf("the log has no line of the service:\n%s", c.log.String())
	}
	if c.running(t, c.app, 2) {
		t.Error("what ended runs")
	}
	c.up(t, serving)
}

func stackRefused(t *testing.T, c *stackContract) {
	serving, refused := c.spec(t, c.app, 1, StackServes), c.spec(t, c.app, 2, StackRefused)
	c.up(t, serving)
	if problem := c.problem(t, c.try(c.ctx, refused)); problem != nil && problem.Hint == "" {
		t.Error("no hint says what to do")
	}
	if !c.running(t, c.app, 1) {
		t.Error("a stack that was refused ended the one that serves")
	}
}

func stackDown(t *testing.T, c *stackContract) {
	spec := c.spec(t, c.app, 1, StackServes)
	c.down(t, c.app)
	c.up(t, spec)
	c.down(t, c.app)
	if c.running(t, c.app, 1) || c.listed(t, c.app) || c.Other(t, c.app) != "" {
		t.Error("something is left of it")
	}
	c.down(t, c.app)
	c.up(t, spec)
}

func stackApps(t *testing.T, c *stackContract) {
	mine, yours := c.spec(t, c.app, 1, StackServes), c.spec(t, c.app+"-b", 1, StackServes)
	c.up(t, mine)
	c.up(t, yours)
	c.down(t, c.app)
	if !c.running(t, c.app+"-b", 1) || !c.listed(t, c.app+"-b") || c.listed(t, c.app) {
		t.Error("taking one app down does not leave exactly the other")
	}
}

func stackTwoAtOnce(t *testing.T, c *stackContract) {
	specs := []store.StackSpec{c.spec(t, c.app, 1, StackServes), c.spec(t, c.app, 2, StackServes)}
	failures := make([]error, len(specs))
	var both sync.WaitGroup
	for i, spec := range specs {
		both.Go(func() { failures[i] = c.Stacks.Up(c.ctx, spec, func(string) {}) })
	}
	both.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	if c.running(t, c.app, 1) == c.running(t, c.app, 2) {
		t.Error("not exactly one of both runs")
	}
}

func stackDead(t *testing.T, c *stackContract) {
	spec := c.spec(t, c.app, 1, StackServes)
	dead, cancel := context.WithCancel(c.ctx)
	cancel()
	if err := c.try(dead, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("up says %v, want that the context was cancelled", err)
	}
	if c.running(t, c.app, 1) {
		t.Error("it was made all the same")
	}
	c.up(t, spec)
	if err := c.Stacks.Down(dead, c.app); !errors.Is(err, context.Canceled) {
		t.Errorf("down says %v, want that the context was cancelled", err)
	}
	if !c.running(t, c.app, 1) {
		t.Error("it was taken down all the same")
	}
	if err := c.Stacks.Stop(dead, c.app); !errors.Is(err, context.Canceled) {
		t.Errorf("stop says %v, want that the context was cancelled", err)
	}
	if !c.running(t, c.app, 1) {
		t.Error("it was stopped all the same")
	}
}

func (c *stackContract) problem(t *testing.T, err error) *store.Problem {
	t.Helper()
	problem, ok := store.AsProblem(err)
	if !ok || problem.Code != store.CodeFailed {
		t.Errorf("got %v, want a problem failed\n%s", err, c.log.String())
		return nil
	}
	t.Logf("%s: %s · %s", problem.Code, problem.Message, problem.Hint)
	return problem
}
