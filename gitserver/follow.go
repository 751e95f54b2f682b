package gitserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shipgate/shipgate/store"
)

var errClosing = errors.New("the server is stopping")

// follow shows the deployment's events as they come, until its verdict.
func (p *push) follow(ctx context.Context, d store.Deployment) (store.Deployment, error) {
	p.out.line("", fmt.Sprintf("%s · %s %s · deployment %d", d.App, d.ShortSHA(), d.Subject, d.ID))
	changed, stop := p.server.store.Watch(store.DeploymentTopic(d.ID))
	defer stop()
	faults, unwatch := p.server.store.Watch(store.WriteFaultTopic)
	defer unwatch()
	fault := faultWatch{push: p}
	defer fault.end()
	tail := tail{push: p, deployment: d.ID}
	for {
		// The verdict is read first, so that every event written before it is shown.
		current, err := p.server.store.Deployment(ctx, d.ID)
		if err == nil {
			err = tail.show(ctx)
		}
		if err != nil && ctx.Err() != nil {
			return d, errClosing
		}
		if err != nil {
			return d, err
		}
		if current.Verdict != "" {
			return current, nil
		}
		fault.look()
		select {
		case <-changed:
		case <-faults:
		case <-fault.tooLong:
			return d, fault.problem
		case <-ctx.Done():
			return d, errClosing // or the client has gone, and does not read it
		case <-p.server.closing.Done():
			return d, errClosing
		}
	}
}

// tail shows each event of a deployment once.
type tail struct {
	push       *push
	deployment int64
	after      int64
}

func (t *tail) show(ctx context.Context) error {
	const batch = 500
	for {
		events, err := t.push.server.store.Events(ctx, t.deployment, t.after, batch)
		if err != nil {
			return err
		}
		for _, e := range events {
			t.after = e.ID
			if !slices.Contains(unspoken, e.Kind) {
				t.push.out.line(e.Kind, e.Text)
			}
		}
		if len(events) < batch {
			return nil
		}
	}
}

// unspoken are the words of events that a push says in another way.
var unspoken = []string{"queued", "step"}

// faultWatch says in the push that the server cannot write its database, and gives up when that lasts: nothing can be shown of
// the deployment then.
type faultWatch struct {
	push    *push
	problem *store.Problem
	timer   *time.Timer
	tooLong <-chan time.Time
}

func (f *faultWatch) look() {
	before := f.problem
	f.problem = f.push.server.store.WriteFault()
	switch {
	case f.problem != nil && before == nil:
		f.push.out.line("wait", f.problem.Message)
		f.timer = time.NewTimer(f.push.server.faultPatience)
		f.tooLong = f.timer.C
	case f.problem == nil && before != nil:
		f.push.out.line("wait", "over: the server can write again")
		f.end()
	}
}

func (f *faultWatch) end() {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer, f.tooLong = nil, nil
}
