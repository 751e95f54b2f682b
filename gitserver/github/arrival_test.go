package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestPathsDecide(t *testing.T) {
	d := newDepot(t)
	d.app("api", `"paths":["api/**"]`)
	d.app("docs", `"paths":["docs"]`)
	d.app("web", `"paths":["web/**","!web/docs/**"]`)
	d.forge.files = map[string][]string{shaB: {"web/a.txt"}, shaC: {"web/docs/a.txt", "README.md"}, shaD: {"api/main.go", "web/b.txt"}}
	d.start()
	d.wants("the first", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")), "api: deployment 1; docs: deployment 2; web: deployment 3")
	d.wants("only what web had", d.outcome("push", pushed(mainRef, shaB, shaC, 101, "c")),
		"api: nothing under api/** changed; docs: nothing under docs changed; web: deployment 4")
	d.wants("two of three", d.outcome("push", pushed(mainRef, shaC, shaD, 102, "d")),
		"api: deployment 5; docs: nothing under docs changed; web: deployment 6")
	d.wants("api", d.shas("api"), "b:webhook d:webhook")
	d.wants("docs", d.shas("docs"), "b:webhook")
	d.wants("a skip needs no fetch", d.outcome("push", pushed(mainRef, shaD, strings.Repeat("e", 40), 103, "[skip ci]")),
		"api: skipped: the commit says [skip ci]; docs: skipped: the commit says [skip ci]; web: skipped: the commit says [skip ci]")
	if d.forge.here["web"+strings.Repeat("e", 40)] {
		t.Error("it was fetched all the same")
	}
}

// What the paths are compared with is what was last tried, not what was cancelled, superseded or rolled back to.
func TestWhatPathsAreComparedWith(t *testing.T) {
	for name, test := range map[string]struct {
		verdict store.Verdict
		trigger store.Trigger
		gone    bool
		want    string
	}{
		"succeeded":      {store.Succeeded, store.TriggerWebhook, false, "web: nothing under web/** changed"},
		"failed":         {store.Failed, store.TriggerPush, false, "web: nothing under web/** changed"},
		"errored":        {store.Errored, store.TriggerPush, false, "web: deployment 2"},
		"cancelled":      {store.Cancelled, store.TriggerPush, false, "web: deployment 2"},
		"rolled back to": {store.Succeeded, store.TriggerRollback, false, "web: deployment 2"},
		"under way":      {"", store.TriggerAPI, false, "web: nothing under web/** changed"},
		"not here now":   {store.Succeeded, store.TriggerPush, true, "web: deployment 2"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepot(t)
			d.app("web", `"paths":["web/**"]`)
			_, err := d.store.Enqueue(t.Context(), store.NewDeployment{App: "web", Trigger: test.trigger, SHA: shaA, Ref: mainRef})
			d.check(err)
			if test.verdict != "" {
				d.finish("web", test.verdict)
			}
			d.forge.gone[shaA] = test.gone
			d.start()
			d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")), test.want)
		})
	}
}

// An app that a workflow deploys follows its repository for the commits and the statuses only.
func TestManualAppsAreNotDeployedByPushes(t *testing.T) {
	d := newDepot(t)
	d.app("web", `"manual":true`)
	d.app("api")
	d.start()
	d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")),
		"api: deployment 1; web: nothing deploys it by itself; a workflow or shipgate deploy web does")
	if d.forge.here["web"+shaB] {
		t.Error("it was fetched all the same")
	}
}

func TestACommitThatCannotBeFetchedIsDeployed(t *testing.T) {
	d := newDepot(t)
	d.app("web", `"paths":["web/**"]`)
	d.forge.gone[shaB] = true
	d.start()
	d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")), "web: deployment 1") // which will say what is wrong
}

