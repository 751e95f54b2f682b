package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// WarmContainer is a container that was replaced and is kept, stopped, so that going back to it is quick.
type WarmContainer struct {
	Deployment Deployment // the one it was started for, with its name and address
	Until      time.Time
}

// KeepWarm remembers that a deployment's container is kept until then. It holds its address meanwhile.
func (s *Store) KeepWarm(ctx context.Context, deployment int64, until time.Time) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO warm (deployment, until) VALUES (?, ?)`, deployment, stamp(until))
		if err != nil {
			return fmt.Errorf("write warm container: %w", err)
		}
		return nil
	})
}

// EndWarm forgets a warm container, before it is removed. False says that it was taken over or forgotten already: then it
// is not the caller's to remove.
func (s *Store) EndWarm(ctx context.Context, deployment int64) (ended bool, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		ended, err = endWarm(txContext{ctx, tx}, deployment)
		return err
	})
	return ended, err
}

func endWarm(tx txContext, deployment int64) (bool, error) {
	result, err := tx.exec(`DELETE FROM warm WHERE deployment = ?`, deployment)
	if err != nil {
		return false, fmt.Errorf("remove warm container: %w", err)
	}
	ended, err := result.RowsAffected()
	return ended > 0, err
}

// NeedsContainer says whether a container is live or kept warm, or of an app at work, at one moment: what nothing needs is
// never needed again.
func (s *Store) NeedsContainer(ctx context.Context, app, name string) (needed bool, err error) {
	err = s.read.QueryRowContext(ctx, `WITH mine AS (SELECT id FROM apps WHERE name = ?1)
		SELECT EXISTS (SELECT 1 FROM deployments WHERE app IN mine AND step NOT IN ('done', 'undone'))
			OR EXISTS (SELECT 1 FROM live l JOIN deployments d ON d.id = l.deployment WHERE l.app IN mine AND d.container = ?2)
			OR EXISTS (SELECT 1 FROM warm w JOIN deployments d ON d.id = w.deployment WHERE d.app IN mine AND d.container = ?2)`,
		app, name).Scan(&needed)
	if err != nil {
		return false, fmt.Errorf("look for the need of a container: %w", err)
	}
	return needed, nil
}

// TakeWarm gives a warm container with its address to a deployment of the same Release. False says that it is not warm any
// more. From then on it is the deployment's own.
func (s *Store) TakeWarm(ctx context.Context, d Deployment, warm WarmContainer) (taken Deployment, ok bool, err error) {
	err = s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		if ok, err = endWarm(t, warm.Deployment.ID); err != nil || !ok {
			return err
		}
		_, err = t.exec(`UPDATE deployments SET container = ?, address = ? WHERE id = ?`, warm.Deployment.Container, warm.Deployment.Address, d.ID)
		if err == nil {
			_, err = t.exec(`UPDATE addresses SET deployment = ? WHERE deployment = ?`, d.ID, warm.Deployment.ID)
		}
		if err == nil {
			taken, err = readDeployment(t, d.ID)
		}
		if err != nil {
			return fmt.Errorf("take over warm container: %w", err)
		}
		return nil
	})
	return taken, ok && err == nil, err
}

// Warm lists the warm containers of an app, or of all apps when it is empty, the one that ends first in front.
func (s *Store) Warm(ctx context.Context, app string) ([]WarmContainer, error) {
	untils, err := collect(ctx, s.read, func(row scanner) (w WarmContainer, err error) {
		var until sql.NullInt64
		err = row.Scan(&w.Deployment.ID, &until)
		w.Until = unstamp(until)
		return w, err
	}, `SELECT w.deployment, w.until FROM warm w JOIN deployments d ON d.id = w.deployment JOIN apps a ON a.id = d.app
		WHERE a.name = ? OR ? = '' ORDER BY w.until, w.deployment`, app, app)
	if err != nil {
		return nil, err
	}
	for i := range untils {
		if untils[i].Deployment, err = s.Deployment(ctx, untils[i].Deployment.ID); err != nil {
			return nil, err
		}
	}
	return untils, nil
}
