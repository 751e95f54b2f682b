package compose

import (
	"context"
)

// Stop stops the containers of the app's stack, each with the grace that its service has, and keeps them with all that they
// wrote. A missing stack is no error.
func (s *Stacks) Stop(ctx context.Context, app string) error {
	all, release, err := s.acquireContainers(ctx, app)
	if err != nil {
		return err
	}
	defer release()
	return inOrder(ctx, all, s.options.Engine.StopStackContainer)
}