func TestAMessageThatWasNotToldIsFetched(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.forge.messages = map[string]string{shaB: "Add search\n\nmore", shaC: "Fix [skip ci]"}
	d.start()
	bare := func(before, after string, second int) []byte {
		return fmt.Appendf(nil, `{"ref":%q,"before":%q,"after":%q,"commits":[{"id":%q,"message":"[skip ci]"}],"repository":{"full_name":"octo/hello","pushed_at":%d}}`,
			mainRef, before, after, before, epoch+second)
	}
	d.wants("outcome", d.outcome("push", bare(shaA, shaB, 100)), "web: deployment 1")
	d.wants("subject", d.deployments("web")[0].Subject, "Add search")
	d.wants("skipped", d.outcome("push", bare(shaB, shaC, 101)), "web: skipped: the commit says [skip ci]")
}

// What was pushed before an app was made is for its owner to deploy; what came later is not held up by it.
func TestPushesFromBeforeTheApp(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	app, err := d.store.App(t.Context(), "web")
	d.check(err)
	made := app.CreatedAt.Unix() - epoch
	d.start()
	const early = "web: pushed before the app was made; shipgate deploy web deploys it"
	d.wants("a second before", d.outcome("push", pushed(mainRef, shaA, shaB, made-1, "b")), early)
	d.wants("received", d.head("web", mainRef), shaB)
	d.wants("delivered again", d.outcome("push", pushed(mainRef, shaA, shaB, made-1, "b")), early)
	d.wants("an older one", d.outcome("push", pushed(mainRef, shaD, shaA, made-2, "a")), "web: overtaken by a newer push")
	d.wants("received still", d.head("web", mainRef), shaB)
	d.wants("deployments", d.shas("web"), "")
	d.forge.set(func() { d.forge.heads[mainRef] = shaB })
	newCatchUp(d.hub).round(t.Context())
	d.wants("nothing was missed", d.shas("web"), "")
	d.wants("within its second", d.outcome("push", pushed(mainRef, shaB, shaC, made, "c")), "web: deployment 1")
	d.wants("then", d.shas("web"), "c:webhook")
}

// An app may follow something else by the time its turn comes.
func TestAnAppThatWasChangedMeanwhile(t *testing.T) {
	for more, want := range map[string]string{
		`"repo_owner":"octo","repo_name":"other"`:                "it follows another repository now",
		`"repo_owner":"octo","repo_name":"hello","branch":"dev"`: "main is not its deploy branch, which is dev",
		`"repo_owner":"OCTO","repo_name":"Hello"`:                "deployment 1",
	} {
		d := newDepot(t)
		d.app("web")
		listed, err := d.store.App(t.Context(), "web")
		d.check(err)
		changed := listed
		changed.Config = []byte(`{"port":8080,` + more + `}`)
		_, err = d.store.UpdateApp(t.Context(), changed)
		d.check(err)
		p, err := decodePush(pushed(mainRef, shaA, shaB, 100, "b"))
		d.check(err)
		said, err := d.hub.receive(t.Context(), listed, arrival{trigger: store.TriggerWebhook, push: p, key: "k"})
		d.check(err)
		d.wants(more, said, want)
	}
}

// The trouble of one app is not that of the others, and is over some time.
func TestOneAppHasToWait(t *testing.T) {
	d := newDepot(t)
	d.app("api")
	d.app("web", `"paths":["web/**"]`)
	d.forge.down["web"] = errOffline
	d.start()
	guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
	d.until("the first try", func() bool { return d.delivery(guid).Attempts > 0 })
	waits := d.delivery(guid)
	d.wants("meanwhile", waits.Outcome, "api: deployment 1; web: waits for another try: the forge cannot be reached")
	if !waits.EndedAt.IsZero() {
		t.Error("it has ended")
	}
	d.forge.set(func() { delete(d.forge.down, "web") })
	d.wants("then", d.ended(guid).Outcome, "api: received before: deployment 1; web: deployment 2")
	d.wants("api", d.shas("api"), "b:webhook")
}

func TestPuttingOff(t *testing.T) {
	for attempts, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 8: 256 * time.Second, 9: 5 * time.Minute, 1 << 40: 5 * time.Minute} {
		if got := putOffFor(attempts); got != want {
			t.Errorf("after %d attempts: %s, want %s", attempts, got, want)
		}
	}
}

