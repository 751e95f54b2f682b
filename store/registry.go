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

// SetRegistry stores the credentials for a registry, sealed, in place of those it had.
func (s *Store) SetRegistry(ctx context.Context, host, username, password string) error {
	host, err := normaliseRegistry(host)
	if err != nil {
		return err
	}
	if username == "" || password == "" {
		return Problemf(CodeUsage, "a registry needs a user name and a password").WithHint("shipgate registry login %s --username NAME", host)
	}
	s.Hide(password)
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO registries (host, username, sealed, updated_at) VALUES (?, ?, ?, ?)`,
			host, username, s.sealed("registry:"+host, []byte(password)), stamp(time.Now()))
		if err != nil {
			return fmt.Errorf("write registry: %w", err)
		}
		return nil
	})
}

// RemoveRegistry forgets the credentials for a registry, or gives a not_found Problem.
func (s *Store) RemoveRegistry(ctx context.Context, host string) error {
	host, err := normaliseRegistry(host)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM registries WHERE host = ?`, host)
		if err != nil {
			return fmt.Errorf("remove registry: %w", err)
		}
		if removed, _ := result.RowsAffected(); removed == 0 {
			return Problemf(CodeNotFound, "there are no credentials for registry %s", host).WithHint("shipgate registry list")
		}
		return nil
	})
}

// Registries lists the registries that there are credentials for, by host.
func (s *Store) Registries(ctx context.Context) ([]Registry, error) {
	return collect(ctx, s.read, func(row scanner) (r Registry, err error) {
		var updated sql.NullInt64
		err = row.Scan(&r.Host, &r.Username, &updated)
		r.UpdatedAt = unstamp(updated)
		return r, err
	}, `SELECT host, username, updated_at FROM registries ORDER BY host`)
}

// RegistryLogin gives the credentials for a registry's host as it stands in references; false when there are none.
func (s *Store) RegistryLogin(ctx context.Context, host string) (username, password string, found bool, err error) {
	if host, err = normaliseRegistry(host); err != nil {
		return "", "", false, err
	}
	var box []byte
	err = s.read.QueryRowContext(ctx, `SELECT username, sealed FROM registries WHERE host = ?`, host).Scan(&username, &box)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, fmt.Errorf("read registry: %w", err)
	}
	plain, err := s.unsealed("registry:"+host, box)
	if err != nil {
		return "", "", false, err
	}
	s.Hide(string(plain))
	return username, string(plain), true, nil
}
