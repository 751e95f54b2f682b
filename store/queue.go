package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// NewDeployment is what Enqueue needs to know.
type NewDeployment struct {
	ID             int64 // from ReserveDeployment; 0 takes the next number
	App            string
	Trigger        Trigger
	SHA            string
	Ref            string
	Subject        string
	Updates        []RefUpdate // refs that move with success
	Release        int64       // a rollback starts with its Release
	RollbackOf     int64
	IdempotencyKey string // the same key of the same app gives the deployment that it gave before
}

// ReserveDeployment hands out the next number, before anything is done under it. An unused number is lost.
func (s *Store) ReserveDeployment(ctx context.Context) (id int64, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		id, err = nextNumber(txContext{ctx, tx})
		return err
	})
	return id, err
}

func nextNumber(tx txContext) (int64, error) {
	result, err := tx.exec(`INSERT INTO numbers DEFAULT VALUES`)
	if err != nil {
		return 0, fmt.Errorf("reserve deployment number: %w", err)
	}
	return result.LastInsertId()
}

// Enqueue stores a deployment durably and ends those of the same app that still wait: each gets the verdict superseded.
func (s *Store) Enqueue(ctx context.Context, request NewDeployment) (Deployment, error) {
	var id int64
	var superseded []int64
	err := s.changeApp(ctx, request.App, func(tx txContext, app int64) error {
		if request.IdempotencyKey != "" {
			err := tx.row(`SELECT id FROM deployments WHERE app = ? AND idempotency_key = ?`, app, request.IdempotencyKey).Scan(&id)
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		var err error
		if id = request.ID; id == 0 {
			if id, err = nextNumber(tx); err != nil {
				return err
			}
		}
		if superseded, err = supersede(tx, app, id); err != nil {
			return err
		}
		return insertDeployment(tx, app, id, request)
	})
	if err != nil {
		return Deployment{}, err
	}
	for _, old := range superseded {
		s.watchers.wake(DeploymentTopic(old))
	}
	s.watchers.wake(QueueTopic)
	return s.Deployment(ctx, id)
}

func supersede(tx txContext, app, by int64) ([]int64, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, `SELECT id FROM deployments WHERE app = ? AND step = 'queued' AND started_at IS NULL`, app)
	if err != nil {
		return nil, fmt.Errorf("find queued deployments: %w", err)
	}
	defer rows.Close()
	var waiting []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("find queued deployments: %w", err)
		}
		waiting = append(waiting, id)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for _, id := range waiting {
		if err := endQueued(tx, id, Superseded, fmt.Sprintf("superseded by deployment %d", by)); err != nil {
			return nil, err
		}
	}
	return waiting, nil
}

// endQueued gives a deployment that has not started its verdict.
func endQueued(tx txContext, id int64, verdict Verdict, reason string) error {
	_, err := tx.exec(`UPDATE deployments SET step = 'undone', verdict = ?, reason = ?, finished_at = ? WHERE id = ?`,
		verdict, reason, stamp(time.Now()), id)
	if err != nil {
		return fmt.Errorf("end queued deployment: %w", err)
	}
	return writeEvents(tx, id, []Event{{Kind: string(verdict), Step: StepUndone, Text: reason}})
}

func insertDeployment(tx txContext, app, id int64, request NewDeployment) error {
	if request.Updates == nil {
		request.Updates = []RefUpdate{}
	}
	updates, err := json.Marshal(request.Updates)
	if err != nil {
		return fmt.Errorf("encode ref updates: %w", err)
	}
	key := sql.NullString{String: request.IdempotencyKey, Valid: request.IdempotencyKey != ""}
	release := sql.NullInt64{Int64: request.Release, Valid: request.Release != 0}
	_, err = tx.exec(`INSERT INTO deployments
		(id, app, trigger_, sha, ref, subject, step, release, rollback_of, updates, idempotency_key, created_at)
		VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)`,
		id, app, request.Trigger, request.SHA, request.Ref, request.Subject, release, request.RollbackOf,
		string(updates), key, stamp(time.Now()))
	if err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	return writeEvents(tx, id, []Event{{Kind: "queued", Step: StepQueued, Text: "asked for by " + string(request.Trigger)}})
}

