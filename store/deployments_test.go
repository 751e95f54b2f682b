package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
)

func TestAdvanceIsCompareAndSwap(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	stale := claimed(t, s, "hello")
	d := advanceTo(t, s, stale, StepBuilt)
	before := texts(t, s, d.ID)
	_, err := s.Advance(t.Context(), stale, StepBuilt, Change{Release: &Release{Source: SourceDockerfile, SealedEnv: []byte("x")}, Events: []Event{{Kind: "note", Text: "never"}}})
	if !errors.Is(err, ErrMoved) {
		t.Errorf("a stale copy gives %v, want ErrMoved", err)
	}
	if got := must[Deployment](t)(s.Deployment(t.Context(), d.ID)); got.Step != StepBuilt || got.Release != d.Release || !slices.Equal(texts(t, s, d.ID), before) {
		t.Errorf("a stale copy changed %+v to %+v", d, got)
	}
	if _, err := s.Advance(t.Context(), d, StepHealthy, Change{}); err == nil || errors.Is(err, ErrMoved) {
		t.Errorf("a step that does not follow gives %v", err)
	}
}

func TestOneOfManyRacersAdvances(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := advanceTo(t, s, claimed(t, s, "hello"), StepBuilt)
	for _, to := range []Step{StepStarted, StepHealthy, StepRouted} {
		var group sync.WaitGroup
		errs := make([]error, 10)
		for i := range errs {
			group.Go(func() { _, errs[i] = s.Advance(t.Context(), d, to, Change{}) })
		}
		group.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, ErrMoved) {
				t.Errorf("a loser got %v, want ErrMoved", err)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d advanced to %s", won, len(errs), to)
		}
		d = must[Deployment](t)(s.Deployment(t.Context(), d.ID))
	}
}

func TestOnlyAClaimedDeploymentAdvances(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	waiting := enqueue(t, s, "hello")
	if _, err := s.Advance(t.Context(), waiting, StepBuilt, Change{}); !errors.Is(err, ErrMoved) {
		t.Errorf("one that waits gives %v, want ErrMoved", err)
	}
	if _, _, err := s.Claim(t.Context(), "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Advance(t.Context(), waiting, StepBuilt, Change{}); !errors.Is(err, ErrMoved) {
		t.Errorf("a copy from before the claim, with no strategy, gives %v, want ErrMoved", err)
	}
}

func TestVerdictsOnlyWhereTheyBelong(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := claimed(t, s, "hello")
	if _, err := s.Advance(t.Context(), d, StepBuilt, Change{Verdict: Succeeded}); err == nil {
		t.Error("a verdict was taken at built")
	}
	if _, err := s.Advance(t.Context(), d, StepUndoing, Change{}); err == nil {
		t.Error("undoing began without the verdict to come")
	}
	d = advanceTo(t, s, d, StepRouted)
	if _, err := s.Advance(t.Context(), d, StepLive, Change{}); err == nil {
		t.Error("live without a verdict")
	}
}

// The commit's own file may change the strategy once the commit is known: the next steps are those of the new one.
func TestAPlanAtBuiltChangesTheStepsThatFollow(t *testing.T) {
	for from, to := range map[Strategy]Strategy{BlueGreen: Recreate, Recreate: BlueGreen, "": BlueGreen} {
		s := newStore(t)
		must[App](t)(s.CreateApp(t.Context(), App{Name: "hello", Source: SourceDockerfile, Config: []byte(blobOf(SourceDockerfile, `"deploy_strategy":"`+string(from)+`"`))}))
		claimed := claimed(t, s, "hello")
		change := usualChange(t, s, claimed, StepBuilt)
		change.Plan = &Plan{Strategy: to, Reason: "shipgate.yaml says so"}
		d := must[Deployment](t)(s.Advance(t.Context(), claimed, StepBuilt, change))
		if d.Strategy != to || d.StrategyReason != "shipgate.yaml says so" || d.Step != StepBuilt {
			t.Errorf("from %q it is %+v", from, d)
		}
		if stored := must[Deployment](t)(s.Deployment(t.Context(), d.ID)); stored.Strategy != to || stored.StrategyReason != d.StrategyReason {
			t.Errorf("from %q stored is %+v", from, stored)
		}
		steps := StepsOf(to)
		other := map[Strategy]Step{Recreate: StepStarted, BlueGreen: StepHeld}[to]
		if _, err := s.Advance(t.Context(), d, other, Change{}); err == nil {
			t.Errorf("%s follows built, of a %s that was %q", other, to, from)
		}
		stale := d
		stale.Strategy = map[Strategy]Strategy{Recreate: BlueGreen, BlueGreen: Recreate}[to]
		if _, err := s.Advance(t.Context(), stale, other, Change{}); !errors.Is(err, ErrMoved) {
			t.Errorf("a copy with the strategy from before gives %v, want ErrMoved", err)
		}
		for _, step := range steps[slices.Index(steps, StepBuilt)+1:] {
			d = must[Deployment](t)(s.Advance(t.Context(), d, step, usualChange(t, s, d, step)))
		}
		if d.Step != StepDone || d.Verdict != Succeeded || d.Strategy != to {
			t.Errorf("from %q it ends as %+v", from, d)
		}
	}
}

