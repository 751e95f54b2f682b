package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrMoved says that a deployment was not at the step it was to be advanced from.
var ErrMoved = errors.New("the deployment has moved on")

// Change is what becomes true together with a step.
type Change struct {
	Release *Release // queued → built: a new one; its ID is filled in
	Plan    *Plan    // queued → built: what the commit's shipgate.yaml made of the strategy
	Live    *Live    // routed → live
	Verdict Verdict  // at live and at undone; at undoing, the one to come
	Reason  string
	Hint    string
	Events  []Event
}

// Advance moves a deployment from the step it is known to be at to the next one, with all that becomes true by it and
// its Event, in one transaction. It gives the deployment as it is then, or ErrMoved.
func (s *Store) Advance(ctx context.Context, d Deployment, to Step, change Change) (Deployment, error) {
	if !LegalNext(d.Strategy, d.Step, to) {
		return Deployment{}, fmt.Errorf("advance deployment %d: %s does not follow %s", d.ID, to, d.Step)
	}
	if decides := to == StepLive || to == StepUndoing || to == StepUndone; decides != (change.Verdict != "") {
		return Deployment{}, fmt.Errorf("advance deployment %d to %s: verdict %q does not belong there", d.ID, to, change.Verdict)
	}
	if change.Plan != nil && to != StepBuilt {
		return Deployment{}, fmt.Errorf("advance deployment %d to %s: a plan does not belong there", d.ID, to)
	}
	change.Reason, change.Events = s.Masked(change.Reason), s.maskedEvents(change.Events)
	var advanced Deployment
	err := s.changeApp(ctx, d.App, func(tx txContext, app int64) error {
		result, err := tx.exec(`UPDATE deployments SET step = ? WHERE id = ? AND step = ? AND strategy = ? AND started_at IS NOT NULL`,
			to, d.ID, d.Step, d.Strategy)
		if err != nil {
			return fmt.Errorf("advance deployment: %w", err)
		}
		if moved, _ := result.RowsAffected(); moved == 0 {
			return fmt.Errorf("advance deployment %d from %s: %w", d.ID, d.Step, ErrMoved)
		}
		if err := applyChange(tx, app, d, to, change); err != nil {
			return err
		}
		reached := Event{Kind: "step", Step: to, Text: string(to)}
		if err := writeEvents(tx, d.ID, slices.Concat(change.Events, []Event{reached})); err != nil {
			return err
		}
		if change.Verdict != "" && to != StepUndoing {
			if err := announce(tx, d.ID); err != nil {
				return err
			}
		}
		advanced, err = readDeployment(tx, d.ID)
		return err
	})
	if err != nil {
		return Deployment{}, err
	}
	s.watchers.wake(DeploymentTopic(d.ID))
	if advanced.Verdict != "" {
		s.watchers.wake(OutboxTopic)
	}
	return advanced, nil
}

func applyChange(tx txContext, app int64, d Deployment, to Step, change Change) error {
	if change.Release != nil {
		if err := writeRelease(tx, app, d, change.Release); err != nil {
			return err
		}
	}
	if change.Plan != nil {
		_, err := tx.exec(`UPDATE deployments SET strategy = ?, strategy_reason = ? WHERE id = ?`, change.Plan.Strategy, change.Plan.Reason, d.ID)
		if err != nil {
			return fmt.Errorf("write strategy: %w", err)
		}
	}
	if change.Live != nil {
		if err := writeLive(tx, app, *change.Live); err != nil {
			return err
		}
	}
	if change.Verdict == "" {
		return nil
	}
	query := `UPDATE deployments SET verdict = ?, reason = ?, hint = ?, finished_at = ? WHERE id = ? AND verdict = ''`
	if to == StepUndoing {
		query = `UPDATE deployments SET pending = ?, reason = ?, hint = ?, finished_at = ? WHERE id = ?`
	}
	finished := sql.NullInt64{Int64: stamp(time.Now()), Valid: to != StepUndoing}
	_, err := tx.exec(query, change.Verdict, change.Reason, change.Hint, finished, d.ID)
	if err != nil {
		return fmt.Errorf("write verdict: %w", err)
	}
	return nil
}

func writeRelease(tx txContext, app int64, d Deployment, release *Release) error {
	artefact, err := json.Marshal(release.Artefact)
	if err != nil {
		return fmt.Errorf("encode artefact: %w", err)
	}
	result, err := tx.exec(`INSERT INTO releases (app, deployment, sha, artefact, source, config, sealed_env, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		app, d.ID, d.SHA, string(artefact), release.Source, string(release.Config), release.SealedEnv, stamp(time.Now()))
	if err != nil {
		return fmt.Errorf("write release: %w", err)
	}
	if release.ID, err = result.LastInsertId(); err != nil {
		return fmt.Errorf("write release: %w", err)
	}
	if _, err = tx.exec(`UPDATE deployments SET release = ? WHERE id = ?`, release.ID, d.ID); err != nil {
		return fmt.Errorf("write release of deployment: %w", err)
	}
	return nil
}

func writeLive(tx txContext, app int64, live Live) error {
	target, err := json.Marshal(live.Target)
	if err != nil {
		return fmt.Errorf("encode target: %w", err)
	}
	_, err = tx.exec(`INSERT OR REPLACE INTO live (app, deployment, release, sha, container, target, since) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		app, live.Deployment, live.Release, live.SHA, live.Container, string(target), stamp(time.Now()))
	if err != nil {
		return fmt.Errorf("write live: %w", err)
	}
	return nil
}

