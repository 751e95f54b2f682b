package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// collector removes what nothing needs any more: when asked, a while after deployments, and daily.
type collector struct {
	store  *store.Store
	parts  []collectPart
	strays func(ctx context.Context, dry bool) ([]store.Garbage, error) // containers; first, as they hold images
	logger *slog.Logger
	settle time.Duration // from a verdict to the look that follows it: the old version has been drained by then
	every  time.Duration // from one look to the next: what has only grown old is found, too

	one sync.Mutex // at a time
}

// collectPart removes one kind of artefact that is not kept.
type collectPart func(ctx context.Context, kept store.Kept, dry bool) ([]store.Garbage, error)

// collect removes what is not needed, or, dry, only lists it. Parts that fail do not keep the others from their work.
func (c *collector) collect(ctx context.Context, dry bool) ([]store.Garbage, error) {
	c.one.Lock()
	defer c.one.Unlock()
	found, trouble := c.strays(ctx, dry)
	kept, err := c.store.Kept(ctx)
	if err == nil && !dry {
		_, err = c.store.MarkPruned(ctx, kept)
	}
	if err != nil {
		return found, errors.Join(trouble, fmt.Errorf("find out what is kept: %w", err))
	}
	for _, part := range c.parts {
		more, err := part(ctx, kept, dry)
		found, trouble = append(found, more...), errors.Join(trouble, err)
	}
	if !dry {
		trouble = errors.Join(trouble, c.store.PruneLogs(ctx, kept), c.store.Compact(ctx), c.store.KeepReserve())
	}
	return found, trouble
}

// run collects until ctx ends.
func (c *collector) run(ctx context.Context) {
	verdicts, unwatch := c.store.Watch(store.OutboxTopic)
	defer unwatch()
	due := time.NewTimer(c.settle)
	defer due.Stop()
	for soon := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-verdicts:
			if !soon { // a later one does not put it off
				due.Reset(c.settle)
				soon = true
			}
		case <-due.C:
			c.collectAndLog(ctx)
			due.Reset(c.every)
			soon = false
		}
	}
}

func (c *collector) collectAndLog(ctx context.Context) {
	found, err := c.collect(ctx, false)
	if err != nil && ctx.Err() == nil {
		c.logger.Error("remove what is not needed", "error", err)
	}
	var bytes int64
	for _, one := range found {
		bytes += one.Bytes
	}
	if len(found) > 0 {
		c.logger.Info("removed what is not needed", "items", len(found), "bytes", bytes)
	}
}
