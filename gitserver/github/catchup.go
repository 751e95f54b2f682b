package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/shipgate/shipgate/store"
)

const (
	looksAtOnce    = 4
	lookApart      = 3 * time.Second
	redeliverySpan = 72 * time.Hour // for which GitHub keeps what it could not deliver
	deliveryPages  = 10             // of 100 that are looked through each time
	pruneEvery     = time.Hour
	keepBodies     = 7 * 24 * time.Hour
	keepHistory    = 90 * 24 * time.Hour
)

// catchUp looks for what no webhook told of. Only what is known of the forge is looked at: while nothing is connected, it rests.
type catchUp struct {
	*GitHub
	asked  map[string]bool // deliveries that GitHub was asked for again, by GUID
	pruned time.Time

	mu      sync.Mutex
	trouble map[string]string // by what it is about; each is logged when it begins and when it is over
}

// runCatchUp looks every now and then, and soon after an app was made or changed: what is pushed before the first look at a
// branch would go unseen if its webhook got lost.
func (g *GitHub) runCatchUp(ctx context.Context) {
	apps, stop := g.Store.Watch(store.AppsTopic)
	defer stop()
	select {
	case <-ctx.Done():
	case <-g.workedOff: // what a webhook did tell of comes first
	}
	c := newCatchUp(g)
	for ctx.Err() == nil {
		began := time.Now()
		c.round(ctx)
		timer := time.NewTimer(g.CatchUpEvery)
		select {
		case <-ctx.Done():
		case <-g.connected:
		case <-apps:
			rest(ctx, g.lookApart-time.Since(began)) // many apps may be changed in a row
		case <-timer.C:
		}
		timer.Stop()
	}
}

func newCatchUp(g *GitHub) *catchUp {
	return &catchUp{GitHub: g, asked: map[string]bool{}, trouble: map[string]string{}}
}

// round looks once at everything.
func (c *catchUp) round(ctx context.Context) {
	if now := c.now(); now.Sub(c.pruned) >= pruneEvery {
		c.note(ctx, "prune deliveries", c.Store.PruneDeliveries(ctx, now.Add(-keepBodies), now.Add(-keepHistory)))
		c.note(ctx, "prune posts", c.Store.PrunePosts(ctx, now.Add(-keepHistory)))
		c.pruned = now
	}
	a, err := c.access(ctx)
	c.note(ctx, "read access to GitHub", err)
	if a == nil {
		return
	}
	apps, err := c.Store.Apps(ctx)
	c.note(ctx, "list apps", err)
	c.lookAll(ctx, apps)
	if a.Kind == store.AccessApp {
		c.note(ctx, "ask for failed deliveries", c.redeliver(ctx, a))
	}
}

func (c *catchUp) lookAll(ctx context.Context, apps []store.App) {
	slots := make(chan struct{}, looksAtOnce)
	var looks sync.WaitGroup
	for _, app := range apps {
		if !followsAny(app) {
			continue
		}
		slots <- struct{}{}
		looks.Go(func() {
			c.note(ctx, "look for missed pushes of "+app.Name, c.look(ctx, app))
			<-slots
		})
	}
	looks.Wait()
}

func followsAny(app store.App) bool {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil || app.Source == store.SourceImage { // no push deploys an image
		return false
	}
	_, follows := config.Shared().Repository()
	return follows
}

// note logs a trouble when it begins, when it becomes another one, and when it is over.
func (c *catchUp) note(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.trouble[what]
	switch {
	case err != nil && err.Error() != before:
		c.trouble[what] = err.Error()
		c.Logger.Warn("cannot "+what, "error", err)
	case err == nil && before != "":
		delete(c.trouble, what)
		c.Logger.Info("can " + what + " again")
	}
}

// look compares the app's branch at the forge with what was received of it. As long as an app has neither of the two default
// branches, it may turn out to be the other one.
func (c *catchUp) look(ctx context.Context, app store.App) error {
	branch, _, err := c.Repositories.Follows(ctx, app, "")
	if err != nil {
		return err
	}
	there, err := c.lookAt(ctx, app, branch)
	if err != nil || there {
		return err
	}
	const master = "refs/heads/master"
	other, _, err := c.Repositories.Follows(ctx, app, master)
	if err == nil && other == master && other != branch {
		_, err = c.lookAt(ctx, app, other)
	}
	return err
}

