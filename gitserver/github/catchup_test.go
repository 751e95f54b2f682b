package github

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func (d *depot) head(app, branch string) string {
	d.Helper()
	head, _, err := d.store.Head(d.Context(), app, branch)
	d.check(err)
	return head.SHA
}

func TestMissedPushes(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.app("api", `"paths":["api/**"]`)
	d.forge.heads[mainRef] = shaA
	d.forge.messages = map[string]string{shaB: "Add search\n\nmore", shaC: "x [skip ci]"}
	d.forge.files = map[string][]string{shaD: {"web/a"}}
	c := newCatchUp(d.hub)
	look := func(sha string) {
		d.Helper()
		d.forge.set(func() { d.forge.heads[mainRef] = sha })
		c.round(t.Context())
		d.wants("received", d.head("web", mainRef)+d.head("api", mainRef), sha+sha)
	}
	look(shaA)
	d.wants("the first look", d.shas("web")+d.shas("api"), "")
	look(shaB)
	look(shaB)
	d.wants("a missed push", d.shas("web"), "b:caught up")
	one := d.deployments("web")[0]
	d.wants("its subject", one.Subject, "Add search")
	d.wants("its updates", fmt.Sprint(one.Updates), fmt.Sprint([]store.RefUpdate{{Name: mainRef, New: shaB}}))
	events, err := d.store.Events(t.Context(), one.ID, 0, 10)
	d.check(err)
	if !slices.ContainsFunc(events, func(e store.Event) bool {
		return e.Kind == "note" && e.Text == "caught up: no webhook told of this push"
	}) {
		t.Errorf("its history: %+v", events)
	}
	look(shaC)
	look(shaD)
	d.wants("a skipped one, and another", d.shas("web"), "b:caught up d:caught up")
	d.wants("with paths", d.shas("api"), "b:caught up")
	d.start()
	d.wants("the webhook comes late", d.outcome("push", pushed(mainRef, shaC, shaD, 100, "d")),
		"api: nothing under api/** changed; web: received before: deployment "+fmt.Sprint(d.deployments("web")[1].ID))
	d.wants("an older one as well", d.outcome("push", pushed(mainRef, shaA, shaB, 99, "b")), "api: overtaken by a newer push; web: overtaken by a newer push")
}

func TestToAndFro(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	c := newCatchUp(d.hub)
	for _, sha := range []string{shaA, shaB, shaA, shaB, shaB} {
		d.forge.heads[mainRef] = sha
		c.round(t.Context())
	}
	d.wants("deployments", d.shas("web"), "b:caught up a:caught up b:caught up")
}

func TestACaughtUpPushThatWasNotRecorded(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.check(d.store.SetHead(t.Context(), store.Head{App: "web", Branch: mainRef, SHA: shaA}))
	d.forge.heads[mainRef] = shaB
	_, err := d.store.Enqueue(t.Context(), store.NewDeployment{App: "web", Trigger: store.TriggerCaughtUp, SHA: shaB, Ref: mainRef})
	d.check(err)
	d.finish("web", store.Failed)
	d.reopen()
	newCatchUp(d.hub).round(t.Context())
	d.wants("deployments", d.shas("web"), "b:caught up")
	d.wants("received", d.head("web", mainRef), shaB)
}

// What the forge said before a webhook told of something newer is not deployed after it.
func TestAWebhookIsFasterThanTheLook(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.check(d.store.SetHead(t.Context(), store.Head{App: "web", Branch: mainRef, SHA: shaA}))
	d.forge.heads[mainRef] = shaB
	p, err := decodePush(pushed(mainRef, shaA, shaC, 100, "c"))
	d.check(err)
	d.forge.onHead = func() { d.hub.outcomeOfPush(t.Context(), p, store.Delivery{GUID: "g"}) }
	newCatchUp(d.hub).round(t.Context())
	d.wants("deployments", d.shas("web"), "c:webhook")
	d.wants("received", d.head("web", mainRef), shaC)

	other := newDepot(t)
	other.app("web")
	other.forge.heads[mainRef] = shaB
	other.forge.onHead = func() { other.hub.outcomeOfPush(t.Context(), p, store.Delivery{GUID: "g"}) }
	newCatchUp(other.hub).round(t.Context())
	other.wants("received at the first look", other.head("web", mainRef), shaC)
}