const selectDeployments = `SELECT d.id, a.name, d.trigger_, d.sha, d.ref, d.subject, d.strategy, d.strategy_reason, d.step,
	d.verdict, d.pending, d.reason, d.hint, d.image, d.asked_strategy, d.status_only, d.built_from, d.release, d.container, d.address, d.previous, d.rollback_of, d.updates, d.cancel_asked,
	d.created_at, d.started_at, d.finished_at FROM deployments d JOIN apps a ON a.id = d.app `

// Deployment reads one deployment, or gives a not_found Problem.
func (s *Store) Deployment(ctx context.Context, id int64) (Deployment, error) {
	d, err := scanDeployment(s.read.QueryRowContext(ctx, selectDeployments+`WHERE d.id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Deployment{}, unknownDeployment(id)
	}
	return d, err
}

// readDeployment reads inside the transaction that changed it: what is given is what was done, also when the caller's
// context ends right after.
func readDeployment(tx txContext, id int64) (Deployment, error) {
	return scanDeployment(tx.row(selectDeployments+`WHERE d.id = ?`, id))
}

// Deployments lists an app's deployments, the newest first.
func (s *Store) Deployments(ctx context.Context, app string, limit int) ([]Deployment, error) {
	return collect(ctx, s.read, scanDeployment, selectDeployments+`WHERE a.name = ? ORDER BY d.id DESC LIMIT ?`, app, limit)
}

// Unfinished lists the deployments of an app that wait or run, the oldest first.
func (s *Store) Unfinished(ctx context.Context, app string) ([]Deployment, error) {
	return collect(ctx, s.read, scanDeployment,
		selectDeployments+`WHERE a.name = ? AND d.step NOT IN ('done', 'undone') ORDER BY d.started_at IS NULL, d.id`, app)
}

func scanDeployment(row scanner) (Deployment, error) {
	var d Deployment
	var updates string
	var release, created, started, finished sql.NullInt64
	err := row.Scan(&d.ID, &d.App, &d.Trigger, &d.SHA, &d.Ref, &d.Subject, &d.Strategy, &d.StrategyReason, &d.Step,
		&d.Verdict, &d.Pending, &d.Reason, &d.Hint, &d.Image, &d.AskedStrategy, &d.StatusOnly, &d.BuiltFrom, &release, &d.Container, &d.Address, &d.PreviousLive, &d.RollbackOf, &updates,
		&d.CancelAsked, &created, &started, &finished)
	if err != nil {
		return Deployment{}, fmt.Errorf("read deployment: %w", err)
	}
	d.Release, d.CreatedAt, d.StartedAt, d.FinishedAt = release.Int64, unstamp(created), unstamp(started), unstamp(finished)
	if err := json.Unmarshal([]byte(updates), &d.Updates); err != nil {
		return Deployment{}, fmt.Errorf("decode ref updates: %w", err)
	}
	return d, nil
}

const selectReleases = `SELECT r.id, a.name, r.deployment, r.sha, r.artefact, r.source, r.config, r.sealed_env, r.created_at
	FROM releases r JOIN apps a ON a.id = r.app `

// Release reads one release, or gives a not_found Problem.
func (s *Store) Release(ctx context.Context, id int64) (Release, error) {
	release, err := scanRelease(s.read.QueryRowContext(ctx, selectReleases+`WHERE r.id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Release{}, unknownRelease(id)
	}
	return release, err
}

func scanRelease(row scanner) (Release, error) {
	var r Release
	var artefact, config string
	var created sql.NullInt64
	if err := row.Scan(&r.ID, &r.App, &r.Deployment, &r.SHA, &artefact, &r.Source, &config, &r.SealedEnv, &created); err != nil {
		return Release{}, fmt.Errorf("read release: %w", err)
	}
	r.Config, r.CreatedAt = []byte(config), unstamp(created)
	if err := json.Unmarshal([]byte(artefact), &r.Artefact); err != nil {
		return Release{}, fmt.Errorf("decode artefact: %w", err)
	}
	return r, nil
}

// Live says what serves now; false before the first success.
func (s *Store) Live(ctx context.Context, app string) (Live, bool, error) {
	live := Live{App: app}
	var target string
	var since sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT deployment, release, sha, container, target, since FROM live
		WHERE app = (SELECT id FROM apps WHERE name = ?)`, app).
		Scan(&live.Deployment, &live.Release, &live.SHA, &live.Container, &target, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return Live{}, false, nil
	}
	if err != nil {
		return Live{}, false, fmt.Errorf("read live: %w", err)
	}
	live.Since = unstamp(since)
	if err := json.Unmarshal([]byte(target), &live.Target); err != nil {
		return Live{}, false, fmt.Errorf("decode target: %w", err)
	}
	return live, true, nil
}

// NextGeneration numbers the next change of an app's route.
func (s *Store) NextGeneration(ctx context.Context, app string) (generation int64, err error) {
	err = s.changeApp(ctx, app, func(tx txContext, id int64) error {
		return tx.row(`UPDATE apps SET generation = generation + 1 WHERE id = ? RETURNING generation`, id).Scan(&generation)
	})
	return generation, err
}

// StepTimes says when a deployment reached each of its steps.
func (s *Store) StepTimes(ctx context.Context, deployment int64) (map[Step]time.Time, error) {
	events, err := collect(ctx, s.read, scanEvent,
		`SELECT id, deployment, at, kind, step, text FROM events WHERE deployment = ? AND step <> '' ORDER BY id`, deployment)
	if err != nil {
		return nil, err
	}
	times := map[Step]time.Time{}
	for _, event := range events {
		times[event.Step] = event.At
	}
	return times, nil
}
