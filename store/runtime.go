package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RunState is what the engine last said of a container.
type RunState string

// The states of a container.
const (
	RunRunning    RunState = "running"
	RunUnhealthy  RunState = "unhealthy"  // it runs, and its HEALTHCHECK fails
	RunRestarting RunState = "restarting" // it keeps ending, and the engine starts it again
	RunPaused     RunState = "paused"
	RunExited     RunState = "exited"
	RunMissing    RunState = "missing" // no container of this name exists
	RunUnknown    RunState = "unknown" // the engine does not answer
)

// ContainerState is the state of one container of what is live.
type ContainerState struct {
	App        string    `json:"-"`
	Container  string    `json:"container"`
	Deployment int64     `json:"deployment"`
	Service    string    `json:"service,omitempty"` // of a stack
	Routed     bool      `json:"routed"`            // requests go to it
	Keep       bool      `json:"-"`                 // the engine is to start it again when it ends
	State      RunState  `json:"state"`
	ExitCode   int       `json:"exit_code"` // of the last end
	Restarts   int       `json:"restarts"`  // by the engine, since anybody else started it
	Since      time.Time `json:"since"`     // when it came into this state
}

// Up reports whether the container does its work.
func (c ContainerState) Up() bool { return c.State == RunRunning }

// same reports whether nothing changed that an operator would want to know.
func (c ContainerState) same(other ContainerState) bool {
	return c.State == other.State && c.Restarts == other.Restarts && c.Deployment == other.Deployment &&
		(c.State != RunExited || c.ExitCode == other.ExitCode)
}

// RuntimeTopic changes whenever the state of an app's containers or the wanted state of an app does.
const RuntimeTopic = "runtime"

// ContainerStates lists the containers of what is live of an app, or of all apps when it is empty: the routed one first.
func (s *Store) ContainerStates(ctx context.Context, app string) ([]ContainerState, error) {
	return collect(ctx, s.read, scanContainerState, selectContainerStates+`WHERE ? IN ('', a.name) ORDER BY a.name, c.routed DESC, c.container`, app)
}

const selectContainerStates = `SELECT a.name, c.container, c.deployment, c.service, c.routed, c.keep, c.state, c.exit_code, c.restarts, c.since
	FROM container_states c JOIN apps a ON a.id = c.app `

func scanContainerState(row scanner) (ContainerState, error) {
	var c ContainerState
	var since sql.NullInt64
	err := row.Scan(&c.App, &c.Container, &c.Deployment, &c.Service, &c.Routed, &c.Keep, &c.State, &c.ExitCode, &c.Restarts, &since)
	if err != nil {
		return ContainerState{}, fmt.Errorf("read container state: %w", err)
	}
	c.Since = unstamp(since)
	return c, nil
}

// SetContainerStates replaces the states of an app's containers and returns those that changed. Nothing is written when
// nothing changed.
func (s *Store) SetContainerStates(ctx context.Context, app string, states []ContainerState) (changed []ContainerState, err error) {
	before, err := s.ContainerStates(ctx, app)
	if err != nil {
		return nil, err
	}
	for i, state := range states {
		at := slices.IndexFunc(before, func(b ContainerState) bool { return b.Container == state.Container })
		if at < 0 || !before[at].same(state) {
			changed = append(changed, state)
			continue
		}
		states[i].Since = before[at].Since
		before = slices.Delete(before, at, at+1)
	}
	if len(changed) == 0 && len(before) == 0 {
		return nil, nil
	}
	err = s.changeApp(ctx, app, func(tx txContext, id int64) error { return writeContainerStates(tx, id, states) })
	if err != nil {
		return nil, err
	}
	s.watchers.wake(RuntimeTopic)
	return changed, nil
}

func writeContainerStates(tx txContext, app int64, states []ContainerState) error {
	if _, err := tx.exec(`DELETE FROM container_states WHERE app = ?`, app); err != nil {
		return fmt.Errorf("remove old container states: %w", err)
	}
	for _, c := range states {
		_, err := tx.exec(`INSERT INTO container_states (app, container, deployment, service, routed, keep, state, exit_code, restarts, since)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			app, c.Container, c.Deployment, c.Service, c.Routed, c.Keep, c.State, c.ExitCode, c.Restarts, stamp(c.Since))
		if err != nil {
			return fmt.Errorf("write container state: %w", err)
		}
	}
	return nil
}

// StopApp stores that the app is not to run: neither what is live, nor what any deployment of before makes live.
func (s *Store) StopApp(ctx context.Context, app string) error {
	return s.setStopped(ctx, app, `UPDATE apps SET stopped_after = max(1, (SELECT coalesce(max(number), 1) FROM numbers),
		(SELECT coalesce(max(id), 1) FROM deployments)), stopped_at = ? WHERE id = ?`, stamp(time.Now()))
}

// StartApp stores that the app is to run.
func (s *Store) StartApp(ctx context.Context, app string) error {
	return s.setStopped(ctx, app, `UPDATE apps SET stopped_after = 0, stopped_at = ? WHERE id = ?`, sql.NullInt64{})
}

func (s *Store) setStopped(ctx context.Context, app, query string, at any) error {
	err := s.changeApp(ctx, app, func(tx txContext, id int64) error {
		if _, err := tx.exec(query, at, id); err != nil {
			return fmt.Errorf("write wanted state of app: %w", err)
		}
		return nil
	})
	if err == nil {
		s.watchers.wake(RuntimeTopic)
	}
	return err
}

// Stopped reports whether the deployment is not to serve because the app was stopped after it was asked for.
func (a App) Stopped(deployment int64) bool { return deployment != 0 && deployment <= a.StoppedAfter }

// Destroyed reports whether an app of this name was destroyed, and none was created since.
func (s *Store) Destroyed(ctx context.Context, app string) (bool, error) {
	var at int64
	err := s.read.QueryRowContext(ctx, `SELECT destroyed_at FROM destroyed_apps WHERE name = ?`, app).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read destroyed apps: %w", err)
	}
	return true, nil
}

// ContainerStatus is what the engine says of one container of ours now.
type ContainerStatus struct {
	Container
	Service  string // of a stack
	State    RunState
	ExitCode int       // of the last end
	Restarts int       // by the engine, since anybody else started it
	Keep     bool      // the engine is to start it again when it ends by itself
	Since    time.Time // when it came into this state
}

// EngineChange tells that something changed on the engine. It carries no state: who hears it looks.
type EngineChange struct {
	App  string // whose containers; empty: look at all of them
	Lost bool   // the engine does not answer
}
