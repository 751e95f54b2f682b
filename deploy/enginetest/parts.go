package enginetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func startTwice(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	events := c.watch(t, spec.Name)
	c.start(t, spec)
	c.expect(t, spec.Name+" running")
	if !c.Answers(t, spec.Address) {
		t.Fatalf("nothing answers at %s", spec.Address)
	}
	events.none(t)
}

func stopAndStart(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	c.stop(t, spec)
	c.expect(t, spec.Name+" stopped")
	c.stop(t, spec)
	c.start(t, spec)
	c.expect(t, spec.Name+" running")
	if !c.Answers(t, spec.Address) {
		t.Fatalf("nothing answers at %s after the second start", spec.Address)
	}
}

func missing(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.stop(t, spec)
	c.remove(t, spec)
	c.expect(t)
}

func removed(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	c.remove(t, spec)
	c.remove(t, spec)
	c.expect(t)
	c.start(t, spec)
	c.expect(t, spec.Name+" running")
}

func listByApp(t *testing.T, c *contract) {
	mine := c.spec(t, 1, c.Serving)
	other := c.spec(t, 2, c.Serving)
	other.App = c.app + "-b"
	c.start(t, mine)
	c.start(t, other)
	c.expect(t, mine.Name+" running")
	all := c.listed(t, "")
	for _, wanted := range []string{mine.Name + " running", other.Name + " running"} {
		if !slices.Contains(all, wanted) {
			t.Errorf("all apps list %q, without %q", all, wanted)
		}
	}
}

func coexist(t *testing.T, c *contract) {
	old, next := c.spec(t, 1, c.Serving), c.spec(t, 2, c.Serving)
	c.start(t, old)
	c.start(t, next)
	c.expect(t, old.Name+" running", next.Name+" running")
	if !c.Answers(t, old.Address) || !c.Answers(t, next.Address) {
		t.Fatal("one of two deployments does not answer")
	}
	c.stop(t, old)
	c.remove(t, old)
	c.expect(t, next.Name+" running")
	if !c.Answers(t, next.Address) {
		t.Fatal("the second deployment no longer answers when the first is gone")
	}
}

func addressTaken(t *testing.T, c *contract) {
	first, second := c.spec(t, 1, c.Serving), c.spec(t, 2, c.Serving)
	second.Address = first.Address
	c.start(t, first)
	c.problem(t, c.Engine.Start(c.ctx, second), store.CodeErrored)
	c.remove(t, second)
	if !c.Answers(t, first.Address) {
		t.Fatal("the container that has the address no longer answers")
	}
}

func foreign(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	untouched := c.Foreign(t, spec.Name)
	c.problem(t, c.Engine.Start(c.ctx, spec), store.CodeErrored)
	c.problem(t, c.Engine.Stop(c.ctx, spec.Name, time.Second), store.CodeErrored)
	c.problem(t, c.Engine.Remove(c.ctx, spec.Name), store.CodeErrored)
	if _, err := c.Engine.Diagnose(c.ctx, spec.Name, 1); err == nil {
		t.Error("somebody else's log was read")
	}
	c.expect(t)
	if !untouched() {
		t.Fatal("somebody else's container was touched")
	}
}

func imitation(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	other := spec.Name + "-kept"
	untouched := c.Imitation(t, spec, other)
	c.expect(t, spec.Name+" running")
	if all := c.listed(t, ""); slices.ContainsFunc(all, func(one string) bool { return strings.HasPrefix(one, other) }) {
		t.Errorf("all apps list %q", all)
	}
	claim := spec
	claim.Name = other
	c.problem(t, c.Engine.Start(c.ctx, claim), store.CodeErrored)
	c.problem(t, c.Engine.Stop(c.ctx, other, time.Second), store.CodeErrored)
	c.problem(t, c.Engine.Remove(c.ctx, other), store.CodeErrored)
	if _, err := c.Engine.Diagnose(c.ctx, other, 1); err == nil {
		t.Error("somebody else's log was read")
	}
	c.remove(t, spec)
	c.expect(t)
	if !untouched() {
		t.Fatal("somebody else's container was touched")
	}
}

func otherDeployment(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	claim := spec
	claim.Deployment = 2
	c.problem(t, c.Engine.Start(c.ctx, claim), store.CodeErrored)
	c.expect(t, spec.Name+" running")
}

func unknownImage(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Missing)
	problem := c.problem(t, c.Engine.Start(c.ctx, spec), store.CodeFailed)
	if problem != nil && problem.Hint == "" {
		t.Error("no hint says what to do")
	}
	c.expect(t)
}

func deadContext(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	dead, cancel := context.WithCancel(c.ctx)
	cancel()
	if err := c.Engine.Start(dead, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("start says %v, want that the context was cancelled", err)
	}
	c.expect(t)
	c.start(t, spec)
	if err := c.Engine.Remove(dead, spec.Name); !errors.Is(err, context.Canceled) {
		t.Errorf("remove says %v, want that the context was cancelled", err)
	}
	c.expect(t, spec.Name+" running")
}

func diagnoseExit(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Exiting)
	events := c.watch(t, spec.Name)
	c.start(t, spec)
	events.next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
	diagnosis, err := c.Engine.Diagnose(c.ctx, spec.Name, 1)
	if err != nil {
		t.Fatal(err)
	}
	if diagnosis.ExitCode != 3 || diagnosis.OOMKilled || len(diagnosis.Log) != 1 || diagnosis.Log[0] == "" {
		t.Errorf("diagnosis %+v, want exit code 3 and one line of log", diagnosis)
	}
}

func diagnoseRunning(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	if !c.Answers(t, spec.Address) {
		t.Fatal("nothing answers")
	}
	diagnosis, err := c.Engine.Diagnose(c.ctx, spec.Name, 50)
	if err != nil {
		t.Fatal(err)
	}
	if !diagnosis.Running || diagnosis.ExitCode != 0 || len(diagnosis.Log) == 0 {
		t.Errorf("diagnosis %+v, want it running with a log", diagnosis)
	}
	if diagnosis.Listening == nil {
		t.Log("this engine does not show sockets")
	} else if len(diagnosis.Listening) != 1 || diagnosis.Listening[0].Port() != 8080 {
		t.Errorf("listening on %v, want port 8080", diagnosis.Listening)
	}
}

func diagnoseGone(t *testing.T, c *contract) {
	_, err := c.Engine.Diagnose(c.ctx, c.app+"-9", 50)
	c.problem(t, err, store.CodeErrored)
}

func (c *contract) problem(t *testing.T, err error, code store.Code) *store.Problem {
	t.Helper()
	problem, ok := store.AsProblem(err)
	if !ok || problem.Code != code {
		t.Errorf("got %v, want a problem %s", err, code)
		return nil
	}
	t.Logf("%s: %s · %s", problem.Code, problem.Message, problem.Hint)
	return problem
}
