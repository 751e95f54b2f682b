package store

import (
	"slices"
	"sync"
	"testing"
)

func TestEnqueueSupersedesWhatWaitsInTheSameLane(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	others := enqueue(t, s, "other")
	running := claimed(t, s, "hello")
	waiting := enqueue(t, s, "hello")
	newest := enqueue(t, s, "hello")

	want := map[int64]Verdict{others.ID: "", running.ID: "", waiting.ID: Superseded, newest.ID: ""}
	for id, verdict := range want {
		if d := must[Deployment](t)(s.Deployment(t.Context(), id)); d.Verdict != verdict || d.Step.Terminal() != (verdict != "") || d.FinishedAt.IsZero() != (verdict == "") {
			t.Errorf("deployment %d is %s, verdict %q, finished %s; want verdict %q", id, d.Step, d.Verdict, d.FinishedAt, verdict)
		}
	}
	reason := "superseded by deployment " + itoa(newest.ID)
	if d := must[Deployment](t)(s.Deployment(t.Context(), waiting.ID)); d.Reason != reason {
		t.Errorf("reason is %q, want %q", d.Reason, reason)
	}
	if got := texts(t, s, waiting.ID); !slices.Equal(got, []string{"queued asked for by push", "wait behind deployment " + itoa(running.ID), "superseded " + reason}) {
		t.Errorf("its history is %q", got)
	}
	var unfinished []int64
	for _, d := range must[[]Deployment](t)(s.Unfinished(t.Context(), "hello")) {
		unfinished = append(unfinished, d.ID)
	}
	if !slices.Equal(unfinished, []int64{running.ID, newest.ID}) {
		t.Errorf("unfinished: %v", unfinished)
	}
	_, err := s.Enqueue(t.Context(), NewDeployment{App: "none"})
	wantProblem(t, err, CodeNotFound, "none")
}

func TestEnqueueKeepsWhatItWasAsked(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	number := must[int64](t)(s.ReserveDeployment(t.Context()))
	given := must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{ID: number, App: "hello", Trigger: TriggerWebhook, SHA: "3f9c2ab0", Ref: "refs/heads/main",
		Subject: "Add search", Updates: []RefUpdate{{"refs/heads/main", "", "3f9c2ab0"}}, RollbackOf: 7}))
	stored := must[Deployment](t)(s.Deployment(t.Context(), number))
	for _, d := range []Deployment{given, stored} {
		if d.ID != number || d.App != "hello" || d.Trigger != TriggerWebhook || d.SHA != "3f9c2ab0" || d.Ref != "refs/heads/main" || d.Subject != "Add search" ||
			d.RollbackOf != 7 || d.Step != StepQueued || d.Verdict != "" || d.CreatedAt.IsZero() || !d.StartedAt.IsZero() ||
			!slices.Equal(d.Updates, []RefUpdate{{"refs/heads/main", "", "3f9c2ab0"}}) {
			t.Errorf("got %+v", d)
		}
	}
	if next := enqueue(t, s, "hello"); next.ID <= number {
		t.Errorf("number %d follows %d", next.ID, number)
	}
}

// What an image app was asked to deploy is kept from the request to the end.
func TestTheImageThatWasAskedForIsKept(t *testing.T) {
	s := newStore(t)
	must[App](t)(s.CreateApp(t.Context(), App{Name: "hello", Source: SourceImage, Config: []byte(blobOf(SourceImage))}))
	const image = "ghcr.io/acme/web:1.4"
	given := must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerAPI, Image: image, IdempotencyKey: "k"}))
	again := must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerAPI, Image: "other", IdempotencyKey: "k"}))
	d, _, err := s.Claim(t.Context(), "hello")
	check(t, err)
	done := advanceTo(t, s, d, StepDone)
	listed := must[[]Deployment](t)(s.Deployments(t.Context(), "hello", 1))[0]
	for _, got := range []Deployment{given, again, d, done, listed} {
		if got.ID != given.ID || got.Image != image || got.SHA != "" || got.ShortSHA() != "" {
			t.Errorf("got %+v", got)
		}
	}
	if plain := enqueue(t, s, "hello"); plain.Image != "" {
		t.Errorf("nobody asked for %s", plain.Image)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	ask := func(app, key string) int64 {
		t.Helper()
		return must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: app, Trigger: TriggerAPI, IdempotencyKey: key})).ID
	}
	first := ask("hello", "k1")
	if again := ask("hello", "k1"); again != first {
		t.Errorf("the same key gave %d, then %d", first, again)
	}
	if d := must[Deployment](t)(s.Deployment(t.Context(), first)); d.Verdict != "" {
		t.Errorf("repeating the request gave it the verdict %s", d.Verdict)
	}
	second := ask("hello", "k2")
	if other := ask("other", "k1"); second == first || other == first {
		t.Error("another key or another app gave the same deployment")
	}
	if again := ask("hello", "k1"); again != first {
		t.Errorf("once superseded, the key gave %d, not %d", again, first)
	}
	if first, second := ask("hello", ""), ask("hello", ""); first == second {
		t.Error("requests without a key were taken for one")
	}
}

