package deploy

import (
	"context"
	"time"
)

// sayWhenAway looks at the engine when a step takes long, and says in the history when it does not answer, and when it does
// again. Stop ends the looking and waits for that.
func (a *attempt) sayWhenAway(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	asItIs := *a // the step goes on to change the attempt
	a = &asItIs
	go func() {
		defer close(done)
		for away := false; ; {
			timer := time.NewTimer(a.Patience.Notice)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			err := a.askEngine(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !away:
				a.say(ctx, "wait", "for the Docker engine, which does not answer: %s", err)
			case err == nil && away:
				a.say(ctx, "wait", "over: the Docker engine answers")
			}
			away = err != nil
		}
	}()
	return func() { cancel(); <-done }
}

func (a *attempt) askEngine(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, a.Patience.Notice*3/5)
	defer cancel()
	_, err := a.Engine.List(bounded, a.d.App)
	return err
}