func TestTheOtherDefaultBranch(t *testing.T) {
	const master = "refs/heads/master"
	d := newDepot(t)
	d.app("web")
	d.app("named", `"branch":"main"`)
	d.forge.heads[master] = shaA
	c := newCatchUp(d.hub)
	c.round(t.Context())
	d.wants("received", d.head("web", master)+d.head("named", master), shaA)
	d.forge.heads[master] = shaB
	c.round(t.Context())
	d.wants("deployments", d.shas("web"), "b:caught up")
	d.forge.heads[mainRef] = shaC
	c.round(t.Context())
	d.wants("main is there now", d.head("web", mainRef), shaC)
}

func TestNothingIsLookedAtWithoutConnection(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.check(d.hub.Disconnect(t.Context()))
	newCatchUp(d.hub).round(t.Context())
	if d.forge.asked != 0 {
		t.Errorf("the forge was asked %d times", d.forge.asked)
	}
}

func TestTroubleIsLoggedWhenItChanges(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	_, err := d.store.CreateApp(t.Context(), store.App{Name: "alone", Source: store.SourceDockerfile, Hosts: []string{"alone.localhost"}, Config: []byte(`{"port":80}`)})
	d.check(err)
	c := newCatchUp(d.hub)
	for _, err := range []error{errOffline, errOffline, store.Problemf(store.CodeUnreachable, "another"), nil, nil, errOffline} {
		d.forge.down[""] = err
		c.round(t.Context())
	}
	for words, want := range map[string]int{
		"forge cannot be reached": 2, "error=another": 1, "can look for missed pushes of web again": 1, "alone": 0,
	} {
		if got := strings.Count(d.log.String(), words); got != want {
			t.Errorf("%q is logged %d times, want %d: %s", words, got, want, d.log.String())
		}
	}
}

// The rounds begin when what webhooks told of before is worked off, and one comes after each Connect.
func TestRounds(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.check(d.store.SetHead(t.Context(), store.Head{App: "web", Branch: mainRef, SHA: shaA}))
	d.forge.heads[mainRef] = shaB
	guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d.hub.stop = stop
	d.hub.CatchUpEvery = time.Hour
	d.hub.work.Go(func() { d.hub.runCatchUp(ctx) })
	d.hub.work.Go(func() { d.hub.runDeliveries(ctx) })
	d.wants("the webhook comes first", d.ended(guid).Outcome, "web: deployment 1")
	asked := func() (n int) {
		d.forge.set(func() { n = d.forge.asked })
		return n
	}
	d.until("the first round", func() bool { return asked() == 1 })
	d.wants("deployments", d.shas("web"), "b:webhook")
	d.hub.connected <- struct{}{}
	d.until("the round after a connection", func() bool { return asked() == 2 })
}

// An app's first look comes when it is made. Many changes in a row are one reason to look, not many.
func TestAChangedAppIsLookedAtSoon(t *testing.T) {
	d := newDepot(t)
	d.forge.heads[mainRef] = shaA
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d.hub.stop = stop
	d.hub.CatchUpEvery, d.hub.lookApart = time.Hour, 0
	close(d.hub.workedOff)
	d.app("first")
	d.hub.work.Go(func() { d.hub.runCatchUp(ctx) })
	asked := func() (n int) {
		d.forge.set(func() { n = d.forge.asked })
		return n
	}
	d.until("the first round", func() bool { return asked() == 1 && d.head("first", mainRef) == shaA })
	d.app("web")
	d.until("the look at a new app", func() bool { return d.head("web", mainRef) == shaA })
	app, err := d.store.App(t.Context(), "web")
	d.check(err)
	app.Config = []byte(`{"port":8080,"repo_owner":"octo","repo_name":"hello","branch":"dev"}`)
	d.forge.set(func() { d.forge.heads["refs/heads/dev"] = shaB })
	_, err = d.store.UpdateApp(t.Context(), app)
	d.check(err)
	d.until("the look at another branch", func() bool { return d.head("web", "refs/heads/dev") == shaB })
	d.wants("deployments", d.shas("web"), "")
}