func TestTryingEndsAfterADay(t *testing.T) {
	d := newDepot(t)
	d.app("web", `"paths":["web/**"]`)
	d.forge.down[""] = errOffline
	d.hub.now = func() time.Time { return time.Now().Add(retryWindow + time.Second) }
	d.start()
	d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")), "web: waits for another try: the forge cannot be reached")
	if _, known, err := d.store.Head(t.Context(), "web", mainRef); known || err != nil {
		t.Errorf("it counts as received, or %v", err)
	}
}

func TestWhichErrorsWait(t *testing.T) {
	for _, test := range []struct {
		err   error
		waits bool
	}{
		{errOffline, true}, {errors.New("disk full"), true}, {fmt.Errorf("ask: %w", errOffline), true},
		{store.Problemf(store.CodeUsage, "bad branch"), false}, {store.Problemf(store.CodeNotFound, "no app"), false},
	} {
		if said, waits := waiting(test.err); waits != test.waits || !strings.Contains(said, test.err.Error()) {
			t.Errorf("%v: %q, %v", test.err, said, waits)
		}
	}
}

func TestAFinalAnswerIsNoReasonToWait(t *testing.T) {
	d := newDepot(t).start()
	d.app("web", `"paths":["web/**"]`)
	d.forge.down[""] = store.Problemf(store.CodeUsage, "no such thing")
	d.check(d.store.SetHead(t.Context(), store.Head{App: "web", Branch: mainRef, SHA: shaC}))
	d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "b")), "web: deployment 1")
}

// blocking is a forge whose fetches wait.
type blocking struct {
	*forge
	gate map[string]chan struct{} // by app
}

func (b blocking) Fetch(ctx context.Context, app, sha string) (bool, error) {
	if gate := b.gate[app]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return b.forge.Fetch(ctx, app, sha)
}

func TestRepositoriesDoNotWaitForEachOther(t *testing.T) {
	d := newDepot(t)
	gate := make(chan struct{})
	d.hub.Repositories = blocking{d.forge, map[string]chan struct{}{"slow": gate}}
	d.app("slow", `"paths":["web/**"]`)
	d.following("other", store.Repository{Owner: "octo", Name: "other"})
	d.forge.files = map[string][]string{shaB: {"web/a"}, shaC: {"web/a"}}
	d.start()
	first := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
	second := d.deliver("push", pushed(mainRef, shaB, shaC, 100, "c"))
	elsewhere := strings.NewReplacer("octo/hello", "octo/other", "4242", "4343").Replace(string(pushed(mainRef, shaA, shaB, 100, "b")))
	d.wants("another repository", d.outcome("push", []byte(elsewhere)), "other: deployment 1")
	if !d.delivery(first).EndedAt.IsZero() || !d.delivery(second).EndedAt.IsZero() {
		t.Error("the slow one has ended")
	}
	close(gate)
	d.wants("the first", d.ended(first).Outcome, "slow: deployment 2")
	d.wants("the second", d.ended(second).Outcome, "slow: deployment 3")
	d.wants("their order", d.shas("slow"), "b:webhook c:webhook")
}

func TestManyDeliveriesInOrder(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.start()
	const many = 3 * mostTaken
	sha := func(n int) string { return fmt.Sprintf("%040x", n+1) }
	var last string
	for n := range many {
		last = d.deliver("push", pushed(mainRef, sha(n), sha(n+1), 100, "x"))
	}
	d.wants("the last", d.ended(last).Outcome, fmt.Sprintf("web: deployment %d", many))
	all, err := d.store.Deliveries(t.Context(), 2*many)
	d.check(err)
	for n, one := range all {
		d.wants(one.GUID, one.Outcome, fmt.Sprintf("web: deployment %d", many-n))
	}
}