func TestAPlanBelongsToBuilt(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := claimed(t, s, "hello")
	plan := &Plan{Strategy: Recreate}
	if _, err := s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed, Plan: plan}); err == nil {
		t.Error("a plan was taken at undoing")
	}
	d = advanceTo(t, s, d, StepBuilt)
	if _, err := s.Advance(t.Context(), d, StepStarted, Change{Plan: plan}); err == nil {
		t.Error("a plan was taken at started")
	}
	if got := must[Deployment](t)(s.Deployment(t.Context(), d.ID)); got.Strategy != BlueGreen || got.Step != StepBuilt {
		t.Errorf("refused, and yet it is %+v", got)
	}
}

func TestArtefactsComeBackAsTheyWere(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	for _, artefact := range []Artefact{
		{Image: "sha256:1c9e", ImageTag: "shipgate/hello:1", Digest: "ghcr.io/acme/web@sha256:77", Port: 8080},
		{Site: "hello/2"}, {Stack: "hello/3", Port: 80},
	} {
		d := claimed(t, s, "hello")
		release := &Release{Source: SourceImage, Config: []byte(`{"image":"a"}`), SealedEnv: []byte("x"), Artefact: artefact}
		d = must[Deployment](t)(s.Advance(t.Context(), d, StepBuilt, Change{Release: release}))
		got := must[Release](t)(s.Release(t.Context(), d.Release))
		if got.Artefact != artefact || got.Source != SourceImage || string(got.Config) != `{"image":"a"}` || got.App != "hello" || got.Deployment != d.ID || got.ID != release.ID {
			t.Errorf("got %+v, want %+v", got, release)
		}
		advanceTo(t, s, d, StepDone)
	}
}

func TestUndoingKeepsTheVerdictToCome(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := advanceTo(t, s, claimed(t, s, "hello"), StepStarted)
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed, Reason: "health check failed", Hint: "shipgate logs"}))
	if d.Verdict != "" || d.Pending != Failed || d.Reason != "health check failed" || d.Hint != "shipgate logs" || !d.FinishedAt.IsZero() {
		t.Errorf("undoing: %+v", d)
	}
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: d.Pending, Reason: d.Reason, Hint: d.Hint}))
	if d.Verdict != Failed || d.Reason != "health check failed" || d.FinishedAt.IsZero() || !d.Step.Terminal() {
		t.Errorf("undone: %+v", d)
	}
	if _, found, _ := s.Live(t.Context(), "hello"); found {
		t.Error("one that was undone is live")
	}
}

// TestVerdictIsWrittenOnce goes behind the code's back: legal steps do not lead to a second verdict.
func TestVerdictIsWrittenOnce(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := claimed(t, s, "hello")
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed}))
	_, err := s.write.Exec(`UPDATE deployments SET verdict = 'succeeded', reason = 'first', finished_at = 5 WHERE id = ?`, d.ID)
	check(t, err)
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: Failed, Reason: "second"}))
	if d.Verdict != Succeeded || d.Reason != "first" || d.FinishedAt.UnixMicro() != 5 {
		t.Errorf("the verdict was overwritten: %+v", d)
	}
}

func TestAFailingAdvanceLeavesNothing(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := advanceTo(t, s, claimed(t, s, "hello"), StepRouted)
	before := texts(t, s, d.ID)
	_, err := s.Advance(t.Context(), d, StepLive, Change{Verdict: Succeeded, Events: []Event{{Kind: "live", Text: "never"}},
		Live: &Live{Deployment: d.ID, Release: 999}}) // there is no such release
	if err == nil {
		t.Fatal("a Live row of a release that is not there was taken")
	}
	if got := must[Deployment](t)(s.Deployment(t.Context(), d.ID)); got.Step != StepRouted || got.Verdict != "" {
		t.Errorf("it is %s, verdict %q", got.Step, got.Verdict)
	}
	if got := texts(t, s, d.ID); !slices.Equal(got, before) {
		t.Errorf("its history became %q", got)
	}
	if _, found, _ := s.Live(t.Context(), "hello"); found {
		t.Error("it is live")
	}
}

