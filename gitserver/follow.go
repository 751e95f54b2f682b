package gitserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shipgate/shipgate/store"
)

var errClosing = errors.New("the server is stopping")

// follow shows the deployment's events as they come, until its verdict.
func (p *push) follow(ctx context.Context, d store.Deployment) (store.Deployment, error) {
	p.out.line("", fmt.Sprintf("%s · %s %s · deployment %d", d.App, d.ShortSHA(), d.Subject, d.ID))
	changed, stop := p.server.store.Watch(store.DeploymentTopic(d.ID))
	defer stop()
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
		select {
		case <-changed:
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