func TestClaimTakesOneAtATime(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	if _, found, err := s.Claim(t.Context(), "hello"); found || err != nil {
		t.Fatalf("an empty lane gave found %t, error %v", found, err)
	}
	first := claimed(t, s, "hello")
	if first.StartedAt.IsZero() || first.Strategy != BlueGreen || first.StrategyReason == "" || first.PreviousLive != 0 {
		t.Errorf("claimed %+v", first)
	}
	second := enqueue(t, s, "hello")
	again, found, err := s.Claim(t.Context(), "hello")
	if err != nil || !found || again.ID != first.ID || !again.StartedAt.Equal(first.StartedAt) {
		t.Fatalf("with one at work claim gives %+v, %t, %v; want %d as it was", again, found, err, first.ID)
	}
	if got := texts(t, s, first.ID); len(got) != 2 {
		t.Errorf("claiming it again wrote into its history: %q", got)
	}
	advanceTo(t, s, first, StepLive) // still at work until it is done
	if again, _, _ := s.Claim(t.Context(), "hello"); again.ID != first.ID {
		t.Errorf("claimed %d before %d was done", again.ID, first.ID)
	}
	advanceTo(t, s, must[Deployment](t)(s.Deployment(t.Context(), first.ID)), StepDone)
	next, found, err := s.Claim(t.Context(), "hello")
	if err != nil || !found || next.ID != second.ID || next.PreviousLive != first.ID {
		t.Errorf("then claim gives %+v, %t, %v; want %d after %d", next, found, err, second.ID, first.ID)
	}
	_, _, err = s.Claim(t.Context(), "none")
	wantProblem(t, err, CodeNotFound)
}

func TestOneActiveDeploymentUnderManyHands(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	var group sync.WaitGroup
	var mu sync.Mutex
	seen := map[int64]bool{}
	for range 50 {
		group.Go(func() {
			if _, err := s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerPush}); err != nil {
				t.Error(err)
			}
			d, found, err := s.Claim(t.Context(), "hello")
			if err != nil || !found {
				t.Errorf("claim: %t, %v", found, err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[d.ID] = true
		})
	}
	group.Wait()
	if len(seen) != 1 {
		t.Errorf("several were at work at a time: %v", seen)
	}
	if all := must[[]Deployment](t)(s.Unfinished(t.Context(), "hello")); len(all) > 2 {
		t.Errorf("%d unfinished, want the active one and the newest", len(all))
	}
}

// TestTheDatabaseItselfKeepsTheLane goes behind the code's back.
func TestTheDatabaseItselfKeepsTheLane(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	claimed(t, s, "hello")
	second, elsewhere := enqueue(t, s, "hello"), enqueue(t, s, "other")
	if _, err := s.write.Exec(`UPDATE deployments SET started_at = 1 WHERE id = ?`, second.ID); err == nil {
		t.Error("two deployments of one app are at work")
	}
	if _, err := s.write.Exec(`UPDATE deployments SET started_at = 1 WHERE id = ?`, elsewhere.ID); err != nil {
		t.Errorf("another app is kept waiting: %v", err)
	}
}

func TestClaimOrderAndAppsAtWork(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "idle")
	first, second := enqueue(t, s, "hello"), enqueue(t, s, "hello")
	_, err := s.write.Exec(`UPDATE deployments SET step = 'queued', verdict = '' WHERE id = ?`, first.ID) // as if not superseded
	check(t, err)
	if d, _, _ := s.Claim(t.Context(), "hello"); d.ID != first.ID {
		t.Errorf("claimed %d, want the oldest, %d before %d", d.ID, first.ID, second.ID)
	}
	if apps := must[[]string](t)(s.AppsAtWork(t.Context())); !slices.Equal(apps, []string{"hello"}) {
		t.Errorf("apps at work: %v", apps)
	}
}

func TestConfigThatIsNoLongerLegalDoesNotBlockTheLane(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := enqueue(t, s, "hello")
	changed, stop := s.Watch(DeploymentTopic(d.ID))
	defer stop()
	_, err := s.write.Exec(`UPDATE apps SET config = '{"of_an_older_version":1}'`)
	check(t, err)
	if got, found, err := s.Claim(t.Context(), "hello"); found || err != nil {
		t.Errorf("claim gives %+v, %t, %v", got, found, err)
	}
	woken(t, changed, "the verdict")
	if d = must[Deployment](t)(s.Deployment(t.Context(), d.ID)); d.Verdict != Failed || d.Step != StepUndone {
		t.Errorf("it is %s with verdict %q and reason %q", d.Step, d.Verdict, d.Reason)
	}
}

