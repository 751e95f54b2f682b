package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// KeptReleases is how many Releases of an app stay to go back to.
const KeptReleases = 5

const reservedOfLate = 100 // the numbers that a push may have been given whose deployment is not stored yet

// Kept says which deployments' artefacts may not be removed.
type Kept struct {
	Apps   map[string]map[int64]bool // by app, and then by the deployment that built them; a destroyed app is missing
	Newest int64                     // the newest deployment that was known then: later ones may be building already
}

// Has says that what the deployment built, or is building, stays.
func (k Kept) Has(app string, deployment int64) bool {
	return deployment > k.Newest || k.Apps[app][deployment]
}

// Garbage is one thing that nothing needs any more.
type Garbage struct {
	Kind  string `json:"kind"` // container, image, build cache, site, site objects, stack, ref, objects, release
	App   string `json:"app,omitempty"`
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"` // what its removal frees at most: an image counts whole, though others may share its layers; 0 where that is not known
}

// Kept lists what stays: the last five Releases of each app that were live, what is live now, what deployments at work have
// built or may be building, what is kept warm, and the sites whose files are still to be reachable.
func (s *Store) Kept(ctx context.Context) (Kept, error) {
	kept := Kept{Apps: map[string]map[int64]bool{}}
	err := s.read.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) FROM numbers`).Scan(&kept.Newest)
	if err != nil {
		return Kept{}, fmt.Errorf("read newest deployment: %w", err)
	}
	apps, err := s.Apps(ctx)
	if err != nil {
		return Kept{}, err
	}
	for _, app := range apps {
		deployments, err := s.keptOf(ctx, app.Name)
		if err != nil {
			return Kept{}, err
		}
		kept.Apps[app.Name] = map[int64]bool{}
		for _, deployment := range deployments {
			kept.Apps[app.Name][deployment] = true
		}
		live, found, err := s.Live(ctx, app.Name)
		if err != nil {
			return Kept{}, err
		}
		for _, earlier := range live.Target.Earlier {
			if found && time.Now().Before(earlier.Until) {
				kept.Apps[app.Name][deploymentOf(earlier.Site)] = true
			}
		}
	}
	return kept, nil
}

func (s *Store) keptOf(ctx context.Context, app string) ([]int64, error) {
	one := func(row scanner) (id int64, err error) { err = row.Scan(&id); return id, err }
	return collect(ctx, s.read, one, `
		WITH mine AS (SELECT id FROM apps WHERE name = ?1)
		SELECT deployment FROM (SELECT deployment FROM releases WHERE id IN
			(SELECT release FROM deployments WHERE app IN mine AND verdict = 'succeeded') ORDER BY id DESC LIMIT ?2)
		UNION SELECT number FROM numbers WHERE number > (SELECT max(number) FROM numbers) - ?3 AND number NOT IN (SELECT id FROM deployments)
		UNION SELECT r.deployment FROM live l JOIN releases r ON r.id = l.release WHERE l.app IN mine
		UNION SELECT id FROM deployments WHERE app IN mine AND step NOT IN ('done', 'undone')
		UNION SELECT r.deployment FROM deployments d JOIN releases r ON r.id = d.release
			WHERE d.app IN mine AND d.step NOT IN ('done', 'undone')
		UNION SELECT r.deployment FROM warm w JOIN deployments d ON d.id = w.deployment JOIN releases r ON r.id = d.release
			WHERE d.app IN mine`, app, KeptReleases, reservedOfLate)
}

// MarkPruned remembers of each Release that is not kept that it cannot be gone back to, before its artefact is removed,
// and lists these. One that came to be needed meanwhile is left out, and added to what is kept.
func (s *Store) MarkPruned(ctx context.Context, kept Kept) ([]Release, error) {
	releases, err := s.unkept(ctx, kept)
	if err != nil {
		return nil, err
	}
	var pruned, needed []Release
	err = s.change(ctx, func(tx *sql.Tx) error {
		pruned, needed = nil, nil
		for _, release := range releases {
			result, err := tx.ExecContext(ctx, `UPDATE releases SET pruned_at = ? WHERE id = ? AND id NOT IN (
				SELECT release FROM live UNION SELECT release FROM deployments WHERE release IS NOT NULL AND step NOT IN ('done', 'undone'))`,
				stamp(time.Now()), release.ID)
			if err != nil {
				return fmt.Errorf("mark release as pruned: %w", err)
			}
			if marked, _ := result.RowsAffected(); marked > 0 {
				pruned = append(pruned, release)
			} else {
				needed = append(needed, release)
			}
		}
		return nil
	})
	for _, release := range needed {
		if kept.Apps[release.App] == nil {
			kept.Apps[release.App] = map[int64]bool{}
		}
		kept.Apps[release.App][release.Deployment] = true
	}
	return pruned, err
}

// unkept lists the Releases that still have their artefact and are not kept.
func (s *Store) unkept(ctx context.Context, kept Kept) ([]Release, error) {
	all, err := collect(ctx, s.read, scanRelease, selectReleases+`WHERE r.pruned_at IS NULL ORDER BY r.id`)
	if err != nil {
		return nil, err
	}
	var unkept []Release
	for _, release := range all {
		if !kept.Has(release.App, release.Deployment) {
			unkept = append(unkept, release)
		}
	}
	return unkept, nil
}

// Pruned says that a Release's artefact was removed to make room.
func (s *Store) Pruned(ctx context.Context, release int64) (pruned bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT pruned_at IS NOT NULL FROM releases WHERE id = ?`, release).Scan(&pruned)
	if errors.Is(err, sql.ErrNoRows) {
		return false, unknownRelease(release)
	}
	if err != nil {
		return false, fmt.Errorf("read release: %w", err)
	}
	return pruned, nil
}