// lookAt says whether the forge has the branch. The first look only remembers: an app that was just made gets its env first,
// and one that was pushed to this server may be ahead of the forge.
func (c *catchUp) lookAt(ctx context.Context, app store.App, branch string) (there bool, err error) {
	received, known, err := c.Store.Head(ctx, app.Name, branch)
	if err != nil {
		return false, err
	}
	now, err := c.Repositories.RemoteHead(ctx, app.Name, branch)
	if err != nil || now == "" {
		return false, err
	}
	if err := store.ValidateCommitID(now); err != nil {
		return true, err
	}
	switch {
	case !known:
		return true, c.remember(ctx, app, store.Head{App: app.Name, Branch: branch, SHA: now})
	case now == received.SHA:
		return true, nil
	}
	said, err := c.receive(ctx, app, arrival{
		trigger: store.TriggerCaughtUp, push: push{ref: branch, before: received.SHA, after: now},
	})
	if err == nil && said != "" {
		c.Logger.Info("found a push that no webhook told of", "app", app.Name, "sha", now, "outcome", said)
	}
	return true, err
}

// remember keeps what was seen first, unless a webhook was faster, or the app follows something else since it was asked for.
func (c *catchUp) remember(ctx context.Context, asked store.App, head store.Head) error {
	defer c.turns.take(head.App)()
	if app, err := c.Store.App(ctx, head.App); err != nil || !bytes.Equal(app.Config, asked.Config) {
		return err
	}
	if _, known, err := c.Store.Head(ctx, head.App, head.Branch); err != nil || known {
		return err
	}
	return c.Store.SetHead(ctx, head)
}

// redeliver asks GitHub for the deliveries of an App that never arrived here, the oldest first, each once.
func (c *catchUp) redeliver(ctx context.Context, a *access) error {
	failed, err := c.undelivered(ctx, a)
	if err != nil {
		return err
	}
	asked := map[string]bool{} // no more than GitHub still lists
	for _, d := range failed {
		asked[d.GetGUID()] = c.asked[d.GetGUID()]
	}
	c.asked = asked
	for _, d := range slices.Backward(failed) {
		guid := d.GetGUID()
		if asked[guid] {
			continue
		}
		here, err := c.Store.HasDelivery(ctx, guid)
		if err != nil {
			return err
		}
		if here {
			continue
		}
		err = a.asApp(ctx, http.MethodPost, fmt.Sprintf("app/hook/deliveries/%d/attempts", d.GetID()), nil, nil)
		var t *trouble
		gone := errors.As(err, &t) && (t.status == http.StatusNotFound || t.status == http.StatusUnprocessableEntity)
		switch {
		case err == nil:
			c.Logger.Info("asked for a failed delivery again", "guid", guid)
		case !gone:
			return err // the next round asks for this one as well
		}
		asked[guid] = true
	}
	return nil
}

// undelivered lists the deliveries that matter here and were not taken at any attempt, the newest first.
func (c *catchUp) undelivered(ctx context.Context, a *access) (failed []*gh.HookDelivery, err error) {
	delivered := map[string]bool{}
	options := &gh.ListCursorOptions{PerPage: 100}
	for range deliveryPages {
		token, err := a.appToken()
		if err != nil {
			return nil, err
		}
		page, response, err := a.client("app").Apps.ListHookDeliveries(withToken(ctx, token), options)
		if err != nil {
			return nil, a.classified(err)
		}
		for _, d := range page {
			if d.GetDeliveredAt().Before(c.now().Add(-redeliverySpan)) {
				return failed, nil
			}
			good := d.GetStatusCode() >= 200 && d.GetStatusCode() < 300
			delivered[d.GetGUID()] = delivered[d.GetGUID()] || good
			if !delivered[d.GetGUID()] && foregone(d.GetEvent()) == "" && deliveryGUID.MatchString(d.GetGUID()) {
				failed = append(failed, d)
			}
		}
		if options.Cursor = response.Cursor; options.Cursor == "" {
			return failed, nil
		}
	}
	return failed, nil
}
