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

func scanEvent(row scanner) (Event, error) {
	var event Event
	var at sql.NullInt64
	if err := row.Scan(&event.ID, &event.Deployment, &at, &event.Kind, &event.Step, &event.Text); err != nil {
		return Event{}, fmt.Errorf("read event: %w", err)
	}
	event.At = unstamp(at)
	return event, nil
}
