package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// served takes a deployment of the app all the way; what it built was live.
func served(t *testing.T, s *Store, app string) Deployment {
	t.Helper()
	return advanceTo(t, s, claimed(t, s, app), StepDone)
}

// rejected builds a deployment of the app whose version does not get healthy.
func rejected(t *testing.T, s *Store, app string) Deployment {
	t.Helper()
	d := advanceTo(t, s, claimed(t, s, app), StepStarted)
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed}))
	return must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: Failed}))
}

// rolledBack starts a deployment of what another one has built.
func rolledBack(t *testing.T, s *Store, to Deployment) Deployment {
	t.Helper()
	must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: to.App, Trigger: TriggerRollback, Release: to.Release, RollbackOf: to.ID}))
	d, found, err := s.Claim(t.Context(), to.App)
	if err != nil || !found {
		t.Fatalf("claim: %t, %v", found, err)
	}
	return d
}

// wantKept checks which of the deployments stay, for the app.
func wantKept(t *testing.T, s *Store, app string, all []Deployment, want ...Deployment) {
	t.Helper()
	kept := must[Kept](t)(s.Kept(t.Context()))
	var got, wanted []int64
	for _, d := range all {
		if kept.Has(app, d.ID) {
			got = append(got, d.ID)
		}
	}
	for _, d := range want {
		wanted = append(wanted, d.ID)
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("kept of %s are %v, want %v", app, got, wanted)
	}
}

func servedTimes(t *testing.T, s *Store, app string, times int) (all []Deployment) {
	t.Helper()
	for range times {
		all = append(all, served(t, s, app))
	}
	return all
}

func TestTheLastFiveVersionsAreKept(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	other := servedTimes(t, s, "other", 1)
	all := servedTimes(t, s, "hello", KeptReleases+2)
	wantKept(t, s, "hello", all, all[2:]...)
	wantKept(t, s, "other", append(other, all...), other...) // each app has its own five
	wantKept(t, s, "gone", append(other, all...))
}

// Five pushes in a row that do not get healthy must not cost the versions to go back to.
func TestVersionsThatWereNeverLiveAreNotAmongTheFive(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases)
	for range KeptReleases {
		rejected(t, s, "hello")
	}
	whole := must[[]Deployment](t)(s.Deployments(t.Context(), "hello", 100))
	slices.Reverse(whole)
	wantKept(t, s, "hello", whole, all...)
}

func TestWhatIsLiveIsKept(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases+1)
	back := advanceTo(t, s, rolledBack(t, s, all[0]), StepDone)
	_, err := s.write.Exec(`UPDATE deployments SET verdict = 'failed' WHERE id IN (?, ?)`, all[0].ID, back.ID) // as if only Live said it
	check(t, err)
	wantKept(t, s, "hello", all, all...)
}

func TestWhatUnfinishedDeploymentsBuildIsKept(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	building := claimed(t, s, "hello")
	waiting := enqueue(t, s, "hello")
	all := []Deployment{building, waiting}
	wantKept(t, s, "hello", all, all...)
	building = advanceTo(t, s, building, StepStarted)
	building = must[Deployment](t)(s.Advance(t.Context(), building, StepUndoing, Change{Verdict: Failed}))
	wantKept(t, s, "hello", all, all...) // it is being taken back
	must[Deployment](t)(s.Advance(t.Context(), building, StepUndone, Change{Verdict: Failed}))
	wantKept(t, s, "hello", all, waiting)
}

func TestWhatARollbackIsAboutIsKept(t *testing.T) {
	for _, waiting := range []bool{true, false} {
		s := newStore(t)
		newApp(t, s, "hello")
		all := servedTimes(t, s, "hello", KeptReleases+2)
		wantKept(t, s, "hello", all, all[2:]...)
		must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerRollback, Release: all[0].Release, RollbackOf: all[0].ID}))
		if !waiting {
			_, _, err := s.Claim(t.Context(), "hello")
			check(t, err)
		}
		wantKept(t, s, "hello", all, append([]Deployment{all[0]}, all[2:]...)...)
	}
}

func TestWhatIsWarmIsKept(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", 1)
	back := advanceTo(t, s, rolledBack(t, s, all[0]), StepDone) // its container runs what the first one built
	all = append(all, servedTimes(t, s, "hello", KeptReleases)...)
	wantKept(t, s, "hello", all, all[1:]...)
	check(t, s.KeepWarm(t.Context(), back.ID, time.Now().Add(time.Minute)))
	wantKept(t, s, "hello", all, all...)
	must[bool](t)(s.EndWarm(t.Context(), back.ID))
	wantKept(t, s, "hello", all, all[1:]...)
}

func TestEarlierSitesAreKeptUntilTheirTime(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases+3)
	live, _, err := s.Live(t.Context(), "hello")
	check(t, err)
	site := func(d Deployment, until time.Duration) EarlierSite {
		return EarlierSite{Site: fmt.Sprintf("/data/sites/hello/%d", d.ID), Until: time.Now().Add(until)}
	}
	live.Target.Earlier = []EarlierSite{site(all[2], time.Hour), site(all[1], -time.Second), {Site: "/data/sites/hello/none", Until: time.Now().Add(time.Hour)}}
	check(t, s.changeApp(t.Context(), "hello", func(tx txContext, app int64) error { return writeLive(tx, app, live) }))
	wantKept(t, s, "hello", all, all[2:]...)
}