func TestManyChangesAreOneReasonToLook(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	app, err := d.store.App(t.Context(), "web")
	d.check(err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d.hub.stop = stop
	d.hub.CatchUpEvery, d.hub.lookApart = time.Hour, time.Hour
	close(d.hub.workedOff)
	d.hub.work.Go(func() { d.hub.runCatchUp(ctx) })
	asked := func() (n int) {
		d.forge.set(func() { n = d.forge.asked })
		return n
	}
	d.until("the first round", func() bool { return asked() > 0 })
	for range 50 {
		_, err := d.store.UpdateApp(t.Context(), app)
		d.check(err)
	}
	if n := asked(); n > 4 { // each round asks for main and, as it is not there, for master
		t.Errorf("the forge was asked %d times", n)
	}
	d.check(d.hub.Close()) // which waits for no round
}

// What was asked of the forge for another branch or repository is no first sight of what the app follows now.
func TestAnAppThatChangesUnderTheFirstLook(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	app, err := d.store.App(t.Context(), "web")
	d.check(err)
	d.forge.heads[mainRef] = shaA
	d.forge.onHead = func() {
		app.Config = []byte(`{"port":8080,"repo_owner":"octo","repo_name":"other"}`)
		_, err := d.store.UpdateApp(t.Context(), app)
		d.check(err)
	}
	newCatchUp(d.hub).round(t.Context())
	d.wants("remembered", d.head("web", mainRef), "")
}

// What comes in while the server starts is no reason to put off looking for what did not come in before.
func TestTheRoundsBeginThoughWebhooksGoOn(t *testing.T) {
	d := newDepot(t)
	d.app("web", `"paths":["web/**"]`)
	d.hub.Repositories = blocking{d.forge, map[string]chan struct{}{"web": make(chan struct{})}} // it is never done
	d.start()
	settled := func() bool {
		select {
		case <-d.hub.workedOff:
			return true
		default:
			return false
		}
	}
	d.until("the first start", settled)
	guid := d.deliver("push", pushed(mainRef, shaA, shaB, 100, "b"))
	d.until("a fetch", func() bool { return len(d.due()) == 1 })
	d.reopen()
	d.hub.Repositories = blocking{d.forge, map[string]chan struct{}{"web": make(chan struct{})}}
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	d.hub.now = func() time.Time { defer begin(); return time.Now() }
	d.start()
	<-begun
	later := d.deliver("push", pushed(mainRef, shaB, shaC, 101, "c"))
	if settled() {
		t.Error("it counts as worked off")
	}
	d.check(d.store.EndDelivery(t.Context(), d.delivery(guid).ID, "by hand"))
	d.deliver("push", pushed(mainRef, shaC, shaD, 102, "d")) // which has it look again
	d.until("the end of what was left", settled)
	if !d.delivery(later).EndedAt.IsZero() {
		t.Error("the later one has ended")
	}
}

func TestOldDeliveriesAreForgotten(t *testing.T) {
	d := newDepot(t)
	d.post("g-1", "star", []byte("{}"))
	d.post("g-2", "push", []byte("{}"))
	c := newCatchUp(d.hub)
	known := func() (n int) {
		all, err := d.store.Deliveries(t.Context(), 10)
		d.check(err)
		return len(all)
	}
	later := func(after time.Duration) int {
		d.hub.now = func() time.Time { return time.Now().Add(after) }
		c.round(t.Context())
		return known()
	}
	if got := later(keepHistory - time.Hour); got != 2 {
		t.Errorf("%d are left before their time", got)
	}
	if got := later(keepHistory + time.Hour); got != 1 || !d.delivery("g-2").EndedAt.IsZero() {
		t.Errorf("%d are left; the one that waits has to be", got)
	}
}
