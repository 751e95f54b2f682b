package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// collecting is a collector over a real store, whose parts write down what they are told.
func collecting(t *testing.T) (*collector, *[]string) {
	t.Helper()
	opened, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	if _, err := opened.CreateApp(t.Context(), store.App{Name: "blog", Source: store.SourceDockerfile}); err != nil {
		t.Fatal(err)
	}
	var calls []string
	part := func(name string, fault error) collectPart {
		return func(_ context.Context, kept store.Kept, dry bool) ([]store.Garbage, error) {
			if kept.Apps["blog"] == nil {
				t.Errorf("%s is not told that the app is still there", name)
			}
			calls = append(calls, name)
			if dry {
				calls[len(calls)-1] += " dry"
			}
			return []store.Garbage{{Kind: name, Name: "x", Bytes: 1}}, fault
		}
	}
	c := &collector{
		store: opened, logger: slog.New(slog.DiscardHandler), settle: time.Hour, every: time.Hour,
		parts: []collectPart{part("images", errors.New("no engine")), part("refs", nil)},
		strays: func(context.Context, bool) ([]store.Garbage, error) {
			calls = append(calls, "containers")
			return nil, nil
		},
	}
	return c, &calls
}

func TestCollectTakesContainersFirstAndGoesOnAfterAFault(t *testing.T) {
	c, calls := collecting(t)
	found, err := c.collect(t.Context(), false)
	if err == nil || err.Error() != "no engine" {
		t.Errorf("error %v, want the one of the part that failed", err)
	}
	if len(found) != 2 {
		t.Errorf("found %v, want what both parts found", found)
	}
	if want := []string{"containers", "images", "refs"}; !slices.Equal(*calls, want) {
		t.Errorf("calls %v, want %v", *calls, want)
	}
}

func TestCollectDryMarksNothing(t *testing.T) {
	c, calls := collecting(t)
	var pruned bool
	release := oldRelease(t, c.store)
	if _, err := c.collect(t.Context(), true); err == nil {
		t.Error("the fault of a part was lost")
	}
	if want := []string{"containers", "images dry", "refs dry"}; !slices.Equal(*calls, want) {
		t.Errorf("calls %v, want %v", *calls, want)
	}
	if pruned, _ = c.store.Pruned(t.Context(), release); pruned {
		t.Error("a release was marked by a look")
	}
	_, _ = c.collect(t.Context(), false)
	if pruned, _ = c.store.Pruned(t.Context(), release); !pruned {
		t.Error("a release that is not kept was not marked")
	}
}

// oldRelease makes more releases than are kept and gives the first one.
func oldRelease(t *testing.T, s *store.Store) (first int64) {
	t.Helper()
	for range store.KeptReleases + 1 {
		if _, err := s.Enqueue(t.Context(), store.NewDeployment{App: "blog", Trigger: store.TriggerAPI, SHA: "1234567"}); err != nil {
			t.Fatal(err)
		}
		d, _, err := s.Claim(t.Context(), "blog")
		if err != nil {
			t.Fatal(err)
		}
		release := store.Release{App: "blog", Deployment: d.ID, Source: store.SourceDockerfile, Config: []byte("{}"), SealedEnv: []byte("x")}
		if d, err = s.Advance(t.Context(), d, store.StepBuilt, store.Change{Release: &release}); err != nil {
			t.Fatal(err)
		}
		if d, err = s.Advance(t.Context(), d, store.StepUndoing, store.Change{Verdict: store.Failed}); err != nil {
			t.Fatal(err)
		}
		if _, err = s.Advance(t.Context(), d, store.StepUndone, store.Change{Verdict: store.Failed}); err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = release.ID
		}
	}
	return first
}

func TestCollectorWakesAfterAVerdict(t *testing.T) {
	c, _ := collecting(t)
	c.settle = time.Millisecond
	looked := make(chan struct{}, 100)
	c.strays = func(context.Context, bool) ([]store.Garbage, error) {
		looked <- struct{}{}
		return nil, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.run(ctx) }()
	<-looked // the one at the start
	if _, err := c.store.Enqueue(ctx, store.NewDeployment{App: "blog", Trigger: store.TriggerAPI, SHA: "1234567"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-looked:
	case <-time.After(time.Minute):
		t.Error("nothing was looked at after a change")
	}
	stop()
	<-ended
}
