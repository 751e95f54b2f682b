package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// PurgeSite stores that files of earlier releases of a site are no longer served: all, or those under a path of the site.
// It returns how many releases that is about. A deployment at work has read already which releases came before, so the
// purge is refused until it has ended.
func (s *Store) PurgeSite(ctx context.Context, app, under string) (releases int, err error) {
	under = strings.TrimPrefix(path.Clean("/"+under), "/")
	err = s.changeApp(ctx, app, func(tx txContext, id int64) error {
		target, err := purgeableTarget(tx, app, id)
		if err != nil {
			return err
		}
		releases = target.purge(under)
		text, err := json.Marshal(target)
		if err != nil {
			return fmt.Errorf("encode target: %w", err)
		}
		if _, err := tx.exec(`UPDATE live SET target = ? WHERE app = ?`, string(text), id); err != nil {
			return fmt.Errorf("write target: %w", err)
		}
		return nil
	})
	return releases, err
}

// purgeableTarget reads where the requests of an app go, which must be a site that no deployment is at work on.
func purgeableTarget(tx txContext, app string, id int64) (target Target, err error) {
	var working bool
	err = tx.row(`SELECT EXISTS (SELECT 1 FROM deployments WHERE app = ? AND started_at IS NOT NULL AND verdict = '')`, id).Scan(&working)
	if err != nil {
		return target, fmt.Errorf("look for a deployment at work: %w", err)
	}
	if working {
		return target, Problemf(CodeConflict, "a deployment of %s is at work", app).WithHint("purge again when it has ended: shipgate deployments %s", app)
	}
	var text string
	err = tx.row(`SELECT target FROM live WHERE app = ?`, id).Scan(&text)
	if err == nil {
		err = json.Unmarshal([]byte(text), &target)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return target, fmt.Errorf("read target: %w", err)
	}
	if target.Site == "" {
		return target, Problemf(CodeConflict, "%s has no site that is live", app).WithHint("shipgate app show %s", app)
	}
	return target, nil
}

// purge leaves out a path of the earlier releases, or all of them when it is empty, and returns how many are concerned.
func (t *Target) purge(under string) (releases int) {
	var left []EarlierSite
	for _, earlier := range t.Earlier {
		if !time.Now().Before(earlier.Until) {
			continue
		}
		releases++
		if under != "" {
			if !earlier.Purged(under) {
				earlier.Without = append(slices.Clone(earlier.Without), under)
			}
			left = append(left, earlier)
		}
	}
	t.Earlier = left
	return releases
}
