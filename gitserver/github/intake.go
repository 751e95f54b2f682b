package github

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	repositoriesAtOnce = 4
	mostTaken          = 50 // deliveries in memory
	firstPutOff        = time.Second
	longestPutOff      = 5 * time.Minute
	afterTrouble       = 10 * time.Second // of the store
)

// intake works on the deliveries that wait: those of one repository in their order, several repositories side by side.
type intake struct {
	*GitHub
	taken   map[int64]bool
	last    map[string]chan struct{} // the end of the newest delivery of each repository that has any at work
	slots   chan struct{}
	ended   chan worked
	workers sync.WaitGroup
	began   time.Time
	settled bool // nothing is due that was received before it began
}

// worked is a delivery that is not at work any more.
type worked struct {
	id         int64
	repository string
	end        chan struct{}
}

func (g *GitHub) runDeliveries(ctx context.Context) {
	changed, stop := g.Store.Watch(store.DeliveryTopic)
	defer stop()
	i := &intake{
		GitHub: g, taken: map[int64]bool{}, last: map[string]chan struct{}{},
		slots: make(chan struct{}, repositoriesAtOnce), ended: make(chan worked, 2*mostTaken), began: g.now(),
	}
	defer i.workers.Wait()
	for ctx.Err() == nil {
		timer := time.NewTimer(i.take(ctx))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		case w := <-i.ended:
			i.forget(w)
		}
		timer.Stop()
	}
}

// take begins with what is due and says how long there is nothing else to do, unless something changes.
func (i *intake) take(ctx context.Context) time.Duration {
	if len(i.taken) >= mostTaken {
		return longestLook
	}
	now := i.now()
	due, err := i.Store.DueDeliveries(ctx, now, 2*mostTaken)
	if err != nil {
		return i.troubled(ctx, "find deliveries that are due", err)
	}
	for _, d := range due {
		if i.taken[d.ID] || len(i.taken) >= mostTaken {
			continue
		}
		if err := i.begin(ctx, d); err != nil {
			return i.troubled(ctx, "read delivery", err)
		}
	}
	if !i.settled && (len(due) == 0 || due[0].ReceivedAt.After(i.began)) {
		i.settled = true
		close(i.workedOff)
	}
	next, waits, err := i.Store.NextDelivery(ctx)
	switch {
	case err != nil:
		return i.troubled(ctx, "find the next delivery", err)
	case !waits:
		return longestLook
	case len(i.taken) > 0: // what is at work is due as well
		return max(time.Second, next.Sub(now))
	}
	return next.Sub(now)
}

func (i *intake) troubled(ctx context.Context, what string, err error) time.Duration {
	if ctx.Err() == nil {
		i.Logger.Error(what, "error", err)
	}
	return afterTrouble
}

// begin puts a delivery behind those of the same repository. Its body, which may be large, is not kept until its turn comes.
func (i *intake) begin(ctx context.Context, d store.Delivery) (err error) {
	whole := d
	if whole.Body, err = i.Store.DeliveryBody(ctx, d.ID); err != nil {
		return err
	}
	w := worked{d.ID, repositoryKey(whole), make(chan struct{})}
	before := i.last[w.repository]
	i.last[w.repository], i.taken[d.ID] = w.end, true
	i.workers.Go(func() {
		if before != nil {
			<-before
		}
		i.slots <- struct{}{}
		err := i.workOn(ctx, d)
		<-i.slots
		close(w.end)
		if err != nil && ctx.Err() == nil {
			i.Logger.Error("record outcome of delivery", "guid", d.GUID, "error", err)
			rest(ctx, afterTrouble)
		}
		i.ended <- w
	})
	return nil
}

func rest(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (i *intake) forget(w worked) {
	delete(i.taken, w.id)
	if i.last[w.repository] == w.end {
		delete(i.last, w.repository)
	}
}

// repositoryKey tells repositories apart: by number, which outlives a renaming.
func repositoryKey(d store.Delivery) string {
	var p struct {
		Repository repositoryPayload `json:"repository"`
	}
	payload, err := payloadOf(d)
	if err == nil {
		err = json.Unmarshal(payload, &p)
	}
	if err != nil || p.Repository.ID == 0 {
		return strings.ToLower(p.Repository.FullName)
	}
	return fmt.Sprint(p.Repository.ID)
}

// workOn finds out what a delivery means and records what came of it. Where that is not all of it yet, it is worked on again
// for up to a day, which changes nothing for the apps that are done with it.
func (g *GitHub) workOn(ctx context.Context, d store.Delivery) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	if d.Body, err = g.Store.DeliveryBody(ctx, d.ID); err != nil {
		return err
	}
	outcome, waits := g.outcomeOf(ctx, d)
	if ctx.Err() != nil {
		return nil // the next process works on it
	}
	outcome = oneLine(outcome, 2000)
	now := g.now()
	if waits && now.Sub(d.ReceivedAt) < retryWindow {
		return g.Store.PutOffDelivery(ctx, d.ID, now.Add(putOffFor(d.Attempts)), outcome)
	}
	return g.Store.EndDelivery(ctx, d.ID, outcome)
}

