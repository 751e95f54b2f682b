package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// InternalDomain is what the name ends in under which an app is called by others: APP.internal. No host of an app does.
const InternalDomain = "internal"

// InternalName returns the name under which other apps call an app.
func InternalName(app string) string { return app + "." + InternalDomain }

// CallTable says which containers may call which apps through the proxy. It always has all of them.
type CallTable struct {
	Listen  string   `json:"listen,omitempty"` // host:port on the bridge; empty: as it is
	Callers []Caller `json:"callers,omitempty"`
}

// Caller is a container of an app that wants to call others.
type Caller struct {
	Address netip.Addr `json:"address"`
	App     string     `json:"app"`
	May     []string   `json:"may,omitempty"` // the apps that it may call: both sides have agreed
}

// Equal reports whether two sets allow the same at the same address.
func (t CallTable) Equal(other CallTable) bool {
	return t.Listen == other.Listen && slices.EqualFunc(t.Callers, other.Callers, func(a, b Caller) bool {
		return a.Address == b.Address && a.App == b.App && slices.Equal(a.May, b.May)
	})
}

// Callers returns every container with an address on the bridge whose Release wants to call apps, by address. What an app
// allows counts as its config has it now, so that taking it back has an effect at once.
func (s *Store) Callers(ctx context.Context) ([]Caller, error) {
	callers, err := s.wantedCallers(ctx)
	if err != nil || len(callers) == 0 { // most servers have none, and ask at every start of a container
		return nil, err
	}
	allowed, err := s.allowedCallers(ctx)
	if err != nil {
		return nil, err
	}
	for i, caller := range callers {
		callers[i].May = slices.DeleteFunc(caller.May, func(app string) bool { return !allowed[app][caller.App] })
	}
	return callers, nil
}

// wantedCallers returns the callers as their Releases have them, whatever is allowed.
func (s *Store) wantedCallers(ctx context.Context) ([]Caller, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT a.address, apps.name, json_extract(r.config, '$.calls') FROM addresses a
		JOIN deployments d ON d.id = a.deployment JOIN releases r ON r.id = d.release JOIN apps ON apps.id = d.app
		WHERE json_array_length(r.config, '$.calls') > 0 ORDER BY a.address`)
	if err != nil {
		return nil, fmt.Errorf("read callers: %w", err)
	}
	defer rows.Close()
	var callers []Caller
	for rows.Next() {
		var caller Caller
		var address, calls string
		if err := rows.Scan(&address, &caller.App, &calls); err != nil {
			return nil, fmt.Errorf("read callers: %w", err)
		}
		if caller.Address, err = netip.ParseAddr(address); err != nil {
			continue // a port on loopback: nothing tells such containers apart
		}
		if err := json.Unmarshal([]byte(calls), &caller.May); err != nil {
			return nil, fmt.Errorf("decode calls of %s: %w", caller.App, err)
		}
		callers = append(callers, caller)
	}
	return callers, rows.Err()
}

// allowedCallers returns, for each app that allows calls, the apps that may call it.
func (s *Store) allowedCallers(ctx context.Context) (map[string]map[string]bool, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT apps.name, each.value FROM apps, json_each(apps.config, '$.allow_from') AS each`)
	if err != nil {
		return nil, fmt.Errorf("read who may call apps: %w", err)
	}
	defer rows.Close()
	allowed := map[string]map[string]bool{}
	for rows.Next() {
		var app, from string
		if err := rows.Scan(&app, &from); err != nil {
			return nil, fmt.Errorf("read who may call apps: %w", err)
		}
		if allowed[app] == nil {
			allowed[app] = map[string]bool{}
		}
		allowed[app][from] = true
	}
	return allowed, rows.Err()
}

// maxCalls bounds the apps that one app may name.
const maxCalls = 100

func validateApps(field string, apps []string) error {
	if len(apps) > maxCalls {
		return fmt.Errorf("%s has %d apps, and may have %d", field, len(apps), maxCalls)
	}
	for i, app := range apps {
		if !appName.MatchString(app) {
			return fmt.Errorf("%s: %q is not the name of an app", field, app)
		}
		if slices.Contains(apps[:i], app) {
			return fmt.Errorf("%s: %s is there twice", field, app)
		}
	}
	return nil
}