func TestCrashes(t *testing.T) {
	t.Run("kept, not worked on", func(t *testing.T) {
		d := newDepot(t)
		d.app("web")
		guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
		d.reopen()
		d.start()
		d.wants("outcome", d.ended(guid).Outcome, "web: deployment 1")
	})
	t.Run("enqueued, head not written", func(t *testing.T) {
		d := newDepot(t)
		d.app("web")
		guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
		_, err := d.store.Enqueue(t.Context(), store.NewDeployment{App: "web", Trigger: store.TriggerWebhook, SHA: shaB, Ref: mainRef, IdempotencyKey: "delivery:" + guid})
		d.check(err)
		d.finish("web", store.Failed)
		d.reopen()
		d.start()
		d.wants("outcome", d.ended(guid).Outcome, "web: deployment 1")
		d.wants("deployments", d.shas("web"), "b:webhook")
	})
	t.Run("enqueued, outcome not written", func(t *testing.T) {
		d := newDepot(t)
		d.app("web")
		body := pushed(mainRef, shaA, shaB, 100, "b")
		guid := d.deliver("push", body)
		p, err := decodePush(body)
		d.check(err)
		outcome, waits := d.hub.outcomeOfPush(t.Context(), p, d.delivery(guid))
		d.wants("before", fmt.Sprint(outcome, waits), "web: deployment 1false")
		d.reopen()
		d.start()
		d.wants("outcome", d.ended(guid).Outcome, "web: received before: deployment 1")
		d.wants("deployments", d.shas("web"), "b:webhook")
	})
	t.Run("stopped while it waits for the forge", func(t *testing.T) {
		d := newDepot(t)
		d.app("web", `"paths":["web/**"]`)
		d.hub.Repositories = blocking{d.forge, map[string]chan struct{}{"web": make(chan struct{})}}
		d.start()
		guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
		d.reopen()
		if d.delivery(guid).Attempts != 0 {
			t.Error("stopping counts as an attempt")
		}
		d.start()
		d.wants("outcome", d.ended(guid).Outcome, "web: deployment 1")
	})
}

// The same push, delivered by the App and by a hook of the repository at the same time, and found there.
func TestTheSamePushFromEverywhereAtOnce(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.check(d.store.SetHead(t.Context(), store.Head{App: "web", Branch: mainRef, SHA: shaA}))
	d.forge.heads[mainRef] = shaB
	p, err := decodePush(pushed(mainRef, shaA, shaB, 100, "b"))
	d.check(err)
	var everyone sync.WaitGroup
	for n := range 8 {
		everyone.Go(func() {
			if n%2 == 0 {
				d.hub.outcomeOfPush(t.Context(), p, store.Delivery{GUID: fmt.Sprint(n)})
			} else {
				newCatchUp(d.hub).round(t.Context())
			}
		})
	}
	everyone.Wait()
	if got := d.shas("web"); got != "b:webhook" && got != "b:caught up" {
		t.Errorf("deployments %q", got)
	}
}

// FuzzDelivery works on anything that could be signed: it always ends, and only a push of a sound commit deploys.
func FuzzDelivery(f *testing.F) {
	d := newDepot(f)
	d.app("web", `"paths":["web/**"]`)
	f.Add("push", pushed(mainRef, shaA, shaB, 100, "b"), jsonType)
	f.Add("push", []byte(`{"ref":"refs/tags/x","after":"0000000000000000000000000000000000000000","repository":{"full_name":"octo/hello"}}`), jsonType)
	f.Add("repository", []byte(`{"action":"renamed","changes":{"repository":{"name":{"from":"x"}}},"repository":{"id":9,"full_name":"octo/y"}}`), jsonType)
	f.Add("push", []byte("payload=%7B%22ref%22%3A1%7D"), formType)
	f.Fuzz(func(t *testing.T, event string, body []byte, contentType string) {
		if event != "push" {
			event = "repository"
		}
		before, err := d.store.Deployments(t.Context(), "web", 1)
		if err != nil {
			t.Fatal(err)
		}
		outcome, _ := d.hub.outcomeOf(t.Context(), store.Delivery{GUID: "g", Event: event, ContentType: contentType, Body: body})
		if outcome == "" {
			t.Error("nothing is said")
		}
		after, err := d.store.Deployments(t.Context(), "web", 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(after) == 0 || (len(before) > 0 && before[0].ID == after[0].ID) {
			return
		}
		one := after[0]
		if event != "push" || store.ValidateCommitID(one.SHA) != nil || one.Ref != mainRef || strings.ContainsAny(one.Subject, "\n\r\x1b") {
			t.Errorf("deployed by a %s event: %+v", event, one)
		}
	})
}

var _ http.Handler = (*GitHub)(nil)
