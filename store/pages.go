package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// LastDeployments gives the newest deployment of every app that has one, by app.
func (s *Store) LastDeployments(ctx context.Context) (map[string]Deployment, error) {
	newest, err := collect(ctx, s.read, scanDeployment,
		selectDeployments+`WHERE d.id IN (SELECT (SELECT max(id) FROM deployments WHERE app = apps.id) FROM apps)`)
	if err != nil {
		return nil, err
	}
	byApp := map[string]Deployment{}
	for _, d := range newest {
		byApp[d.App] = d
	}
	return byApp, nil
}

// LiveDeployments gives the deployment that serves of every app that has one, by app.
func (s *Store) LiveDeployments(ctx context.Context) (map[string]Deployment, error) {
	serving, err := collect(ctx, s.read, scanDeployment, selectDeployments+`WHERE d.id IN (SELECT deployment FROM live)`)
	if err != nil {
		return nil, err
	}
	byApp := map[string]Deployment{}
	for _, d := range serving {
		byApp[d.App] = d
	}
	return byApp, nil
}

// LastEvents gives at most limit lines of the end of a deployment's history, in order.
func (s *Store) LastEvents(ctx context.Context, deployment int64, limit int) ([]Event, error) {
	events, err := collect(ctx, s.read, scanEvent,
		`SELECT id, deployment, at, kind, step, text FROM events WHERE deployment = ? ORDER BY id DESC LIMIT ?`, deployment, limit)
	slices.Reverse(events)
	return events, err
}

// Successor gives the deployment that took the place of another one; false while none has.
func (s *Store) Successor(ctx context.Context, d Deployment) (Deployment, bool, error) {
	next, err := scanDeployment(s.read.QueryRowContext(ctx, selectDeployments+`WHERE d.app = (SELECT id FROM apps WHERE name = ?)
		AND d.id > ? AND d.previous = ? AND d.verdict = 'succeeded' ORDER BY d.id LIMIT 1`, d.App, d.ID, d.ID))
	if errors.Is(err, sql.ErrNoRows) {
		return Deployment{}, false, nil
	}
	if err != nil {
		return Deployment{}, false, fmt.Errorf("read successor: %w", err)
	}
	return next, true, nil
}
