package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// UnnamedContainer is a container with this server's label and without one that is its name: an earlier server made it, or
// it inherited the label.
type UnnamedContainer struct {
	ID string // the engine's
	Container
	Address string // that it was given: an address, or one with the port that is published; empty where that is not known
}

// Adopt returns the containers that an earlier server made, names by the engine's id. The first time it finds the
// containers that there are, records those that a row names, and no others ever after.
func (s *Store) Adopt(ctx context.Context, find func(context.Context) ([]UnnamedContainer, error)) (map[string]string, error) {
	var done string
	err := s.read.QueryRowContext(ctx, `SELECT value FROM settings WHERE key = 'adopted'`).Scan(&done)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.adopt(ctx, find)
	}
	if err != nil {
		return nil, fmt.Errorf("adopt containers: %w", err)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT id, name FROM adopted_containers`)
	if err != nil {
		return nil, fmt.Errorf("read adopted containers: %w", err)
	}
	defer rows.Close()
	names := map[string]string{}
	for rows.Next() {
		var id, name string
		if err := rows.Scan(&id, &name); err != nil {
			return nil, fmt.Errorf("read adopted containers: %w", err)
		}
		names[id] = name
	}
	return names, rows.Err()
}

func (s *Store) adopt(ctx context.Context, find func(context.Context) ([]UnnamedContainer, error)) error {
	found, err := find(ctx)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		t := txContext{ctx, tx}
		for _, one := range found {
			named, err := namedByRow(t, one)
			if err == nil && named {
				_, err = t.exec(`INSERT OR IGNORE INTO adopted_containers (id, name) VALUES (?, ?)`, one.ID, one.Name)
			}
			if err != nil {
				return err
			}
		}
		_, err := t.exec(`INSERT OR IGNORE INTO settings (key, value) VALUES ('adopted', ?)`, strconv.Itoa(len(found)))
		return err
	})
}

// namedByRow reports whether a row of deployments says that the container was made for it: its name and address, or the
// name that its release command had.
func namedByRow(t txContext, c UnnamedContainer) (bool, error) {
	var container, address string
	err := t.row(`SELECT d.container, d.address FROM deployments d JOIN apps a ON a.id = d.app WHERE d.id = ? AND a.name = ?`,
		c.Deployment, c.App).Scan(&container, &address)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read container of deployment: %w", err)
	}
	if c.Role == RoleCommand {
		return c.Name == OldCommandName(c.App, c.Deployment), nil
	}
	return c.Name == container && (c.Address == "" || sameAddress(c.Address, address)), nil
}

// sameAddress compares what the engine says with what was stored, which always has a port.
func sameAddress(engine, stored string) bool {
	at, err := netip.ParseAddrPort(stored)
	if err != nil {
		return false
	}
	return engine == stored || !strings.Contains(engine, ":") && engine == at.Addr().String()
}

// AddressesIn reports whether any deployment has an address in the subnet.
func (s *Store) AddressesIn(ctx context.Context, subnet netip.Prefix) (bool, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT address FROM addresses`)
	if err != nil {
		return false, fmt.Errorf("read addresses: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return false, fmt.Errorf("read addresses: %w", err)
		}
		if address, err := netip.ParseAddr(text); err == nil && subnet.Contains(address) {
			return true, nil
		}
	}
	return false, rows.Err()
}
