package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// AuditEntry is one use of the server by somebody.
type AuditEntry struct {
	ID         int64     `json:"id"`
	At         time.Time `json:"at"`
	Token      int64     `json:"token"` // its number; 0: none
	Who        string    `json:"who"`   // the token's name
	Action     string    `json:"action"`
	App        string    `json:"app"`
	Deployment int64     `json:"deployment"` // 0: none
	Outcome    string    `json:"outcome"`    // done or refused
	Reason     string    `json:"reason"`     // why it was refused
	Remote     string    `json:"remote"`     // the address that asked
}

// Outcomes of what was asked for.
const (
	AuditDone    = "done"
	AuditRefused = "refused"
)

const (
	auditKept  = 50_000      // entries; the oldest go
	auditQuiet = time.Minute // what repeats within this time is written once, where it changes nothing
)

// Audit adds an entry to the trail, now.
func (s *Store) Audit(ctx context.Context, entry AuditEntry) error {
	return s.audit(ctx, entry, 0)
}

// AuditQuietly adds an entry unless there is one like it of the last minute: of what only reads, and of what is refused, there
// may be any number.
func (s *Store) AuditQuietly(ctx context.Context, entry AuditEntry) error {
	return s.audit(ctx, entry, auditQuiet)
}

func (s *Store) audit(ctx context.Context, e AuditEntry, quiet time.Duration) error {
	now := time.Now()
	e.Reason = s.Masked(e.Reason)
	return s.transact(ctx, s.relaxed, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		_, err := t.exec(`INSERT INTO audit (at, token, who, action, app, deployment, outcome, reason, remote)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS (SELECT 1 FROM audit WHERE at > ?10
				AND token = ?2 AND action = ?4 AND app = ?5 AND outcome = ?7 AND reason = ?8 AND remote = ?9)`,
			stamp(now), e.Token, e.Who, e.Action, e.App, e.Deployment, e.Outcome, e.Reason, e.Remote, quietSince(now, quiet))
		if err == nil {
			_, err = t.exec(`DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?`, auditKept)
		}
		if err != nil {
			return fmt.Errorf("write audit trail: %w", err)
		}
		return nil
	})
}

// quietSince is the time after which an entry like the new one makes it needless.
func quietSince(now time.Time, quiet time.Duration) int64 {
	if quiet == 0 {
		return stamp(now.Add(time.Hour))
	}
	return stamp(now.Add(-quiet))
}

// AuditTrail gives the newest entries, of one app or of all when it is empty, the newest first.
func (s *Store) AuditTrail(ctx context.Context, app string, limit int) ([]AuditEntry, error) {
	return collect(ctx, s.read, func(row scanner) (e AuditEntry, err error) {
		var at sql.NullInt64
		err = row.Scan(&e.ID, &at, &e.Token, &e.Who, &e.Action, &e.App, &e.Deployment, &e.Outcome, &e.Reason, &e.Remote)
		e.At = unstamp(at)
		return e, err
	}, `SELECT id, at, token, who, action, app, deployment, outcome, reason, remote FROM audit
		WHERE app = ?1 OR ?1 = '' ORDER BY id DESC LIMIT ?2`, app, limit)
}
