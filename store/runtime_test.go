package store

import (
	"testing"
	"time"
)

func TestStoppedAppIsStartedByANewerDeployment(t *testing.T) {
	ctx := t.Context()
	s := newStore(t)
	newApp(t, s, "hello")
	before, err := s.Enqueue(ctx, NewDeployment{App: "hello", Trigger: TriggerPush, SHA: "a", Ref: "refs/heads/main"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StopApp(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	after, err := s.Enqueue(ctx, NewDeployment{App: "hello", Trigger: TriggerPush, SHA: "b", Ref: "refs/heads/main"})
	if err != nil {
		t.Fatal(err)
	}
	app, err := s.App(ctx, "hello")
	if err != nil {
		t.Fatal(err)
	}
	if !app.Stopped(before.ID) || app.Stopped(after.ID) || app.Stopped(0) || app.StoppedAt.IsZero() {
		t.Errorf("stopped after %d at %s, deployments %d and %d", app.StoppedAfter, app.StoppedAt, before.ID, after.ID)
	}
	if _, err := s.UpdateApp(ctx, app); err != nil {
		t.Fatal(err)
	}
	if app, _ = s.App(ctx, "hello"); !app.Stopped(before.ID) {
		t.Error("a change of the config starts the app")
	}
	if err := s.StartApp(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	if app, _ = s.App(ctx, "hello"); app.Stopped(before.ID) || !app.StoppedAt.IsZero() {
		t.Error("a started app is stopped")
	}
}

func TestContainerStatesKeepWhenTheyBegan(t *testing.T) {
	ctx := t.Context()
	s := newStore(t)
	newApp(t, s, "hello")
	began := time.Now().UTC().Truncate(time.Microsecond)
	set := func(states ...ContainerState) []ContainerState {
		t.Helper()
		changed, err := s.SetContainerStates(ctx, "hello", states)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	running := ContainerState{Container: "hello-1", Deployment: 1, Routed: true, State: RunRunning, Since: began}
	if changed := set(running); len(changed) != 1 {
		t.Errorf("changed %+v", changed)
	}
	later := running
	later.Since = began.Add(time.Hour)
	if changed := set(later); len(changed) != 0 {
		t.Errorf("nothing happened, and %+v changed", changed)
	}
	ended := later
	ended.State, ended.ExitCode = RunExited, 3
	if changed := set(ended, ContainerState{Container: "db-1", Deployment: 1, Service: "db", State: RunRunning, Since: began}); len(changed) != 2 {
		t.Errorf("changed %+v", changed)
	}
	states, err := s.ContainerStates(ctx, "")
	if err != nil || len(states) != 2 || states[0].Container != "hello-1" || states[0].ExitCode != 3 || !states[0].Since.Equal(ended.Since) {
		t.Errorf("states %+v, %v", states, err)
	}
	if changed := set(); len(changed) != 0 {
		t.Errorf("changed %+v", changed)
	}
	if states, _ = s.ContainerStates(ctx, "hello"); len(states) != 0 {
		t.Errorf("left %+v", states)
	}
}

func TestDestroyedAppsAreRemembered(t *testing.T) {
	ctx := t.Context()
	s := newStore(t)
	for _, want := range []bool{false, true} {
		newApp(t, s, "hello")
		if destroyed, err := s.Destroyed(ctx, "hello"); destroyed || err != nil {
			t.Errorf("an app that exists was destroyed: %v", err)
		}
		if want {
			break
		}
		if err := s.DestroyApp(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
		if destroyed, err := s.Destroyed(ctx, "hello"); !destroyed || err != nil {
			t.Errorf("a destroyed app is forgotten: %v", err)
		}
	}
}
