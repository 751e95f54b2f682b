package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Log appends lines to a deployment's history. They survive the process at once and a power loss a little later.
func (s *Store) Log(ctx context.Context, deployment int64, events ...Event) error {
	events = s.maskedEvents(events)
	err := s.transact(ctx, s.relaxed, func(tx *sql.Tx) error {
		return writeEvents(txContext{ctx, tx}, deployment, events)
	})
	if err == nil {
		s.watchers.wake(DeploymentTopic(deployment))
	}
	return err
}

func writeEvents(tx txContext, deployment int64, events []Event) error {
	for _, event := range events {
		if event.At.IsZero() {
			event.At = time.Now()
		}
		_, err := tx.exec(`INSERT INTO events (deployment, at, kind, step, text) VALUES (?, ?, ?, ?, ?)`,
			deployment, stamp(event.At), event.Kind, string(event.Step), event.Text)
		if err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	return nil
}

// Events gives at most limit lines of a deployment's history with ids greater than after, in order.
func (s *Store) Events(ctx context.Context, deployment, after int64, limit int) ([]Event, error) {
	return collect(ctx, s.read, scanEvent,
		`SELECT id, deployment, at, kind, step, text FROM events WHERE deployment = ? AND id > ? ORDER BY id LIMIT ?`,
		deployment, after, limit)
}

// logKinds are the events that a program wrote, line by line; what else is in a history is short.
const logKinds = `('build', 'release', 'start', 'log')`

// LogSize gives how many lines programs have written into a deployment's history, and how many bytes.
func (s *Store) LogSize(ctx context.Context, deployment int64) (lines, bytes int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(length(CAST(text AS BLOB))), 0) FROM events
		WHERE deployment = ? AND kind IN `+logKinds, deployment).Scan(&lines, &bytes)
	if err != nil {
		return 0, 0, fmt.Errorf("measure log: %w", err)
	}
	return lines, bytes, nil
}

// keptLogs is of how many of the newest deployments of an app the log lines stay, whatever became of them.
const keptLogs = 50

// PruneLogs removes the log lines of deployments that have ended, of which nothing is kept, and that are not among the newest
// of their app. Their steps and verdicts stay.
func (s *Store) PruneLogs(ctx context.Context, kept Kept) error {
	type one struct {
		id  int64
		app string
	}
	old, err := collect(ctx, s.read, func(row scanner) (o one, err error) { return o, row.Scan(&o.id, &o.app) }, `
		SELECT d.id, a.name FROM deployments d JOIN apps a ON a.id = d.app
		WHERE d.step IN ('done', 'undone')
			AND (SELECT count(*) FROM deployments n WHERE n.app = d.app AND n.id > d.id) >= ?
			AND EXISTS (SELECT 1 FROM events e WHERE e.deployment = d.id AND e.kind IN `+logKinds+`)`, keptLogs)
	if err != nil {
		return fmt.Errorf("find old logs: %w", err)
	}
	for _, d := range old {
		if kept.Has(d.app, d.id) {
			continue
		}
		err := s.change(ctx, func(tx *sql.Tx) error { // one at a time: others want to write, too
			t := txContext{ctx, tx}
			if _, err := t.exec(`DELETE FROM events WHERE deployment = ? AND kind IN `+logKinds, d.id); err != nil {
				return fmt.Errorf("remove old log: %w", err)
			}
			return writeEvents(t, d.id, []Event{{Kind: "note", Text: "the log lines were removed: the deployment is old"}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Compact gives what the database does not use any more back to the file system. A database that was made without the means
// for that is rewritten once.
func (s *Store) Compact(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	const incremental = 2
	var mode int
	if err := s.write.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&mode); err != nil {
		return fmt.Errorf("read vacuum mode: %w", err)
	}
	statements := []string{`PRAGMA incremental_vacuum`, `PRAGMA wal_checkpoint(TRUNCATE)`}
	if mode != incremental {
		statements = []string{`PRAGMA auto_vacuum = 2`, `VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`}
	}
	for _, statement := range statements {
		if err := s.runPragma(ctx, statement); err != nil {
			return fmt.Errorf("compact database: %w", err)
		}
	}
	return nil
}

// runPragma steps through all rows: an incremental vacuum frees one page with each.
func (s *Store) runPragma(ctx context.Context, statement string) error {
	rows, err := s.write.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func scanEvent(row scanner) (Event, error) {
	var event Event
	var at sql.NullInt64
	if err := row.Scan(&event.ID, &event.Deployment, &at, &event.Kind, &event.Step, &event.Text); err != nil {
		return Event{}, fmt.Errorf("read event: %w", err)
	}
	event.At = unstamp(at)
	return event, nil
}
