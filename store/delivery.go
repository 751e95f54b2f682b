package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// DeliveryTopic changes whenever a webhook delivery waits to be worked on.
const DeliveryTopic = "deliveries"

// Delivery is one webhook delivery as it came, after its signature was found good.
type Delivery struct {
	ID          int64     `json:"id"`
	GUID        string    `json:"guid"` // the sender's, the same when it delivers again
	Event       string    `json:"event"`
	ContentType string    `json:"-"`
	Body        []byte    `json:"-"`
	ReceivedAt  time.Time `json:"received_at"`
	Attempts    int       `json:"attempts"`
	NextAttempt time.Time `json:"-"`
	EndedAt     time.Time `json:"ended_at,omitzero"`
	Outcome     string    `json:"outcome"` // one line: what came of it, or why it waits
}

// ReceiveDelivery stores a delivery durably, or finds that it was stored before. One with an outcome already is only kept.
func (s *Store) ReceiveDelivery(ctx context.Context, d Delivery) (fresh bool, err error) {
	now := stamp(time.Now())
	ended := sql.NullInt64{Int64: now, Valid: d.Outcome != ""}
	err = s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO deliveries (guid, event, content_type, body, received_at, ended_at, outcome)
			VALUES (?, ?, ?, coalesce(?, x''), ?, ?, ?) ON CONFLICT (guid) DO NOTHING`, d.GUID, d.Event, d.ContentType, d.Body, now, ended, d.Outcome)
		if err != nil {
			return fmt.Errorf("write delivery: %w", err)
		}
		added, err := result.RowsAffected()
		fresh = added > 0
		return err
	})
	if err == nil && fresh && d.Outcome == "" {
		s.watchers.wake(DeliveryTopic)
	}
	return fresh && err == nil, err
}

const selectDeliveries = `SELECT id, guid, event, content_type, received_at, attempts, next_attempt, ended_at, outcome, `

// DueDeliveries gives deliveries that wait and whose time has come, without their bodies, the oldest first.
func (s *Store) DueDeliveries(ctx context.Context, now time.Time, limit int) ([]Delivery, error) {
	return collect(ctx, s.read, scanDelivery, selectDeliveries+`x'' FROM deliveries
		WHERE ended_at IS NULL AND next_attempt <= ? ORDER BY id LIMIT ?`, stamp(now), limit)
}

// DeliveryBody gives the body of a delivery as it came; it is empty when it was forgotten since.
func (s *Store) DeliveryBody(ctx context.Context, id int64) (body []byte, err error) {
	if err := s.read.QueryRowContext(ctx, `SELECT body FROM deliveries WHERE id = ?`, id).Scan(&body); err != nil {
		return nil, fmt.Errorf("read body of delivery: %w", err)
	}
	return body, nil
}

// NextDelivery says when the next delivery is due; false when none waits.
func (s *Store) NextDelivery(ctx context.Context) (time.Time, bool, error) {
	return s.earliest(ctx, `SELECT min(next_attempt) FROM deliveries WHERE ended_at IS NULL`)
}

func (s *Store) earliest(ctx context.Context, query string) (time.Time, bool, error) {
	var at sql.NullInt64
	if err := s.read.QueryRowContext(ctx, query).Scan(&at); err != nil {
		return time.Time{}, false, fmt.Errorf("find what is due next: %w", err)
	}
	return unstamp(at), at.Valid, nil
}

// Deliveries lists the newest deliveries, without their bodies.
func (s *Store) Deliveries(ctx context.Context, limit int) ([]Delivery, error) {
	return collect(ctx, s.read, scanDelivery, selectDeliveries+`x'' FROM deliveries ORDER BY id DESC LIMIT ?`, limit)
}

// HasDelivery says whether a delivery was received, by its GUID.
func (s *Store) HasDelivery(ctx context.Context, guid string) (found bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM deliveries WHERE guid = ?)`, guid).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("find delivery: %w", err)
	}
	return found, nil
}

// EndDelivery records what came of a delivery. A loss of power may take that back: it is worked on once more then, which
// changes nothing, and who waits to have the next one kept does not wait for this.
func (s *Store) EndDelivery(ctx context.Context, id int64, outcome string) error {
	return s.transact(ctx, s.relaxed, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE deliveries SET ended_at = ?, outcome = ?, attempts = attempts + 1 WHERE id = ?`,
			stamp(time.Now()), s.Masked(outcome), id)
		if err != nil {
			return fmt.Errorf("end delivery: %w", err)
		}
		return nil
	})
}

// PutOffDelivery has a delivery worked on again later, and says why.
func (s *Store) PutOffDelivery(ctx context.Context, id int64, until time.Time, why string) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE deliveries SET next_attempt = ?, outcome = ?, attempts = attempts + 1 WHERE id = ?`,
			stamp(until), s.Masked(why), id)
		if err != nil {
			return fmt.Errorf("put off delivery: %w", err)
		}
		return nil
	})
}

// PruneDeliveries forgets the bodies of ended deliveries received before one time, and whole ones before another.
func (s *Store) PruneDeliveries(ctx context.Context, bodiesBefore, before time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, first := tx.ExecContext(ctx, `UPDATE deliveries SET body = x'' WHERE ended_at IS NOT NULL AND received_at < ? AND body <> x''`, stamp(bodiesBefore))
		_, second := tx.ExecContext(ctx, `DELETE FROM deliveries WHERE ended_at IS NOT NULL AND received_at < ?`, stamp(before))
		if err := errors.Join(first, second); err != nil {
			return fmt.Errorf("prune deliveries: %w", err)
		}
		return nil
	})
}

func scanDelivery(row scanner) (Delivery, error) {
	var d Delivery
	var received, next, ended sql.NullInt64
	err := row.Scan(&d.ID, &d.GUID, &d.Event, &d.ContentType, &received, &d.Attempts, &next, &ended, &d.Outcome, &d.Body)
	if err != nil {
		return Delivery{}, fmt.Errorf("read delivery: %w", err)
	}
	d.ReceivedAt, d.NextAttempt, d.EndedAt = unstamp(received), unstamp(next), unstamp(ended)
	return d, nil
}
