package compose

import "context"

// Stop stops the containers of the app's stack, each with the grace that its service has, and keeps them with all that they
// wrote. A missing stack is no error.
func (s *Stacks) Stop(ctx context.Context, app string) error {
	release, err := s.acquire(ctx, app)
	if err != nil {
		return err
	}
	defer release()
	on, err := s.project(ctx, app)
	if err != nil || len(on.found) == 0 {
		return err
	}
	said := &tail{}
	err = on.plugin.run(ctx, nil, said.add, on.args("stop")...)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return engineTrouble("stop the stack", err, said.lines)
}
