package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// AuditPolicy adds an entry with the operator's widening switches, in one line, when they are others than at the last call. Before
// the first call there are none.
func (s *Store) AuditPolicy(ctx context.Context, switches string) error {
	var last string
	err := s.read.QueryRowContext(ctx, `SELECT value FROM settings WHERE key = 'audited_policy'`).Scan(&last)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read last policy: %w", err)
	}
	if last == switches {
		return nil
	}
	// The entry comes first: a crash in between repeats it.
	entry := AuditEntry{Who: "operator", Action: "serve " + cmp.Or(switches, "without --allow switches"), Outcome: AuditDone}
	if err := s.Audit(ctx, entry); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO settings (key, value) VALUES ('audited_policy', ?)`, switches)
		if err != nil {
			return fmt.Errorf("write policy: %w", err)
		}
		return nil
	})
}
