package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/shipgate/shipgate/store"
)

// Collect removes containers of ours that nothing needs, or, dry, only lists them: what is not live, not kept warm, and of
// no app at work. The containers of a stack are Compose's.
func (r *Runner) Collect(ctx context.Context, dry bool) ([]store.Garbage, error) {
	containers, err := r.Engine.List(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var garbage []store.Garbage
	var trouble error
	for _, container := range containers {
		needed := container.Role == store.RoleStack
		if !needed {
			needed, err = r.needsContainer(ctx, container)
		}
		if err == nil && !needed {
			garbage = append(garbage, store.Garbage{Kind: "container", App: container.App, Name: container.Name})
			if !dry {
				err = r.discard(ctx, container, store.DefaultStopGrace)
			}
		}
		trouble = errors.Join(trouble, err)
	}
	return garbage, trouble
}

// needsContainer also reports those of an app that the database has never heard of: it may be the wrong one, or empty.
func (r *Runner) needsContainer(ctx context.Context, container store.Container) (bool, error) {
	if _, err := r.Store.App(ctx, container.App); err != nil {
		destroyed, unread := r.Store.Destroyed(ctx, container.App)
		return !destroyed, errors.Join(notFoundIsNil(err), unread)
	}
	return r.Store.NeedsContainer(ctx, container.App, container.Name)
}
