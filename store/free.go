package store

import (
	"context"
	"fmt"
)

// FreeAddresses gives back the addresses of all of an app's deployments but one, 0 for none, and those that are kept warm.
// Their containers are gone.
func (s *Store) FreeAddresses(ctx context.Context, app string, except int64) error {
	return s.changeApp(ctx, app, func(tx txContext, id int64) error {
		_, err := tx.exec(`DELETE FROM addresses WHERE deployment <> ? AND deployment NOT IN (SELECT deployment FROM warm)
			AND deployment IN (SELECT id FROM deployments WHERE app = ?)`, except, id)
		if err != nil {
			return fmt.Errorf("free addresses of app: %w", err)
		}
		return nil
	})
}
