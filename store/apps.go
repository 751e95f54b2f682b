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

// txContext is a transaction together with the context it runs under.
type txContext struct {
	ctx context.Context
	tx  *sql.Tx
}

func (t txContext) exec(query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(t.ctx, query, args...)
}

func (t txContext) row(query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.ctx, query, args...)
}

// changeApp runs one durable transaction on an app that must exist.
func (s *Store) changeApp(ctx context.Context, name string, do func(tx txContext, id int64) error) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		id, err := appID(txContext{ctx, tx}, name)
		if err != nil {
			return err
		}
		return do(txContext{ctx, tx}, id)
	})
}

func appID(tx txContext, name string) (int64, error) {
	var id int64
	err := tx.row(`SELECT id FROM apps WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, unknownApp(name)
	}
	return id, err
}

func unknownApp(name string) error {
	return Problemf(CodeNotFound, "there is no app %q", name).WithHint("shipgate app list")
}

// checkApp normalises and validates all that a user can say of an app.
func checkApp(app *App) error {
	if err := ValidateAppName(app.Name); err != nil {
		return err
	}
	config, err := DecodeConfig(app.Source, app.Config)
	if err != nil {
		return err
	}
	if app.Config, err = json.Marshal(config); err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	hosts := make([]string, len(app.Hosts)) // the caller keeps its own
	for i, host := range app.Hosts {
		if hosts[i], err = NormaliseHost(host); err != nil {
			return err
		}
		if slices.Contains(hosts[:i], hosts[i]) {
			return Problemf(CodeUsage, "host %s is given twice", hosts[i]).WithHint("give each host once: --host %s", hosts[i])
		}
	}
	app.Hosts = hosts
	return nil
}

// CreateApp stores a new app. The errors are Problems: usage, or conflict when the name or a host is taken.
func (s *Store) CreateApp(ctx context.Context, app App) (App, error) {
	if err := checkApp(&app); err != nil {
		return App{}, err
	}
	app.CreatedAt = time.Now().UTC().Truncate(time.Microsecond)
	err := s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		result, err := t.exec(`INSERT OR IGNORE INTO apps (name, source, config, created_at) VALUES (?, ?, ?, ?)`,
			app.Name, app.Source, string(app.Config), stamp(app.CreatedAt))
		if err != nil {
			return fmt.Errorf("write app: %w", err)
		}
		if added, _ := result.RowsAffected(); added == 0 {
			return Problemf(CodeConflict, "there is an app %q already", app.Name).
				WithHint("shipgate app update %s …, or choose another name", app.Name)
		}
		id, err := result.LastInsertId()
		if err != nil {
			return fmt.Errorf("write app: %w", err)
		}
		if _, err := t.exec(`DELETE FROM destroyed_apps WHERE name = ?`, app.Name); err != nil {
			return fmt.Errorf("write app: %w", err)
		}
		return s.writeHosts(t, id, app.Hosts, nil)
	})
	if err != nil {
		return App{}, err
	}
	s.watchers.wake(AppsTopic)
	return app, nil
}

// writeHosts replaces the hosts of an app, which had those in before.
func (s *Store) writeHosts(tx txContext, app int64, hosts, before []string) error {
	if _, err := tx.exec(`DELETE FROM hosts WHERE app = ?`, app); err != nil {
		return fmt.Errorf("write hosts: %w", err)
	}
	for position, host := range hosts {
		if s.isOwnHost(host) && !slices.Contains(before, host) {
			return Problemf(CodeUsage, "host %s is the one of this server", host).WithHint("give the app a host of its own: --host APP.example.com")
		}
		var owner string
		err := tx.row(`SELECT name FROM apps WHERE id = (SELECT app FROM hosts WHERE host = ?)`, host).Scan(&owner)
		if err == nil {
			return Problemf(CodeConflict, "host %s belongs to app %q", host, owner).WithHint("shipgate app show %s", owner)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read hosts: %w", err)
		}
		if _, err := tx.exec(`INSERT INTO hosts (host, app, position) VALUES (?, ?, ?)`, host, app, position); err != nil {
			return fmt.Errorf("write hosts: %w", err)
		}
	}
	return nil
}

// UpdateApp replaces the hosts and config of an app. Its source never changes.
func (s *Store) UpdateApp(ctx context.Context, app App) (App, error) {
	err := s.changeApp(ctx, app.Name, func(tx txContext, id int64) error {
		old, err := scanApp(tx.row(selectApps+`WHERE id = ?`, id))
		if err != nil {
			return err
		}
		if old.Source != app.Source {
			return Problemf(CodeUsage, "the source of %s is %s and cannot change", app.Name, old.Source).
				WithHint("create a second app and move the host over")
		}
		if err := checkApp(&app); err != nil {
			return err
		}
		app.CreatedAt, app.StoppedAfter, app.StoppedAt = old.CreatedAt, old.StoppedAfter, old.StoppedAt
		if _, err := tx.exec(`UPDATE apps SET config = ? WHERE id = ?`, string(app.Config), id); err != nil {
			return fmt.Errorf("write app: %w", err)
		}
		if err := forgetHeads(tx, id, old, app); err != nil {
			return err
		}
		return s.writeHosts(tx, id, app.Hosts, old.Hosts)
	})
	if err != nil {
		return App{}, err
	}
	s.watchers.wake(AppsTopic)
	return app, nil
}

// DestroyApp removes an app with its whole history. What it runs must be gone before.
func (s *Store) DestroyApp(ctx context.Context, name string) error {
	var gone []int64
	err := s.changeApp(ctx, name, func(tx txContext, id int64) (err error) {
		if gone, err = idsOf(tx, `SELECT id FROM deployments WHERE app = ?`, id); err != nil {
			return err
		}
		late, err := idsOf(tx, `SELECT id FROM deployments WHERE app = ? AND verdict = ''`, id) // asked for while it was taken down
		if err != nil {
			return err
		}
		for _, deployment := range late {
			if err := endQueued(tx, deployment, Cancelled, "the app was destroyed"); err != nil {
				return err
			}
		}
		for _, table := range []string{"live", "deployments", "releases"} {
			if _, err := tx.exec(`DELETE FROM `+table+` WHERE app = ?`, id); err != nil {
				return fmt.Errorf("remove %s of app: %w", table, err)
			}
		}
		if _, err := tx.exec(`DELETE FROM tokens WHERE app = ?`, name); err != nil { // they must not open a later app of this name
			return fmt.Errorf("remove tokens of app: %w", err)
		}
		if _, err := tx.exec(`DELETE FROM apps WHERE id = ?`, id); err != nil {
			return fmt.Errorf("remove app: %w", err)
		}
		if _, err := tx.exec(`INSERT OR REPLACE INTO destroyed_apps (name, destroyed_at) VALUES (?, ?)`, name, stamp(time.Now())); err != nil {
			return fmt.Errorf("remember destroyed app: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, deployment := range gone {
		s.watchers.wake(DeploymentTopic(deployment))
	}
	return nil
}

func idsOf(tx txContext, query string, args ...any) (ids []int64, err error) {
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("find deployments: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("find deployments: %w", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("find deployments: %w", err)
	}
	return ids, nil
}

const selectApps = `SELECT name, source, config, created_at, stopped_after, stopped_at,
	(SELECT json_group_array(host) FROM (SELECT host FROM hosts WHERE hosts.app = apps.id ORDER BY position)) FROM apps `

// App reads one app, or gives a not_found Problem.
func (s *Store) App(ctx context.Context, name string) (App, error) {
	app, err := scanApp(s.read.QueryRowContext(ctx, selectApps+`WHERE name = ?`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return App{}, unknownApp(name)
	}
	return app, err
}

// Apps lists all apps by name.
func (s *Store) Apps(ctx context.Context) ([]App, error) {
	return collect(ctx, s.read, scanApp, selectApps+`ORDER BY name`)
}

type scanner interface{ Scan(dest ...any) error }

func scanApp(row scanner) (App, error) {
	var app App
	var config, hosts string
	var created, stopped sql.NullInt64
	if err := row.Scan(&app.Name, &app.Source, &config, &created, &app.StoppedAfter, &stopped, &hosts); err != nil {
		return App{}, fmt.Errorf("read app: %w", err)
	}
	app.Config, app.CreatedAt, app.StoppedAt = []byte(config), unstamp(created), unstamp(stopped)
	if err := json.Unmarshal([]byte(hosts), &app.Hosts); err != nil {
		return App{}, fmt.Errorf("decode hosts of app: %w", err)
	}
	return app, nil
}

// collect reads all rows of a query.
func collect[T any](ctx context.Context, db *sql.DB, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return collected(rows, scan)
}

func collected[T any](rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return all, nil
}
