package enginetest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Commands is the running of release commands, as the deployment runner needs it.
type Commands interface {
	Run(ctx context.Context, spec store.ContainerSpec, log func(line string)) (exitCode int, err error)
}

// CommandHarness is an engine under test with commands for it.
type CommandHarness struct {
	Engine   Engine
	Commands Commands
	ServerID string // of the server that the engine works for
	// Quick has the spec write "line 1" and "line 2" and exit with 3.
	Quick func(spec *store.ContainerSpec)
	// Waiting has the spec write "line 1" and "line 2" and go on until it is asked to stop, whereupon it exits with 0.
	Waiting func(spec *store.ContainerSpec)
	// Missing is an image id that is not there.
	Missing string
	// Finish asks a waiting command to stop, as nobody of ours does.
	Finish func(t *testing.T, name string)
	// Foreign puts a running container of somebody else's under this name, and says later whether it still runs.
	Foreign func(t *testing.T, name string) (untouched func() bool)
}

// RunCommands holds an engine to the contract of release commands. Each part gets a harness of its own.
func RunCommands(t *testing.T, harness func(t *testing.T) CommandHarness) {
	parts := []struct {
		name string
		part func(t *testing.T, c *commands)
	}{
		{"a command gives its exit code and its lines", runOnce},
		{"a command that has ended is not run again", runAgain},
		{"lines come while the command runs", runLive},
		{"a command is told apart from what serves", runRole},
		{"the server leaves a command to its next process", runLeft},
		{"a command ends at its deadline", runDeadline},
		{"a command ends when it is cancelled", runCancelled},
		{"a dead context runs nothing", runDead},
		{"a removed command has no exit code", runRemoved},
		{"a foreign container is not run", runForeign},
		{"a container that serves is not run", runServing},
		{"an image that is gone is the user's to deploy again", runMissing},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			p.part(t, &commands{CommandHarness: harness(t), ctx: ctx, app: "r" + strings.ToLower(rand.Text()[:10])})
		})
	}
}

// commands is one part's view: a fresh app name.
type commands struct {
	CommandHarness
	ctx context.Context
	app string
}

// spec is that of the app's first deployment, whose command is what the harness says.
func (c *commands) spec(t *testing.T, is func(spec *store.ContainerSpec)) store.ContainerSpec {
	t.Helper()
	spec := store.ContainerSpec{
		Name: store.CommandName(c.ServerID, c.app, 1), App: c.app, Deployment: 1, Role: store.RoleCommand, Port: 8080,
		Command: []string{"/release"}, Env: []string{"PORT=8080"},
	}
	is(&spec)
	t.Cleanup(func() {
		err := c.Engine.Remove(context.WithoutCancel(c.ctx), spec.Name)
		if err != nil && !strings.Contains(err.Error(), "left alone") {
			t.Errorf("clean up: %v", err)
		}
	})
	return spec
}

// ran is one Run of a command.
type ran struct {
	mu    sync.Mutex
	lines []string
	came  chan struct{} // a line
	ended chan struct{}
	code  int
	err   error
}

func (c *commands) begin(ctx context.Context, spec store.ContainerSpec) *ran {
	r := &ran{came: make(chan struct{}, 100), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.code, r.err = c.Commands.Run(ctx, spec, func(line string) {
			r.mu.Lock()
			r.lines = append(r.lines, line)
			r.mu.Unlock()
			r.came <- struct{}{}
		})
	}()
	return r
}

func (c *commands) run(t *testing.T, spec store.ContainerSpec) *ran {
	t.Helper()
	r := c.begin(c.ctx, spec)
	r.await(t)
	return r
}

func (r *ran) await(t *testing.T) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		t.Fatal("the command does not end")
	}
}

// numbered gives the lines "line 1", "line 2" and so on, which may have come through different streams.
func (r *ran) numbered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := slices.DeleteFunc(slices.Clone(r.lines), func(line string) bool { return !strings.HasPrefix(line, "line ") })
	slices.Sort(lines)
	return lines
}

// awaitLines waits for both lines of the command.
func (r *ran) awaitLines(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for !slices.Equal(r.numbered(), bothLines) {
		select {
		case <-r.came:
		case <-r.ended:
			t.Fatalf("the command ended with %d, %v", r.code, r.err)
		case <-deadline:
			t.Fatalf("got %q while the command runs, want %q", r.numbered(), bothLines)
		}
	}
}

var bothLines = []string{"line 1", "line 2"}

func (r *ran) expect(t *testing.T, code int) {
	t.Helper()
	if r.err != nil || r.code != code {
		t.Errorf("the command gives %d, %v, want %d", r.code, r.err, code)
	}
	if !slices.Equal(r.numbered(), bothLines) {
		t.Errorf("lines %q, want %q", r.numbered(), bothLines)
	}
}

// listed gives the app's one container.
func (c *commands) listed(t *testing.T) store.Container {
	t.Helper()
	containers, err := c.Engine.List(c.ctx, c.app)
	if err != nil || len(containers) != 1 {
		t.Fatalf("listed %+v, %v, want one container", containers, err)
	}
	return containers[0]
}

func runOnce(t *testing.T, c *commands) {
	c.run(t, c.spec(t, c.Quick)).expect(t, 3)
	if c.listed(t).Running {
		t.Error("the command that has ended is listed as running")
	}
}

func runAgain(t *testing.T, c *commands) {
	spec := c.spec(t, c.Quick)
	for range 2 {
		c.run(t, spec).expect(t, 3) // run anew, it would have written its lines twice
	}
}

func runLive(t *testing.T, c *commands) {
	spec := c.spec(t, c.Waiting)
	first := c.begin(c.ctx, spec)
	first.awaitLines(t)
	second := c.begin(c.ctx, spec) // and to one that comes later, from the first
	second.awaitLines(t)
	c.Finish(t, spec.Name)
	for _, r := range []*ran{first, second} {
		r.await(t)
		r.expect(t, 0)
	}
}

func runRole(t *testing.T, c *commands) {
	spec := c.spec(t, c.Quick)
	c.run(t, spec)
	wanted := store.Container{Name: spec.Name, App: c.app, Deployment: 1, Role: store.RoleCommand}
	if listed := c.listed(t); listed != wanted {
		t.Errorf("listed %+v, want %+v", listed, wanted)
	}
}

func runLeft(t *testing.T, c *commands) {
	spec := c.spec(t, c.Waiting)
	ctx, cancel := context.WithCancel(c.ctx)
	left := c.begin(ctx, spec)
	left.awaitLines(t)
	cancel()
	left.await(t)
	if !errors.Is(left.err, context.Canceled) {
		t.Errorf("got %d, %v, want that the context was cancelled", left.code, left.err)
	}
	if !c.listed(t).Running {
		t.Fatal("the command was stopped with the server")
	}
	later := c.begin(c.ctx, spec)
	later.awaitLines(t)
	c.Finish(t, spec.Name)
	later.await(t)
	later.expect(t, 0)
}
