package store

import (
	"slices"
	"testing"
	"time"
)

func TestWarmContainers(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	pool := AddressPool{FirstPort: 20000, LastPort: 20010}
	first := must[Deployment](t)(s.PlaceContainer(t.Context(), served(t, s, "hello"), pool, 80))
	second, other := served(t, s, "hello"), served(t, s, "other")
	now := time.Now().Truncate(time.Microsecond)
	check(t, s.KeepWarm(t.Context(), first.ID, now.Add(time.Hour)))
	check(t, s.KeepWarm(t.Context(), second.ID, now.Add(time.Minute)))
	check(t, s.KeepWarm(t.Context(), other.ID, now.Add(2*time.Minute)))

	wantWarm(t, s, "", second.ID, other.ID, first.ID)
	wantWarm(t, s, "hello", second.ID, first.ID)
	wantWarm(t, s, "other", other.ID)
	wantWarm(t, s, "none")
	warm := must[[]WarmContainer](t)(s.Warm(t.Context(), "hello"))[1]
	if !warm.Until.Equal(now.Add(time.Hour)) || warm.Deployment.Container != first.Container || warm.Deployment.Address != first.Address || warm.Deployment.Release != first.Release || first.Address == "" {
		t.Errorf("warm is %+v, want what %+v was started for", warm, first)
	}
	check(t, s.KeepWarm(t.Context(), first.ID, now.Add(time.Second))) // again: its time is another one
	wantWarm(t, s, "hello", first.ID, second.ID)
	for _, ended := range []bool{true, false} { // only one that asks gets it
		if got := must[bool](t)(s.EndWarm(t.Context(), first.ID)); got != ended {
			t.Errorf("ended: %t, want %t", got, ended)
		}
	}
	wantWarm(t, s, "hello", second.ID)
	if err := s.KeepWarm(t.Context(), 999, now); err == nil {
		t.Error("the container of no deployment is kept")
	}
	check(t, s.DestroyApp(t.Context(), "hello"))
	wantWarm(t, s, "", other.ID)
}

func wantWarm(t *testing.T, s *Store, app string, want ...int64) {
	t.Helper()
	var got []int64
	for _, warm := range must[[]WarmContainer](t)(s.Warm(t.Context(), app)) {
		got = append(got, warm.Deployment.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("warm of %q are %v, want %v", app, got, want)
	}
}

// A rollback takes the warm container over with its name and address, once, and nobody else gets the address meanwhile.
func TestAWarmContainerIsTakenOverOnce(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	pool := AddressPool{FirstPort: 20000, LastPort: 20001}
	old := must[Deployment](t)(s.PlaceContainer(t.Context(), served(t, s, "hello"), pool, 80))
	check(t, s.KeepWarm(t.Context(), old.ID, time.Now().Add(time.Hour)))
	check(t, s.FreeAddresses(t.Context(), "hello", 0)) // what is kept warm keeps it
	next := must[Deployment](t)(s.PlaceContainer(t.Context(), served(t, s, "hello"), pool, 80))
	if next.Address == old.Address {
		t.Fatalf("the address %s was given away", old.Address)
	}
	warm := must[[]WarmContainer](t)(s.Warm(t.Context(), "hello"))[0]
	back := rolledBack(t, s, old)
	taken, ok, err := s.TakeWarm(t.Context(), back, warm)
	if err != nil || !ok || taken.ID != back.ID || taken.Container != old.Container || taken.Address != old.Address || taken.Step != back.Step {
		t.Errorf("taken is %+v, %t, %v", taken, ok, err)
	}
	wantWarm(t, s, "hello")
	if again, ok, err := s.TakeWarm(t.Context(), next, warm); ok || err != nil || again.ID != 0 {
		t.Errorf("taken again: %+v, %t, %v", again, ok, err)
	}
	if got := must[Deployment](t)(s.Deployment(t.Context(), next.ID)); got.Container != next.Container || got.Address != next.Address {
		t.Errorf("who came too late is %+v", got)
	}
	check(t, s.FreeAddress(t.Context(), old.ID)) // it is not its own any more
	_, err = s.PlaceContainer(t.Context(), claimedOf(t, s, "other"), pool, 80)
	wantProblem(t, err, CodeErrored, "address")
	check(t, s.FreeAddress(t.Context(), back.ID))
	if placed := must[Deployment](t)(s.PlaceContainer(t.Context(), claimedOf(t, s, "third"), pool, 80)); placed.Address != old.Address {
		t.Errorf("placed at %s, want %s", placed.Address, old.Address)
	}
}

func claimedOf(t *testing.T, s *Store, app string) Deployment {
	t.Helper()
	newApp(t, s, app)
	return claimed(t, s, app)
}