func TestForcedStrategyIsSaid(t *testing.T) {
	s := newStore(t)
	must[App](t)(s.CreateApp(t.Context(), App{Name: "hello", Source: SourceStatic, Config: []byte(`{"mode":"deno","storage_enabled":true,"deploy_strategy":"blue-green"}`)}))
	d := claimed(t, s, "hello")
	if d.Strategy != Recreate {
		t.Errorf("strategy %s", d.Strategy)
	}
	got := texts(t, s, d.ID)
	if want := "plan blue-green was asked for and is not possible: " + d.StrategyReason; !slices.Contains(got, want) {
		t.Errorf("history %q does not say %q", got, want)
	}
}

func TestRollbackStartsWithItsRelease(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	old := advanceTo(t, s, claimed(t, s, "hello"), StepDone)
	_, err := s.UpdateApp(t.Context(), App{Name: "hello", Source: SourceDockerfile, Config: []byte(`{"deploy_strategy":"recreate"}`)})
	check(t, err)
	for app, release := range map[string]int64{"hello": 999, "other": old.Release} {
		_, err := s.Enqueue(t.Context(), NewDeployment{App: app, Trigger: TriggerRollback, Release: release})
		wantProblem(t, err, CodeNotFound, "release")
	}
	must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerRollback, Release: old.Release, RollbackOf: old.ID}))
	d, _, err := s.Claim(t.Context(), "hello")
	if err != nil || d.Release != old.Release || d.Strategy != BlueGreen {
		t.Errorf("claimed %+v, %v; want release %d by the strategy of its own config", d, err, old.Release)
	}
	if d = advanceTo(t, s, d, StepBuilt); d.Release != old.Release {
		t.Errorf("built release %d, want %d", d.Release, old.Release)
	}
}

func TestAskCancelAtEveryStep(t *testing.T) {
	for strategy, config := range map[Strategy]string{BlueGreen: `{"deploy_strategy":"blue-green"}`, Recreate: `{"deploy_strategy":"recreate"}`} {
		for _, step := range append(StepsOf(strategy), StepUndoing, StepUndone) {
			t.Run(string(strategy)+" "+string(step), func(t *testing.T) {
				s := newStore(t)
				must[App](t)(s.CreateApp(t.Context(), App{Name: "hello", Source: SourceDockerfile, Config: []byte(config)}))
				d := claimed(t, s, "hello")
				switch step {
				case StepUndoing, StepUndone:
					d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed}))
					if step == StepUndone {
						d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: Failed}))
					}
				default:
					d = advanceTo(t, s, d, step)
				}
				got, err := s.AskCancel(t.Context(), d.ID)
				if d.Step.CanCancel() || d.Step == StepUndoing {
					if err != nil || !got.CancelAsked || got.Step != step || got.Verdict != "" {
						t.Errorf("got %+v, %v", got, err)
					}
					return
				}
				wantProblem(t, err, CodeConflict, "too late", "rollback hello")
				if after := must[Deployment](t)(s.Deployment(t.Context(), d.ID)); after.CancelAsked || after.Verdict != d.Verdict {
					t.Errorf("refused, and yet changed: %+v", after)
				}
			})
		}
	}
}

func TestCancelWhatWaits(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := enqueue(t, s, "hello")
	got := must[Deployment](t)(s.AskCancel(t.Context(), d.ID))
	if got.Verdict != Cancelled || got.Step != StepUndone || got.FinishedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	if lines := texts(t, s, d.ID); lines[len(lines)-1] != "cancelled cancelled before it started" {
		t.Errorf("history %q", lines)
	}
	if _, found, err := s.Claim(t.Context(), "hello"); found || err != nil {
		t.Errorf("a cancelled one was claimed: %t, %v", found, err)
	}
	_, err := s.AskCancel(t.Context(), 999)
	wantProblem(t, err, CodeNotFound, "999")
}

func TestOnPushCancelIsForPushes(t *testing.T) {
	for trigger, cancels := range map[Trigger]bool{TriggerPush: true, TriggerWebhook: true, TriggerCaughtUp: true, TriggerAPI: false, TriggerRollback: false} {
		s := newStore(t)
		must[App](t)(s.CreateApp(t.Context(), App{Name: "eager", Source: SourceDockerfile, Config: []byte(`{"on_push":"cancel"}`)}))
		building := claimed(t, s, "eager")
		must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "eager", Trigger: trigger}))
		if got := must[Deployment](t)(s.Deployment(t.Context(), building.ID)); got.CancelAsked != cancels {
			t.Errorf("%s: asked to cancel what builds: %v", trigger, got.CancelAsked)
		}
	}
}
