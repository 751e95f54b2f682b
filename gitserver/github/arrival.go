package github

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// arrival is a push to a followed repository, told by a webhook or found there.
type arrival struct {
	push
	trigger store.Trigger
	key     string // of a webhook's delivery
}

// turns lets one arrival at a time be decided on for each app: a webhook and the looking for missed ones may find the same.
type turns struct{ apps sync.Map }

func (t *turns) take(app string) (done func()) {
	lock, _ := t.apps.LoadOrStore(app, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	return lock.(*sync.Mutex).Unlock
}

// receive does what an arrival asks of an app, and says it in a few words. It can be repeated. An error that is no Problem,
// or an unreachable one, is worth another try.
func (g *GitHub) receive(ctx context.Context, app store.App, a arrival) (said string, err error) {
	defer g.turns.take(app.Name)()
	if app, err = g.Store.App(ctx, app.Name); err != nil { // it may have waited for its turn, and been changed meanwhile
		return "", err
	}
	if config, err := store.DecodeConfig(app.Source, app.Config); err != nil {
		return "", err
	} else if followed, _ := config.Shared().Repository(); a.trigger == store.TriggerWebhook && !followed.Same(a.repository) {
		return "it follows another repository now", nil
	}
	if app.Source == store.SourceImage {
		return fmt.Sprintf("it deploys an image; shipgate deploy %s --image REF deploys it", app.Name), nil
	}
	branch, tip, err := g.Repositories.Follows(ctx, app, a.ref)
	if err != nil {
		return "", err
	}
	if a.ref != branch {
		return fmt.Sprintf("%s is not its deploy branch, which is %s", shortRef(a.ref), shortRef(branch)), nil
	}
	if a.after == "" {
		return shortRef(branch) + " was deleted; what is live stays", nil
	}
	head, known, err := g.Store.Head(ctx, app.Name, branch)
	if err != nil {
		return "", err
	}
	if a.trigger == store.TriggerCaughtUp {
		if head.SHA != a.before {
			return "", nil // a webhook has told of it meanwhile
		}
	} else if known {
		if said, err := g.passed(ctx, app, a, head); said != "" || err != nil {
			if err == nil && head.SHA == a.after && a.pushedAt.After(head.PushedAt) { // a branch may go away and come back
				err = g.Store.SetHead(ctx, store.Head{App: app.Name, Branch: branch, SHA: a.after, PushedAt: a.pushedAt})
			}
			return said, err
		}
	}
	if said = tooEarly(app, a); said == "" {
		if said, err = g.take(ctx, app, a, tip); err != nil {
			return "", err
		}
	}
	return said, g.Store.SetHead(ctx, store.Head{App: app.Name, Branch: branch, SHA: a.after, PushedAt: a.pushedAt})
}

// tooEarly says why a push from before the app was made does not deploy: a failed delivery that is delivered again would
// deploy an app that its owner has not finished setting up. The forge gives whole seconds.
func tooEarly(app store.App, a arrival) (said string) {
	if a.pushedAt.IsZero() || !a.pushedAt.Before(app.CreatedAt.Truncate(time.Second)) {
		return ""
	}
	return fmt.Sprintf("pushed before the app was made; shipgate deploy %s deploys it", app.Name)
}

// passed says why a push that a webhook tells of is none of the branch's last word; empty when it is.
func (g *GitHub) passed(ctx context.Context, app store.App, a arrival, head store.Head) (said string, err error) {
	if head.SHA == a.after {
		d, found, err := g.newestOf(ctx, app.Name, func(d store.Deployment) bool { return d.SHA == a.after })
		if err != nil || !found { // it was only seen there, or there was a reason not to deploy it
			return "", err
		}
		return fmt.Sprintf("received before: deployment %d", d.ID), g.tell(ctx, d)
	}
	datable := !a.pushedAt.IsZero() && !head.PushedAt.IsZero()
	switch {
	case datable && a.pushedAt.Before(head.PushedAt):
		return "overtaken by a newer push", nil
	case a.before == head.SHA || (datable && a.pushedAt.After(head.PushedAt)):
		return "", nil
	}
	// Within one second nothing tells which of two came first, but the forge knows how it ended.
	now, err := g.Repositories.RemoteHead(ctx, app.Name, a.ref)
	switch {
	case err != nil && isPassing(ctx, err):
		return "", err
	case err != nil || now == a.after:
		return "", nil
	}
	return "overtaken by a newer push", nil
}

// isPassing says whether the git side may well answer when asked again.
func isPassing(ctx context.Context, err error) bool {
	return ctx.Err() != nil || store.CodeOf(err) == store.CodeUnreachable
}

// newestOf finds the newest deployment of an app that is as wanted, as far back as anyone would look.
func (g *GitHub) newestOf(ctx context.Context, app string, wanted func(store.Deployment) bool) (store.Deployment, bool, error) {
	all, err := g.Store.Deployments(ctx, app, 100)
	if err != nil {
		return store.Deployment{}, false, err
	}
	for _, d := range all {
		if wanted(d) {
			return d, true, nil
		}
	}
	return store.Deployment{}, false, nil
}

// tell has the forge told of a deployment that may be older there than its commit.
func (g *GitHub) tell(ctx context.Context, d store.Deployment) error {
	if d.Trigger == store.TriggerWebhook || d.Trigger == store.TriggerCaughtUp {
		return nil // it has been told all along
	}
	return g.Store.Announce(ctx, d.ID)
}

// take deploys what has arrived, unless that is here already, or is not to be deployed.
func (g *GitHub) take(ctx context.Context, app store.App, a arrival, tip string) (said string, err error) {
	d, here, err := g.alreadyHere(ctx, app.Name, a)
	if err != nil {
		return "", err
	}
	if here {
		return fmt.Sprintf("already here: deployment %d", d.ID), g.tell(ctx, d)
	}
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return "", err
	}
	if config.Shared().Manual {
		return fmt.Sprintf("nothing deploys it by itself; a workflow or shipgate deploy %s does", app.Name), nil
	}
	paths := config.Shared().Paths
	fetched := false
	if !a.hasMessage || (len(paths) > 0 && skipMarker(a.message) == "") {
		if fetched, err = g.fetch(ctx, app.Name, &a); err != nil {
			return "", err
		}
	}
	if marker := skipMarker(a.message); marker != "" {
		return "skipped: the commit says " + marker, nil
	}
	if fetched && len(paths) > 0 {
		if changed, err := g.changed(ctx, app.Name, a.after, paths); err != nil || !changed {
			return fmt.Sprintf("nothing under %s changed", strings.Join(paths, " ")), err
		}
	}
	return g.enqueue(ctx, app.Name, a, tip)
}

