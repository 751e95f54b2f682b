package store

import (
	"cmp"
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
	Image          string      // source image: in place of the config's
	Strategy       string      // in place of the config's; empty: as that says
	BuiltFrom      string      // the commit at the forge that uploaded files were built from
	StatusOnly     bool        // the forge gets no deployment of it, whatever the config says
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
	var enqueued Deployment
	var superseded []int64
	err := s.changeApp(ctx, request.App, func(tx txContext, app int64) error {
		id, err := askedBefore(tx, app, request.IdempotencyKey)
		if err == nil && id == 0 {
			id, superseded, err = join(tx, app, request)
		}
		if err != nil {
			return err
		}
		enqueued, err = readDeployment(tx, id)
		return err
	})
	if err != nil {
		return Deployment{}, err
	}
	for _, changed := range append(superseded, enqueued.ID) {
		s.watchers.wake(DeploymentTopic(changed))
	}
	s.watchers.wake(QueueTopic)
	s.watchers.wake(OutboxTopic)
	return enqueued, nil
}

// askedBefore finds the deployment that the same idempotency key has given, or 0.
func askedBefore(tx txContext, app int64, key string) (id int64, err error) {
	err = tx.row(`SELECT id FROM deployments WHERE app = ? AND idempotency_key = ?`, app, key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find deployment of idempotency key: %w", err)
	}
	return id, nil
}

// join puts a new deployment at the end of its app's queue, in place of those that wait there. It gives all others that it
// changed.
func join(tx txContext, app int64, request NewDeployment) (id int64, changed []int64, err error) {
	if id = request.ID; id == 0 {
		if id, err = nextNumber(tx); err != nil {
			return 0, nil, err
		}
	}
	if err := checkRelease(tx, app, request.Release); err != nil {
		return 0, nil, err
	}
	if changed, err = supersede(tx, app, id); err != nil {
		return 0, nil, err
	}
	if err := insertDeployment(tx, app, id, request); err != nil {
		return 0, nil, err
	}
	active, err := waitBehind(tx, app, id, request.Trigger)
	return id, append(changed, active), err
}

// checkRelease refuses the release of another app, whose env must not get out, and one whose artefact is being removed.
func checkRelease(tx txContext, app, release int64) error {
	if release == 0 {
		return nil
	}
	var built int64
	var sha string
	var pruned bool
	err := tx.row(`SELECT deployment, sha, pruned_at IS NOT NULL FROM releases WHERE id = ? AND app = ?`, release, app).Scan(&built, &sha, &pruned)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return unknownRelease(release)
	case err != nil:
		return fmt.Errorf("find release: %w", err)
	case pruned:
		return Problemf(CodeNotFound, "what deployment %d built was removed to make room: the last %d versions are kept", built, KeptReleases).
			WithHint("build it again: shipgate deploy APP --ref %s", cmp.Or(sha, "REF"))
	}
	return nil
}

func supersede(tx txContext, app, by int64) ([]int64, error) {
	waiting, err := idsOf(tx, `SELECT id FROM deployments WHERE app = ? AND step = 'queued' AND started_at IS NULL`, app)
	if err != nil {
		return nil, err
	}
	for _, id := range waiting {
		if err := endQueued(tx, id, Superseded, fmt.Sprintf("superseded by deployment %d", by)); err != nil {
			return nil, err
		}
	}
	return waiting, nil
}

// Asked finds the deployment that this key of an app has given.
func (s *Store) Asked(ctx context.Context, app, key string) (d Deployment, found bool, err error) {
	var id int64
	err = s.read.QueryRowContext(ctx, `SELECT d.id FROM deployments d JOIN apps a ON a.id = d.app
		WHERE a.name = ? AND d.idempotency_key = ?`, app, key).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return Deployment{}, false, nil
	}
	if err != nil {
		return Deployment{}, false, fmt.Errorf("find deployment of idempotency key: %w", err)
	}
	d, err = s.Deployment(ctx, id)
	return d, err == nil, err
}

// Describe gives a deployment the subject of its commit, once that is known.
func (s *Store) Describe(ctx context.Context, id int64, subject string) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		if _, err := (txContext{ctx, tx}).exec(`UPDATE deployments SET subject = ? WHERE id = ?`, subject, id); err != nil {
			return fmt.Errorf("describe deployment: %w", err)
		}
		return nil
	})
}

