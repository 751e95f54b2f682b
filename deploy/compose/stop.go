package compose

import (
	"context"
	"slices"
)

// Stop stops the containers of the app's stack, each with the grace that its service has, and keeps them with all that they
// wrote. A missing stack is no error.
func (s *Stacks) Stop(ctx context.Context, app string) error {
	release, err := s.acquire(ctx, app)
	if err != nil {
		return err
	}
	defer release()
	found, err := s.containers(ctx, app, false)
	if err != nil {
		return err
	}
	return inOrder(ctx, slices.Concat(found.ours, found.old), s.options.Engine.StopStackContainer)
}