// Claim takes the oldest waiting deployment of an app out of the queue: the strategy is decided and what was live is
// remembered. With a deployment at work already, also one of an earlier process, it gives that one.
func (s *Store) Claim(ctx context.Context, app string) (claimed Deployment, found bool, err error) {
	var id int64
	err = s.changeApp(ctx, app, func(tx txContext, appID int64) error {
		err := tx.row(`SELECT id FROM deployments WHERE app = ? AND step NOT IN ('done', 'undone')
			ORDER BY started_at IS NULL, id LIMIT 1`, appID).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find next deployment: %w", err)
		}
		return start(tx, appID, id)
	})
	if err != nil || id == 0 {
		return Deployment{}, false, err
	}
	s.watchers.wake(DeploymentTopic(id))
	claimed, err = s.Deployment(ctx, id)
	return claimed, err == nil, err
}

// start marks a deployment as the active one of its app. Repeating it changes nothing.
func start(tx txContext, app, id int64) error {
	var started sql.NullInt64
	var source Source
	var config string
	err := tx.row(`SELECT d.started_at, coalesce(r.source, a.source), coalesce(r.config, a.config)
		FROM deployments d JOIN apps a ON a.id = d.app LEFT JOIN releases r ON r.id = d.release WHERE d.id = ?`, id).
		Scan(&started, &source, &config)
	if err != nil {
		return fmt.Errorf("read next deployment: %w", err)
	}
	if started.Valid {
		return nil
	}
	decoded, err := DecodeConfig(source, []byte(config))
	if err != nil {
		return err
	}
	plan := PlanOf(decoded)
	_, err = tx.exec(`UPDATE deployments SET started_at = ?, strategy = ?, strategy_reason = ?,
		previous = coalesce((SELECT deployment FROM live WHERE app = ?), 0) WHERE id = ?`,
		stamp(time.Now()), plan.Strategy, plan.Reason, app, id)
	if err != nil {
		return fmt.Errorf("start deployment: %w", err)
	}
	events := []Event{{Kind: "plan", Text: plan.String()}}
	if plan.Forced {
		events = append(events, Event{Kind: "plan", Text: "blue-green was asked for and is not possible: " + plan.Reason})
	}
	return writeEvents(tx, id, events)
}

// AppsAtWork lists the apps that have a deployment waiting or running.
func (s *Store) AppsAtWork(ctx context.Context) ([]string, error) {
	return collect(ctx, s.read, func(row scanner) (name string, err error) { return name, row.Scan(&name) },
		`SELECT DISTINCT a.name FROM deployments d JOIN apps a ON a.id = d.app WHERE d.step NOT IN ('done', 'undone')`)
}

// AskCancel asks a deployment to stop. One that waits is ended at once; one that runs is told; from the moment its new
// version is healthy it is too late, which is a conflict Problem.
func (s *Store) AskCancel(ctx context.Context, id int64) (Deployment, error) {
	err := s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		var step Step
		var started sql.NullInt64
		err := t.row(`SELECT step, started_at FROM deployments WHERE id = ?`, id).Scan(&step, &started)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return unknownDeployment(id)
		case err != nil:
			return fmt.Errorf("read deployment: %w", err)
		case !started.Valid && step == StepQueued:
			return endQueued(t, id, Cancelled, "cancelled before it started")
		case !step.CanCancel() && step != StepUndoing:
			return Problemf(CodeConflict, "deployment %d is %s: it is too late to cancel", id, step).
				WithHint("shipgate rollback APP goes back to the version before")
		}
		_, err = t.exec(`UPDATE deployments SET cancel_asked = 1 WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return Deployment{}, err
	}
	s.watchers.wake(DeploymentTopic(id))
	return s.Deployment(ctx, id)
}

func unknownDeployment(id int64) error {
	return Problemf(CodeNotFound, "there is no deployment %d", id).WithHint("shipgate deployments APP")
}
