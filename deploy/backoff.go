package deploy

import (
	"context"
	"time"

	"github.com/shipgate/shipgate/store"
)

// backoff waits between tries, longer each time, and never longer than the context lives.
type backoff struct {
	next, longest time.Duration
}

func newBackoff(first, longest time.Duration) *backoff {
	return &backoff{next: first, longest: longest}
}

// wait says whether there is any sense in another try.
func (b *backoff) wait(ctx context.Context) bool {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(b.next*3/2+1, b.longest)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// retry repeats what can be repeated until it works or the context ends, and gives the last error then.
func retry(ctx context.Context, do func(ctx context.Context) error) error {
	pause := newBackoff(20*time.Millisecond, time.Second)
	for {
		err := do(ctx)
		if err == nil || !pause.wait(ctx) {
			return err
		}
	}
}

// retryUnlessRefused is retry for one who may be away: who understood and refused is not asked again.
func retryUnlessRefused(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return retry(ctx, func(ctx context.Context) error {
		err := do(ctx)
		if problem, known := store.AsProblem(err); known && problem.Code != store.CodeUnreachable {
			cancel()
		}
		return err
	})
}