func putOffFor(attempts int) time.Duration {
	return min(firstPutOff<<min(attempts, 20), longestPutOff)
}

// outcomeOf does what a delivery asks for. Waits says that something of it is worth another try.
func (g *GitHub) outcomeOf(ctx context.Context, d store.Delivery) (outcome string, waits bool) {
	payload, err := payloadOf(d)
	if err != nil {
		return "ignored: the " + d.Event + " event cannot be understood: " + err.Error(), false
	}
	switch d.Event {
	case "repository":
		return g.outcomeOfRenaming(ctx, payload, d.ReceivedAt)
	case "installation", "installation_repositories":
		return g.outcomeOfInstallation(ctx)
	}
	p, err := decodePush(payload)
	if err != nil {
		return "ignored: the push event cannot be understood: " + err.Error(), false
	}
	return g.outcomeOfPush(ctx, p, d)
}

func (g *GitHub) outcomeOfPush(ctx context.Context, p push, d store.Delivery) (outcome string, waits bool) {
	var said []string
	if p.repositoryID > 0 {
		at := p.pushedAt
		if at.IsZero() {
			at = d.ReceivedAt
		}
		// A push that is told of late may give a name that the repository has had no more since; it counts under the new one.
		now, renamed, err := g.Store.NoteRepository(ctx, p.repositoryID, p.repository, at)
		if err != nil {
			return waiting(err)
		}
		p.repository = now
		if len(renamed) > 0 {
			said = append(said, movedTo(p.repository, renamed))
		}
	}
	apps, err := g.Store.AppsOf(ctx, p.repository)
	if err != nil {
		return waiting(err)
	}
	if len(apps) == 0 {
		return "no app follows " + p.repository.String(), false
	}
	if strings.HasPrefix(p.ref, "refs/tags/") {
		return strings.Join(append(said, "tag "+shortRef(p.ref)+": tags do not deploy"), "; "), false
	}
	for _, app := range apps {
		what, err := g.receive(ctx, app, arrival{trigger: store.TriggerWebhook, push: p, key: "delivery:" + d.GUID})
		if err != nil {
			var again bool
			what, again = waiting(err)
			waits = waits || again
		}
		said = append(said, app.Name+": "+what)
	}
	return strings.Join(said, "; "), waits
}

// waiting says of an error whether another try may help: against what the user has to put right it does not.
func waiting(err error) (said string, waits bool) {
	if isProblem(err) && store.CodeOf(err) != store.CodeUnreachable {
		return err.Error(), false
	}
	return "waits for another try: " + err.Error(), true
}

func (g *GitHub) outcomeOfRenaming(ctx context.Context, payload []byte, at time.Time) (outcome string, waits bool) {
	r, is, err := decodeRenaming(payload)
	if err != nil {
		return "ignored: the repository event cannot be understood: " + err.Error(), false
	}
	if !is {
		return "ignored: the repository keeps its name", false
	}
	apps, err := g.Store.AppsOf(ctx, r.from)
	if err != nil {
		return waiting(err)
	}
	if len(apps) == 0 { // or a push has told of the new name before
		return "no app follows " + r.from.String(), false
	}
	// The number may not have been heard of before; the old name goes with it first.
	if _, _, err := g.Store.NoteRepository(ctx, r.id, r.from, at); err != nil {
		return waiting(err)
	}
	_, renamed, err := g.Store.NoteRepository(ctx, r.id, r.to, at)
	if err != nil {
		return waiting(err)
	}
	return movedTo(r.to, renamed), false
}

func movedTo(now store.Repository, apps []string) string {
	return "the repository is " + now.String() + " now, and followed there by " + strings.Join(apps, ", ")
}

// outcomeOfInstallation tells GitHub once more what it refused in the last day, and looks at the branches: the App may be let
// in now where it was not.
func (g *GitHub) outcomeOfInstallation(ctx context.Context) (outcome string, waits bool) {
	if err := g.Store.RetryRefusedPosts(ctx, g.now().Add(-retryWindow)); err != nil {
		return waiting(err)
	}
	select {
	case g.connected <- struct{}{}:
	default: // whoever waits for it is awake already
	}
	return "what was refused in the last 24 hours is told once more", false
}