// alreadyHere finds the deployment that deploys the commit, or has put it live: it was pushed to this server before. What is
// found at the forge may have been taken up right before a crash as well.
func (g *GitHub) alreadyHere(ctx context.Context, app string, a arrival) (d store.Deployment, here bool, err error) {
	newest, _, err := g.newestOf(ctx, app, func(store.Deployment) bool { return true })
	if err != nil {
		return d, false, err
	}
	if a.trigger == store.TriggerCaughtUp && newest.Trigger == a.trigger && newest.SHA == a.after {
		return newest, true, nil
	}
	unfinished, err := g.Store.Unfinished(ctx, app)
	if err != nil {
		return d, false, err
	}
	for _, other := range unfinished {
		if other.ID >= d.ID {
			d = other
		}
	}
	if len(unfinished) > 0 {
		return d, d.SHA == a.after, nil
	}
	live, found, err := g.Store.Live(ctx, app)
	if err != nil || !found || live.SHA != a.after {
		return d, false, err
	}
	d, err = g.Store.Deployment(ctx, live.Deployment)
	return d, err == nil, err
}

// fetch brings the commit here and reads its message. Where that cannot be, the deployment shall say so: it is false then.
func (g *GitHub) fetch(ctx context.Context, app string, a *arrival) (fetched bool, err error) {
	_, err = g.Repositories.Fetch(ctx, app, a.after)
	if err == nil && !a.hasMessage {
		a.message, err = g.Repositories.Message(ctx, app, a.after)
	}
	if err != nil && isPassing(ctx, err) {
		return false, err
	}
	return err == nil, nil
}

// changed compares the commit with what was last tried of the app. Without anything to compare with it is all new.
func (g *GitHub) changed(ctx context.Context, app, sha string, paths []string) (bool, error) {
	baseline, found, err := g.newestOf(ctx, app, func(d store.Deployment) bool {
		tried := d.Verdict == "" || d.Verdict == store.Succeeded || d.Verdict == store.Failed
		return tried && d.Trigger != store.TriggerRollback && d.Trigger != store.TriggerRestart && store.ValidateCommitID(d.SHA) == nil
	})
	if err != nil || !found {
		return true, err
	}
	changed, err := g.Repositories.Changed(ctx, app, baseline.SHA, sha, matchPaths(paths))
	if err != nil && isPassing(ctx, err) {
		return false, err
	}
	return changed || err != nil, nil
}

func (g *GitHub) enqueue(ctx context.Context, app string, a arrival, tip string) (said string, err error) {
	if a.trigger == store.TriggerCaughtUp {
		newest, _, err := g.newestOf(ctx, app, func(store.Deployment) bool { return true })
		if err != nil {
			return "", err
		}
		// A branch may go to and fro between the same two commits.
		a.key = fmt.Sprintf("caught up:%s:%s:%d", a.before, a.after, newest.ID)
	}
	d, err := g.Store.Enqueue(ctx, store.NewDeployment{
		App: app, Trigger: a.trigger, SHA: a.after, Ref: a.ref, Subject: subjectOf(a.message),
		Updates: []store.RefUpdate{{Name: a.ref, Old: tip, New: a.after}}, IdempotencyKey: a.key,
	})
	if err == nil && a.trigger == store.TriggerCaughtUp {
		err = g.Store.Log(ctx, d.ID, store.Event{Kind: "note", Text: "caught up: no webhook told of this push"})
	}
	return fmt.Sprintf("deployment %d", d.ID), err
}

func shortRef(ref string) string {
	_, short, _ := strings.Cut(strings.TrimPrefix(ref, "refs/"), "/")
	return short
}
