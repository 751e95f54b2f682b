package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shipgate/shipgate/store"
)

// Forget removes the images, release trees and stack checkouts of an app that is no more, and the site objects that
// nothing links any more. The data of its stack stays.
func (b *Builder) Forget(ctx context.Context, app string) error {
	if err := store.ValidateAppName(app); err != nil {
		return err
	}
	b.collecting.Lock()
	defer b.collecting.Unlock()
	others := func(of string, _ int64) bool { return of != app }
	_, siteErr := b.sites.collect(ctx, others, false)
	_, stackErr := b.collectStacks(ctx, others, false)
	err := errors.Join(siteErr, stackErr)
	if b.docker == nil {
		return err
	}
	_, imageErr := b.collectImages(ctx, others, false)
	_, pinErr := b.collectPins(ctx, others, false)
	return errors.Join(err, imageErr, pinErr)
}

// ForgetData removes the folder of a destroyed app's stack with all that its services stored in it.
func (b *Builder) ForgetData(_ context.Context, app string) error {
	if err := store.ValidateAppName(app); err != nil {
		return err
	}
	if b.stacksDir == "" {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(b.stacksDir, app)); err != nil {
		return fmt.Errorf("remove the stack's data: %w", err)
	}
	return nil
}
