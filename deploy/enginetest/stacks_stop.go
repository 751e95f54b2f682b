package enginetest

import (
	"slices"
	"testing"
)

func (c *stackContract) stop(t *testing.T) {
	t.Helper()
	if err := c.Stacks.Stop(c.ctx, c.app); err != nil {
		t.Fatalf("stop of %s: %v", c.app, err)
	}
	if c.running(t, c.app, 1) {
		t.Fatal("the stack was stopped and runs")
	}
}

func stackStop(t *testing.T, c *stackContract) {
	spec := c.spec(t, c.app, 1, StackServes)
	c.up(t, spec)
	kept, other := c.Kept(t, c.app), c.Other(t, c.app)
	if len(kept) == 0 {
		t.Fatal("the stack has no containers")
	}
	for range 2 { // the second one has nothing to do
		c.stop(t)
		if still := c.Other(t, c.app); still != "" {
			t.Errorf("the other service still runs: %s", still)
		}
		if !c.listed(t, c.app) {
			t.Error("the stopped app is not listed")
		}
		if now := c.Kept(t, c.app); !slices.Equal(now, kept) {
			t.Errorf("after the stop there is %q, want %q", now, kept)
		}
	}
	c.up(t, spec)
	if now := c.Kept(t, c.app); !slices.Equal(now, kept) {
		t.Errorf("after the start there is %q, want %q", now, kept)
	}
	if again := c.Other(t, c.app); again == "" || again == other {
		t.Errorf("the other service was %q and is %q: it was not started again", other, again)
	}
}

func stackStopMissing(t *testing.T, c *stackContract) {
	c.stop(t)
	c.up(t, c.spec(t, c.app, 1, StackServes))
	c.down(t, c.app)
	c.stop(t)
	if c.listed(t, c.app) {
		t.Error("the stop of a missing stack has made one")
	}
}

func stackStopGrace(t *testing.T, c *stackContract) {
	spec := c.spec(t, c.app, 1, StackIgnores)
	c.up(t, spec)
	answered := c.Busy(t, spec.Address)
	c.stop(t)
	if !answered() {
		t.Error("the request that was under way got no answer: its service was killed before its grace was over")
	}
	if routed, other := c.ExitCodes(t, c.app, 1); routed != 0 || other != 137 {
		t.Errorf("the services ended with %d and %d, want 0 of the one that heeds the signal and 137 of the one that was killed", routed, other)
	}
}
