package dockerengine

import (
	"context"
	"testing"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

// TestEngineKilled: the loss of the engine is told, and so is its return, after which what it ended is seen and starts again.
func TestEngineKilled(t *testing.T) {
	own := enginetest.StartOwnEngine(t, "unshare", "--net")
	t.Setenv("DOCKER_HOST", "unix://"+own.Socket())
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	spec := l.spec(t)
	spec.KeepRunning = true
	if err := l.Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	changes := l.Changes(ctx)
	told := func(lost bool) {
		t.Helper()
		for {
			select {
			case change, open := <-changes:
				if !open {
					t.Fatal("the engine tells no more")
				}
				if change.Lost == lost && change.App == "" {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nothing is told (lost: %t)", lost)
			}
		}
	}
	told(false)
	own.Kill()
	told(true)
	own.Start(t)
	told(false)
	states, err := l.States(ctx, spec.App)
	if err != nil || len(states) != 1 {
		t.Fatalf("states %+v, %v", states, err)
	}
	t.Logf("after the engine's return it is %s", states[0].State)
	if err := l.Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	if states, err = l.States(ctx, spec.App); err != nil || states[0].State != store.RunRunning || !states[0].Keep {
		t.Errorf("states %+v, %v", states, err)
	}
}