// TestAResultIsGivenOnceItIsStored ends the context at the moment of the commit, as a client that goes away may.
func TestAResultIsGivenOnceItIsStored(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		key := itoa(must[int64](t)(s.ReserveDeployment(t.Context())))
		go cancel()
		_, err := s.Enqueue(ctx, NewDeployment{App: "hello", Trigger: TriggerAPI, IdempotencyKey: key})
		cancel()
		var stored bool
		check(t, s.read.QueryRow(`SELECT EXISTS (SELECT 1 FROM deployments WHERE idempotency_key = ?)`, key).Scan(&stored))
		if stored != (err == nil) {
			t.Fatalf("stored: %t, but the caller was told %v", stored, err)
		}
	}
}

func TestHistoryIsInOrder(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	d := claimed(t, s, "hello")
	events := make([]Event, 1, 8) // room behind it, which belongs to the caller
	events[0] = Event{Kind: "build", Text: "one"}
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepBuilt, Change{Events: events}))
	if events[:2][1].Kind != "" {
		t.Error("the caller's events were written over")
	}
	check(t, s.Log(t.Context(), d.ID, Event{Kind: "log", Text: "two"}, Event{Kind: "log", Text: "three"}))
	check(t, s.Log(t.Context(), d.ID, Event{Kind: "log", Text: "four"}))
	want := []string{"queued asked for by push", "plan " + PlanOf(must[Config](t)(DecodeConfig(SourceDockerfile, []byte(`{"deploy_strategy":"blue-green"}`)))).String(),
		"build one", "step built", "log two", "log three", "log four"}
	if got := texts(t, s, d.ID); !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
	all := must[[]Event](t)(s.Events(t.Context(), d.ID, 0, 100))
	if page := must[[]Event](t)(s.Events(t.Context(), d.ID, all[1].ID, 2)); !slices.Equal(page, all[2:4]) {
		t.Errorf("the page after the second is %v, want %v", page, all[2:4])
	}
	times := must[map[Step]struct{}](t)(stepsOf(s.StepTimes(t.Context(), d.ID)))
	if len(times) != 2 {
		t.Errorf("times of steps: %v, want queued and built", times)
	}
	if err := s.Log(t.Context(), 999, Event{Kind: "log"}); err == nil {
		t.Error("logged to a deployment that is not there")
	}
}

func stepsOf[T any](times map[Step]T, err error) (map[Step]struct{}, error) {
	steps := map[Step]struct{}{}
	for step := range times {
		steps[step] = struct{}{}
	}
	return steps, err
}

func TestLogsOfManyKeepTheOrderOfEach(t *testing.T) {
	s := newStore(t)
	all := lanes(t, s, 4)
	var group sync.WaitGroup
	for _, d := range all {
		group.Go(func() {
			for i := range 50 {
				if err := s.Log(t.Context(), d.ID, Event{Kind: "log", Text: itoa(int64(i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, d := range all {
		for i, line := range texts(t, s, d.ID)[2:] {
			if line != "log "+itoa(int64(i)) {
				t.Fatalf("line %d of %d is %q", i, d.ID, line)
			}
		}
	}
}

func TestLiveNamesTheNewest(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	if _, found, err := s.Live(t.Context(), "hello"); found || err != nil {
		t.Errorf("before the first: %t, %v", found, err)
	}
	first := advanceTo(t, s, claimed(t, s, "hello"), StepDone)
	second := advanceTo(t, s, claimed(t, s, "hello"), StepLive)
	live, found, err := s.Live(t.Context(), "hello")
	if err != nil || !found || live.Deployment != second.ID || live.Release != second.Release || live.App != "hello" || live.Since.IsZero() {
		t.Errorf("live is %+v, %t, %v", live, found, err)
	}
	if second.PreviousLive != first.ID || second.Verdict != Succeeded {
		t.Errorf("the second is %+v", second)
	}
	var ids []int64
	for _, d := range must[[]Deployment](t)(s.Deployments(t.Context(), "hello", 10)) {
		ids = append(ids, d.ID)
	}
	if !slices.Equal(ids, []int64{second.ID, first.ID}) {
		t.Errorf("listed %v, want the newest first", ids)
	}
	_, err = s.Release(t.Context(), 999)
	wantProblem(t, err, CodeNotFound, "999")
	_, err = s.Deployment(t.Context(), 999)
	wantProblem(t, err, CodeNotFound, "999")
}
