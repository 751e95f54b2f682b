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
		needed, err := r.needed(ctx, container)
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

func (r *Runner) needed(ctx context.Context, container store.Container) (bool, error) {
	if container.Role == store.RoleStack {
		return true, nil
	}
	unfinished, err := r.Store.Unfinished(ctx, container.App)
	if err != nil || len(unfinished) > 0 {
		return true, err
	}
	warm, err := r.warmNames(ctx, container.App)
	if err != nil || warm[container.Name] {
		return true, err
	}
	live, _, err := r.Store.Live(ctx, container.App)
	return err != nil || live.Container == container.Name, err
}