// endQueued gives a deployment that has not started its verdict.
func endQueued(tx txContext, id int64, verdict Verdict, reason string) error {
	_, err := tx.exec(`UPDATE deployments SET step = 'undone', verdict = ?, reason = ?, finished_at = ? WHERE id = ?`,
		verdict, reason, stamp(time.Now()), id)
	if err != nil {
		return fmt.Errorf("end queued deployment: %w", err)
	}
	return errors.Join(writeEvents(tx, id, []Event{{Kind: string(verdict), Step: StepUndone, Text: reason}}), announce(tx, id))
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
		(id, app, trigger_, sha, ref, subject, image, asked_strategy, status_only, built_from, step, release, rollback_of, updates,
		idempotency_key, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)`,
		id, app, request.Trigger, request.SHA, request.Ref, request.Subject, request.Image, request.Strategy, request.StatusOnly,
		request.BuiltFrom, release, request.RollbackOf, string(updates), key, stamp(time.Now()))
	if err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	return errors.Join(writeEvents(tx, id, []Event{{Kind: "queued", Step: StepQueued, Text: "asked for by " + string(request.Trigger)}}), announce(tx, id))
}

// Claim takes the oldest waiting deployment of an app out of the queue: the strategy is decided and what was live is
// remembered. With a deployment at work already, also one of an earlier process, it gives that one.
func (s *Store) Claim(ctx context.Context, app string) (claimed Deployment, found bool, err error) {
	var touched []int64
	err = s.changeApp(ctx, app, func(tx txContext, appID int64) error {
		for {
			id, err := nextInLane(tx, appID)
			if err != nil || id == 0 {
				return err
			}
			touched = append(touched, id)
			err = start(tx, appID, id)
			if CodeOf(err) == CodeUsage { // a config that this version no longer takes must not block the lane
				err = endQueued(tx, id, Failed, err.Error())
			} else if err == nil {
				claimed, err = readDeployment(tx, id)
				return err
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return Deployment{}, false, err
	}
	for _, id := range touched {
		s.watchers.wake(DeploymentTopic(id))
	}
	if len(touched) > 0 {
		s.watchers.wake(OutboxTopic) // some may have got a verdict
	}
	return claimed, claimed.ID != 0, nil
}

// nextInLane finds the deployment at work, else the oldest that waits, else 0.
func nextInLane(tx txContext, app int64) (id int64, err error) {
	err = tx.row(`SELECT id FROM deployments WHERE app = ? AND step NOT IN ('done', 'undone')
		ORDER BY started_at IS NULL, id LIMIT 1`, app).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find next deployment: %w", err)
	}
	return id, nil
}

// start marks a deployment as the active one of its app. Repeating it changes nothing.
func start(tx txContext, app, id int64) error {
	var started sql.NullInt64
	var source Source
	var config, asked string
	var stoppedAfter int64
	err := tx.row(`SELECT d.started_at, coalesce(r.source, a.source), coalesce(r.config, a.config), d.asked_strategy, a.stopped_after
		FROM deployments d JOIN apps a ON a.id = d.app LEFT JOIN releases r ON r.id = d.release WHERE d.id = ?`, id).
		Scan(&started, &source, &config, &asked, &stoppedAfter)
	if err != nil {
		return fmt.Errorf("read next deployment: %w", err)
	}
	if started.Valid {
		return nil
	}
	decoded, err := DecodeConfig(source, []byte(config))
	if err == nil {
		decoded, err = WithStrategy(decoded, asked)
	}
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
	if asked != "" && !plan.Forced {
		events = append(events, Event{Kind: "plan", Text: asked + " was asked for with this deployment"})
	}
	if plan.Forced {
		events = append(events, Event{Kind: "plan", Text: "blue-green was asked for and is not possible: " + plan.Reason})
	}
	if 0 < stoppedAfter && stoppedAfter < id {
		events = append(events, Event{Kind: "note", Text: "the app is stopped; it starts again when this deployment is live"})
	}
	return writeEvents(tx, id, events)
}

// AppsAtWork lists the apps that have a deployment waiting or running.
func (s *Store) AppsAtWork(ctx context.Context) ([]string, error) {
	return collect(ctx, s.read, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	},
		`SELECT DISTINCT a.name FROM deployments d JOIN apps a ON a.id = d.app WHERE d.step NOT IN ('done', 'undone')`)
}

// AskCancel asks a deployment to stop. One that waits is ended at once; one that runs is told; from the moment its new
// version is healthy it is too late, which is a conflict Problem.
func (s *Store) AskCancel(ctx context.Context, id int64) (Deployment, error) {
	var asked Deployment
	err := s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		err := askCancel(t, id)
		if err == nil {
			asked, err = readDeployment(t, id)
		}
		return err
	})
	if err != nil {
		return Deployment{}, err
	}
	s.watchers.wake(DeploymentTopic(id))
	s.watchers.wake(OutboxTopic)
	return asked, nil
}

func askCancel(tx txContext, id int64) error {
	d, err := readDeployment(tx, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return unknownDeployment(id)
	case err != nil:
		return err
	case d.StartedAt.IsZero() && d.Step == StepQueued:
		return endQueued(tx, id, Cancelled, "cancelled before it started")
	case !d.Step.CanCancel() && d.Step != StepUndoing:
		return Problemf(CodeConflict, "deployment %d is %s: it is too late to cancel", id, d.Step).
			WithHint("shipgate rollback %s goes back to the version before", d.App)
	}
	if _, err := tx.exec(`UPDATE deployments SET cancel_asked = 1 WHERE id = ?`, id); err != nil {
		return fmt.Errorf("write request to cancel: %w", err)
	}
	return nil
}

func unknownRelease(id int64) error {
	return Problemf(CodeNotFound, "there is no release %d", id).WithHint("shipgate deployments APP")
}

func unknownDeployment(id int64) error {
	return Problemf(CodeNotFound, "there is no deployment %d", id).WithHint("shipgate deployments APP")
}