// What is newer than the look may be building already; and a push has its number before its deployment is stored.
func TestWhatIsNewerThanTheLookIsKept(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	failed := rejected(t, s, "hello")
	reserved := must[int64](t)(s.ReserveDeployment(t.Context()))
	behind := claimed(t, s, "hello") // another one was quicker
	kept := must[Kept](t)(s.Kept(t.Context()))
	for id, want := range map[int64]bool{failed.ID: false, reserved: true, behind.ID: true, behind.ID + 1: true, behind.ID + 1000: true} {
		if kept.Has("hello", id) != want {
			t.Errorf("deployment %d is kept: %t", id, !want)
		}
	}
	if kept.Newest != behind.ID || kept.Has("destroyed", reserved) || !kept.Has("new", behind.ID+1) {
		t.Errorf("newest %d, want %d; of an app that is gone is kept %t, of one to come %t", kept.Newest, behind.ID,
			kept.Has("destroyed", reserved), kept.Has("new", behind.ID+1))
	}
	for range reservedOfLate {
		must[int64](t)(s.ReserveDeployment(t.Context()))
	}
	if must[Kept](t)(s.Kept(t.Context())).Has("hello", reserved) {
		t.Error("a number that was lost long ago is still kept")
	}
}

func TestNothingIsKeptOfAnEmptyServer(t *testing.T) {
	kept := must[Kept](t)(newStore(t).Kept(t.Context()))
	if kept.Newest != 0 || len(kept.Apps) != 0 || !kept.Has("hello", 1) || kept.Has("hello", 0) {
		t.Errorf("kept: %+v", kept)
	}
}

func TestPrunedReleasesAreMarkedOnce(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases+2)
	failed := rejected(t, s, "hello")
	kept := must[Kept](t)(s.Kept(t.Context()))
	var marked []int64
	for _, release := range must[[]Release](t)(s.MarkPruned(t.Context(), kept)) {
		marked = append(marked, release.Deployment)
	}
	if want := []int64{all[0].ID, all[1].ID, failed.ID}; !slices.Equal(marked, want) {
		t.Errorf("marked %v, want %v", marked, want)
	}
	for d, want := range map[int64]bool{all[0].Release: true, all[1].Release: true, all[2].Release: false, failed.Release: true} {
		if pruned := must[bool](t)(s.Pruned(t.Context(), d)); pruned != want {
			t.Errorf("release %d is pruned: %t", d, pruned)
		}
	}
	if again := must[[]Release](t)(s.MarkPruned(t.Context(), must[Kept](t)(s.Kept(t.Context())))); len(again) != 0 {
		t.Errorf("marked again: %+v", again)
	}
	_, err := s.Pruned(t.Context(), 999)
	wantProblem(t, err, CodeNotFound, "999")
}

// A rollback that was asked for between the look and the mark has its release spared, also from who removes what is not kept.
func TestARollbackAskedForMeanwhileIsSpared(t *testing.T) {
	for _, destroyed := range []bool{false, true} { // the look may be from before the app was there
		s := newStore(t)
		newApp(t, s, "hello")
		all := servedTimes(t, s, "hello", KeptReleases+2)
		kept := must[Kept](t)(s.Kept(t.Context()))
		if destroyed {
			delete(kept.Apps, "hello")
		}
		rollback := rolledBack(t, s, all[0])
		marked := must[[]Release](t)(s.MarkPruned(t.Context(), kept))
		if slices.ContainsFunc(marked, func(r Release) bool { return r.ID == all[0].Release }) || must[bool](t)(s.Pruned(t.Context(), all[0].Release)) {
			t.Error("the release of the rollback was marked")
		}
		if !kept.Has("hello", all[0].ID) || kept.Has("hello", all[1].ID) {
			t.Error("it is not among what is kept, or its neighbour is")
		}
		if d := advanceTo(t, s, rollback, StepLive); d.Verdict != Succeeded {
			t.Errorf("the rollback is %+v", d)
		}
	}
}

// What went live between the look and the mark, and was done, is spared as well.
func TestWhatWentLiveMeanwhileIsSpared(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases+1)
	kept := must[Kept](t)(s.Kept(t.Context()))
	advanceTo(t, s, rolledBack(t, s, all[0]), StepDone)
	if marked := must[[]Release](t)(s.MarkPruned(t.Context(), kept)); len(marked) != 0 || !kept.Has("hello", all[0].ID) {
		t.Errorf("marked %+v, kept %t", marked, kept.Has("hello", all[0].ID))
	}
}

func TestWhatIsBeingRemovedCannotBeGoneBackTo(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	all := servedTimes(t, s, "hello", KeptReleases+1)
	must[[]Release](t)(s.MarkPruned(t.Context(), must[Kept](t)(s.Kept(t.Context()))))
	before := len(must[[]Deployment](t)(s.Deployments(t.Context(), "hello", 100)))
	_, err := s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerRollback, Release: all[0].Release, RollbackOf: all[0].ID})
	wantProblem(t, err, CodeNotFound, "deployment "+itoa(all[0].ID), "last 5", "shipgate deploy APP --ref 3f9c2ab0")
	if after := len(must[[]Deployment](t)(s.Deployments(t.Context(), "hello", 100))); after != before {
		t.Errorf("%d deployments became %d", before, after)
	}
	must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "hello", Trigger: TriggerRollback, Release: all[1].Release, RollbackOf: all[1].ID}))
}
