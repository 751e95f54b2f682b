package github

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	lanesAtOnce  = 4
	firstBackoff = time.Second
	lastBackoff  = 15 * time.Minute
	longestWork  = 10 * time.Second // how long GitHub works on a request before it breaks it off
	longestLook  = time.Hour        // nothing is missed; this only bounds how wrong a clock can make us
)

// outbox sends what waits in the store: the posts of a lane one after the other, several lanes side by side.
type outbox struct {
	*GitHub
	busy    map[string]bool // lanes with a post under way, also one that a later post has overtaken meanwhile
	done    chan string
	senders sync.WaitGroup
}

func (g *GitHub) runOutbox(ctx context.Context) {
	changed, stop := g.Store.Watch(store.OutboxTopic)
	defer stop()
	o := &outbox{GitHub: g, busy: map[string]bool{}, done: make(chan string, lanesAtOnce)}
	defer o.senders.Wait()
	for ctx.Err() == nil {
		timer := time.NewTimer(o.take(ctx))
		select {
		case <-ctx.Done():
		case <-changed:
		case lane := <-o.done:
			delete(o.busy, lane)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take begins to send what is due and says how long there is nothing else to do, unless something changes.
func (o *outbox) take(ctx context.Context) time.Duration {
	now := o.now()
	a, ever, err := o.accessNow(ctx)
	if err != nil {
		o.Logger.Error("read access to GitHub", "error", err)
		return time.Minute
	}
	if a != nil && a.paused().After(now) {
		return a.paused().Sub(now)
	}
	due, err := o.Store.DuePosts(ctx, now, lanesAtOnce+len(o.busy))
	if err != nil {
		if ctx.Err() == nil {
			o.Logger.Error("read outbox", "error", err)
		}
		return firstBackoff
	}
	for _, post := range due {
		if o.busy[post.Lane] || len(o.busy) == lanesAtOnce {
			continue
		}
		if a == nil && now.Sub(post.CreatedAt) >= retryWindow {
			o.expire(ctx, post, ever)
			continue
		}
		if a == nil {
			return post.CreatedAt.Add(retryWindow).Sub(now) // the oldest one is the first to be given up
		}
		o.busy[post.Lane] = true
		o.senders.Go(func() {
			o.send(ctx, a, post)
			o.done <- post.Lane
		})
	}
	return o.untilNext(ctx)
}

func (o *outbox) untilNext(ctx context.Context) time.Duration {
	next, waits, err := o.Store.NextPost(ctx)
	if err != nil || !waits || len(o.busy) == lanesAtOnce {
		return longestLook // a lane that is done wakes us before that
	}
	until := next.Sub(o.now())
	if until <= 0 && len(o.busy) > 0 {
		return firstBackoff // it is most likely of a busy lane, and may hide when the next of another is due
	}
	return min(max(until, 10*time.Millisecond), longestLook)
}

func (o *outbox) send(ctx context.Context, a *access, post store.Post) {
	if err := o.Store.BeginPost(ctx, post.ID, o.now().Add(o.doubt)); err != nil {
		o.fault(ctx, post, "begin post", err)
		return
	}
	err := o.deliver(ctx, a, post)
	if err != nil && ctx.Err() != nil {
		return // the next process takes it up
	}
	if err := o.settle(context.WithoutCancel(ctx), a, post, err); err != nil {
		o.fault(ctx, post, "settle post", err)
	}
}

// fault keeps a lane busy for a moment: a database that does not write would have us run in circles.
func (o *outbox) fault(ctx context.Context, post store.Post, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	o.Logger.Error(what, logged(post), "error", err)
	timer := time.NewTimer(firstBackoff)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func logged(post store.Post) slog.Attr {
	return slog.Group("post", "app", post.App, "deployment", post.Deployment, "sha", post.SHA, "kind", post.Kind, "verdict", post.Verdict)
}

// settle records what came of sending a post.
func (g *GitHub) settle(ctx context.Context, a *access, post store.Post, err error) error {
	if err == nil {
		return g.Store.EndPost(ctx, post, store.Posted, "")
	}
	t := classify(err, g.now())
	answer := g.said(t)
	if t.kind == refused {
		return g.refuse(ctx, post, t, answer)
	}
	if g.now().Sub(post.CreatedAt) >= retryWindow { // tried once more, as it may have waited for this process alone
		return g.giveUp(ctx, post, answer, true)
	}
	until := g.now().Add(g.backoff(post.Attempts))
	if t.until.After(until) || t.kind == limited {
		until = t.until
	}
	if t.kind == limited {
		a.pause(until)
	}
	if end := post.CreatedAt.Add(retryWindow); until.After(end) {
		until = end
	}
	g.Logger.Info("GitHub is told later", logged(post), "until", until, "answer", answer)
	return g.Store.PutOffPost(ctx, post.ID, until, answer, t.status != 0 || neverSent(err))
}

// neverSent reports whether the request did not even reach a connection.
func neverSent(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial"
}

// backoff doubles from one attempt to the next. The upper half of it is left to chance, so that not all come back at once.
func backoff(attempts int) time.Duration {
	wait := lastBackoff
	if attempts < 10 {
		wait = min(firstBackoff<<attempts, lastBackoff)
	}
	return wait/2 + rand.N(wait/2)
}

func (g *GitHub) refuse(ctx context.Context, post store.Post, t *trouble, answer string) error {
	if unknownCommit(post, t) {
		g.Logger.Debug("GitHub does not know the commit", logged(post), "answer", answer)
		return g.Store.EndPost(ctx, post, store.Unknown, answer)
	}
	said, err := g.saidBefore(ctx, post, answer)
	if err != nil {
		return err
	}
	if said {
		return g.Store.EndPost(ctx, post, store.Refused, answer)
	}
	g.Logger.Warn("GitHub refuses", logged(post), "answer", answer)
	return g.Store.EndPost(ctx, post, store.Refused, answer, store.Event{
		Kind: "note", Text: "GitHub refuses the " + noun(post) + ": " + answer + " · next: shipgate doctor",
	})
}

// saidBefore says whether the deployment's history has this refusal already, from when it was pending.
func (g *GitHub) saidBefore(ctx context.Context, post store.Post, answer string) (bool, error) {
	posts, err := g.Store.Posts(ctx, post.Deployment)
	return slices.ContainsFunc(posts, func(other store.Post) bool {
		return other.ID < post.ID && other.Kind == post.Kind && other.Outcome == store.Refused && other.Answer == answer
	}), err
}

var noSuchCommit = regexp.MustCompile(`(?i)no (commit|ref) found`)

// unknownCommit says whether a commit never came from GitHub, so that nobody there waits for word of it.
func unknownCommit(post store.Post, t *trouble) bool {
	ours := post.Trigger == store.TriggerPush || post.Trigger == store.TriggerAPI || post.Trigger == store.TriggerRollback
	return ours && (t.status == http.StatusNotFound || (t.status == http.StatusUnprocessableEntity && noSuchCommit.MatchString(t.message)))
}

// expire gives a post up that cannot be sent, as GitHub is not connected.
func (o *outbox) expire(ctx context.Context, post store.Post, ever bool) {
	if err := o.giveUp(ctx, post, post.Answer, ever); err != nil {
		o.fault(ctx, post, "expire post", err)
	}
}

// giveUp ends a post that is too old. Where GitHub was never connected nobody waits for it.
func (g *GitHub) giveUp(ctx context.Context, post store.Post, answer string, ever bool) error {
	var events []store.Event
	if ever {
		text := "GitHub could not be told of this by a " + noun(post) + " for 24 hours"
		if answer != "" {
			text += ": " + answer
		}
		events = append(events, store.Event{Kind: "note", Text: text + " · next: shipgate doctor"})
	}
	return g.Store.EndPost(ctx, post, store.Expired, answer, events...)
}

func noun(post store.Post) string {
	if post.Kind == store.PostDeployment {
		return "GitHub Deployment"
	}
	return "commit status " + strings.ToLower(post.Context())
}
