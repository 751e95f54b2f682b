package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
	"unicode"
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
	Detail     string    `json:"detail"`     // what the action was about: names, never secret values
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
	auditKept      = 50_000      // entries; the oldest go
	auditStrangers = 5_000       // of those who were turned away, kept besides: they must not drive out what was done
	auditSweep     = 64          // entries that may come before what is too much goes
	auditText      = 500         // runes of a text
	auditQuiet     = time.Minute // what repeats within this time is written once, where it changes nothing
)

// Audit adds an entry to the trail, now.
func (s *Store) Audit(ctx context.Context, entry AuditEntry) error {
	return s.audit(ctx, entry, 0)
}

// AuditQuietly adds an entry unless there is one like it of the last minute: of what is refused there may be any number.
func (s *Store) AuditQuietly(ctx context.Context, entry AuditEntry) error {
	if !s.strangers.first(entry, time.Now()) {
		return nil
	}
	return s.audit(ctx, entry, auditQuiet)
}

func (s *Store) audit(ctx context.Context, e AuditEntry, quiet time.Duration) error {
	now := time.Now()
	e.Who, e.Action, e.Reason, e.Detail = auditable(e.Who), auditable(e.Action), auditable(s.Masked(e.Reason)), auditable(s.Masked(e.Detail))
	return s.transact(ctx, s.relaxed, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		if err := dropUnknownApp(t, &e); err != nil {
			return err
		}
		result, err := t.exec(`INSERT INTO audit (at, token, who, action, app, deployment, outcome, reason, remote, detail)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?11 WHERE NOT EXISTS (SELECT 1 FROM audit WHERE at > ?10
				AND token = ?2 AND action = ?4 AND app = ?5 AND outcome = ?7 AND reason = ?8 AND remote = ?9)`,
			stamp(now), e.Token, e.Who, e.Action, e.App, e.Deployment, e.Outcome, e.Reason, e.Remote, quietSince(now, quiet), e.Detail)
		if err != nil {
			return fmt.Errorf("write audit trail: %w", err)
		}
		return sweepAudit(t, result)
	})
}

// auditable makes one short line of what may come from a stranger, without what a terminal would take for a command.
func auditable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if runes := []rune(text); len(runes) > auditText {
		return string(runes[:auditText-1]) + "…"
	}
	return text
}

// dropUnknownApp keeps out names that somebody who was refused made up.
func dropUnknownApp(tx txContext, e *AuditEntry) error {
	if e.Outcome != AuditRefused {
		return nil
	}
	var known bool
	if err := tx.row(`SELECT EXISTS (SELECT 1 FROM apps WHERE name = ?)`, e.App).Scan(&known); err != nil {
		return fmt.Errorf("find app: %w", err)
	}
	if !known {
		e.App = ""
	}
	return nil
}

// sweepAudit removes the oldest entries beyond what is kept, now and then: of strangers, and of all others.
func sweepAudit(tx txContext, written sql.Result) error {
	if added, err := written.RowsAffected(); err != nil || added == 0 {
		return err
	}
	if id, err := written.LastInsertId(); err != nil || id%auditSweep != 0 {
		return err
	}
	for stranger, kept := range map[bool]int{true: auditStrangers, false: auditKept} {
		_, err := tx.exec(`DELETE FROM audit WHERE (token = 0 AND outcome = ?1) = ?2 AND id <=
			(SELECT id FROM audit WHERE (token = 0 AND outcome = ?1) = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)`, AuditRefused, stranger, kept)
		if err != nil {
			return fmt.Errorf("shorten audit trail: %w", err)
		}
	}
	return nil
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
	if err := s.writeWrongTokens(ctx); err != nil {
		return nil, err
	}
	return collect(ctx, s.read, func(row scanner) (e AuditEntry, err error) {
		var at sql.NullInt64
		err = row.Scan(&e.ID, &at, &e.Token, &e.Who, &e.Action, &e.App, &e.Deployment, &e.Outcome, &e.Reason, &e.Remote, &e.Detail)
		e.At = unstamp(at)
		return e, err
	}, `SELECT id, at, token, who, action, app, deployment, outcome, reason, remote, detail FROM audit
		WHERE app = ?1 OR ?1 = '' ORDER BY id DESC LIMIT ?2`, app, limit)
}
