package deploy

import (
	"context"
	"time"

	"github.com/shipgate/shipgate/store"
)

// obtain brings the commit here, where it is still at the forge. One that cannot be reached is asked again for a while: the
// commit does not go away, and a verdict of ours would only make somebody push again.
func (a *attempt) obtain(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.Patience.Fetch)
	defer cancel()
	pause := newBackoff(250*time.Millisecond, 10*time.Second)
	for told := false; ; {
		fetched, err := a.Branches.Obtain(ctx, a.d)
		switch {
		case err == nil && fetched:
			a.say(ctx, "fetch", "%s · %s", a.d.ShortSHA(), seconds(time.Since(began)))
			return nil
		case err == nil:
			return nil
		case store.CodeOf(err) != store.CodeUnreachable:
			return err
		case !told:
			a.say(ctx, "wait", "%v", err)
			told = true
		}
		if !pause.wait(ctx) {
			return err
		}
	}
}
