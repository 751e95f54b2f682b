package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Registry is a registry that images are pulled from with a name and a password.
type Registry struct {
	Host      string    `json:"host"` // as it stands in references; docker.io for Docker Hub
	App       string    `json:"app"`  // whose login it is; empty: all apps may use it
	Username  string    `json:"username"`
	UpdatedAt time.Time `json:"updated_at"`
}

var registryHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)

// normaliseRegistry gives the host as references have it: Docker Hub goes by several names.
func normaliseRegistry(host string) (string, error) {
	host = strings.TrimSuffix(strings.ToLower(host), "/")
	host = strings.TrimPrefix(host, "https://")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "hub.docker.com", "index.docker.io/v1":
		host = "docker.io"
	}
	if !registryHost.MatchString(host) {
		return "", Problemf(CodeUsage, "registry %q is not a host", host).WithHint("shipgate registry login ghcr.io --username NAME")
	}
	return host, nil
}

// SetRegistry stores the login for a registry, sealed, in place of the one it had. With an app it is for that app only.
func (s *Store) SetRegistry(ctx context.Context, app, host, username, password string) error {
	host, err := normaliseRegistry(host)
	if err != nil {
		return err
	}
	if username == "" || password == "" {
		return Problemf(CodeUsage, "a registry needs a user name and a password").WithHint("shipgate registry login %s --username NAME", host)
	}
	s.Hide(password)
	return s.change(ctx, func(tx *sql.Tx) error {
		id, err := loginOwner(txContext{ctx, tx}, app)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO registries (host, app, username, sealed, updated_at) VALUES (?, ?, ?, ?, ?)`,
			host, id, username, s.sealed(loginPurpose(app, host), []byte(password)), stamp(time.Now()))
		if err != nil {
			return fmt.Errorf("write registry: %w", err)
		}
		return nil
	})
}

// loginOwner returns the id of the app that a login is for; NULL when it is for all.
func loginOwner(tx txContext, app string) (id sql.NullInt64, err error) {
	if app != "" {
		id.Valid = true
		id.Int64, err = appID(tx, app)
	}
	return id, err
}

// loginPurpose is what a login is sealed for: no host has a slash.
func loginPurpose(app, host string) string {
	if app == "" {
		return "registry:" + host
	}
	return "registry:" + app + "/" + host
}

// RemoveRegistry removes the login for a registry, of the app or the one for all. There must be one.
func (s *Store) RemoveRegistry(ctx context.Context, app, host string) error {
	host, err := normaliseRegistry(host)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		id, err := loginOwner(txContext{ctx, tx}, app)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM registries WHERE host = ? AND app IS ?`, host, id)
		if err != nil {
			return fmt.Errorf("remove registry: %w", err)
		}
		if removed, _ := result.RowsAffected(); removed > 0 {
			return nil
		}
		whose := "for all apps"
		if app != "" {
			whose = "of app " + app
		}
		return Problemf(CodeNotFound, "there is no login %s for registry %s", whose, host).WithHint("shipgate registry list")
	})
}

// Registries lists the logins for registries by host, the one for all apps first.
func (s *Store) Registries(ctx context.Context) ([]Registry, error) {
	return collect(ctx, s.read, func(row scanner) (r Registry, err error) {
		var updated sql.NullInt64
		err = row.Scan(&r.Host, &r.App, &r.Username, &updated)
		r.UpdatedAt = unstamp(updated)
		return r, err
	}, `SELECT host, ifnull(apps.name, '') AS owner, username, updated_at FROM registries LEFT JOIN apps ON apps.id = registries.app
		ORDER BY host, owner`)
}

// RegistryLogin returns the login with which an app asks the registry of a host, as it stands in references: its own before
// the one for all.
func (s *Store) RegistryLogin(ctx context.Context, app, host string) (username, password string, found bool, err error) {
	if host, err = normaliseRegistry(host); err != nil {
		return "", "", false, err
	}
	var owner string
	var box []byte
	err = s.read.QueryRowContext(ctx, `SELECT ifnull(apps.name, ''), username, sealed FROM registries LEFT JOIN apps ON apps.id = registries.app
		WHERE host = ? AND (registries.app IS NULL OR apps.name = ?) ORDER BY registries.app IS NULL LIMIT 1`, host, app).Scan(&owner, &username, &box)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, fmt.Errorf("read registry: %w", err)
	}
	plain, err := s.unsealed(loginPurpose(owner, host), box)
	if err != nil {
		return "", "", false, err
	}
	s.Hide(string(plain))
	return username, string(plain), true, nil
}

// RegistryLoginOfOthers reports whether an app other than the given one has a login of its own for the registry of a host.
func (s *Store) RegistryLoginOfOthers(ctx context.Context, app, host string) (others bool, err error) {
	if host, err = normaliseRegistry(host); err != nil {
		return false, err
	}
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM registries JOIN apps ON apps.id = registries.app WHERE host = ? AND apps.name != ?)`,
		host, app).Scan(&others)
	if err != nil {
		return false, fmt.Errorf("read registries: %w", err)
	}
	return others, nil
}
