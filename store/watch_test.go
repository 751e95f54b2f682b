package store

import "testing"

func TestEveryChangeWakesItsWatchers(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	number := must[int64](t)(s.ReserveDeployment(t.Context()))
	changed, stop := s.Watch(DeploymentTopic(number))
	defer stop()
	queue, stopQueue := s.Watch(QueueTopic)
	defer stopQueue()
	var d Deployment
	step := func(to Step, change Change) func() error {
		return func() (err error) {
			d, err = s.Advance(t.Context(), d, to, change)
			return err
		}
	}
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"enqueue", func() error {
			_, err := s.Enqueue(t.Context(), NewDeployment{ID: number, App: "hello", Trigger: TriggerPush})
			return err
		}},
		{"claim", func() (err error) { d, _, err = s.Claim(t.Context(), "hello"); return err }},
		{"log", func() error { return s.Log(t.Context(), number, Event{Kind: "log"}) }},
		{"advance", step(StepBuilt, Change{})},
		{"cancel", func() error { _, err := s.AskCancel(t.Context(), number); return err }},
		{"undo", step(StepUndoing, Change{Verdict: Cancelled})},
		{"verdict", step(StepUndone, Change{Verdict: Cancelled})},
		{"destroy", func() error { return s.DestroyApp(t.Context(), "hello") }},
	} {
		check(t, c.do())
		woken(t, changed, c.what)
		if c.what == "enqueue" {
			woken(t, queue, c.what)
		}
	}
}

func TestSupersededAndCancelledInTheQueueWake(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	first := enqueue(t, s, "hello")
	changed, stop := s.Watch(DeploymentTopic(first.ID))
	defer stop()
	second := enqueue(t, s, "hello")
	woken(t, changed, "being superseded")
	changed, stop = s.Watch(DeploymentTopic(second.ID))
	defer stop()
	_, err := s.AskCancel(t.Context(), second.ID)
	check(t, err)
	woken(t, changed, "being cancelled")
}

func TestWatchHoldsOneTokenAndStopFrees(t *testing.T) {
	s := newStore(t)
	all := lanes(t, s, 2)
	topic := DeploymentTopic(all[0].ID)
	mine, stopMine := s.Watch(topic)
	yours, stopYours := s.Watch(topic)
	for range 3 {
		check(t, s.Log(t.Context(), all[0].ID, Event{Kind: "log"}))
	}
	check(t, s.Log(t.Context(), all[1].ID, Event{Kind: "log"}))
	if len(mine) != 1 || len(yours) != 1 {
		t.Fatalf("tokens: %d and %d, want 1 and 1", len(mine), len(yours))
	}
	<-mine
	<-yours
	check(t, s.Log(t.Context(), all[1].ID, Event{Kind: "log"}))
	if len(mine) != 0 {
		t.Error("another deployment's change woke this one's watcher")
	}
	stopMine()
	check(t, s.Log(t.Context(), all[0].ID, Event{Kind: "log"}))
	if len(mine) != 0 || len(yours) != 1 {
		t.Errorf("after stop: tokens %d and %d, want 0 and 1", len(mine), len(yours))
	}
	stopMine()
	stopYours()
	if len(s.watchers.topics) != 0 {
		t.Errorf("topics left behind: %v", s.watchers.topics)
	}
}
