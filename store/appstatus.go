package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The states of an app beside those of its routed container.
const (
	AppServing = "serving" // a site: the proxy serves its files
	AppStopped = "stopped" // on purpose
	AppNever   = "never"   // nothing of it has ever been live
)

// AppStatus is whether an app does its work.
type AppStatus struct {
	App        string           `json:"app"`
	State      string           `json:"state"` // serving, stopped, never, or that of the routed container
	Up         bool             `json:"up"`
	Since      time.Time        `json:"since,omitzero"` // when it came into this state
	Restarts   int              `json:"restarts"`
	Live       int64            `json:"live"` // the deployment; 0: none
	SHA        string           `json:"sha,omitempty"`
	Host       string           `json:"host,omitempty"`
	Containers []ContainerState `json:"containers"` // of what is live, the routed one first
}

// Down reports whether the app does not do its work although it is to.
func (a AppStatus) Down() bool { return !a.Up && a.State != AppStopped && a.State != AppNever }

// Unseen reports whether nobody has asked the engine yet since the live version passed its gate.
func (a AppStatus) Unseen() bool { return a.State == string(RunUnknown) && len(a.Containers) == 0 }

// Text returns the state as people read it, with the exit code of what has ended.
func (a AppStatus) Text() string {
	if a.Down() && len(a.Containers) > 0 {
		return a.Containers[0].Text()
	}
	return a.State
}

// AppStatuses lists the state of one app, or of all when the name is empty, by name.
func (s *Store) AppStatuses(ctx context.Context, name string) ([]AppStatus, error) {
	apps, err := s.appsNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	states, err := s.ContainerStates(ctx, name)
	if err != nil {
		return nil, err
	}
	all := []AppStatus{}
	for _, app := range apps {
		live, found, err := s.Live(ctx, app.Name)
		if err != nil {
			return nil, err
		}
		own := slices.DeleteFunc(slices.Clone(states), func(c ContainerState) bool { // what was live before is no answer
			return c.App != app.Name || c.Deployment != live.Deployment
		})
		status := AppStatus{App: app.Name, State: AppNever, Containers: own}
		if len(app.Hosts) > 0 {
			status.Host = app.Hosts[0]
		}
		if found {
			status.describe(app, live)
		}
		all = append(all, status)
	}
	return all, nil
}

func (s *Store) appsNamed(ctx context.Context, name string) ([]App, error) {
	if name == "" {
		return s.Apps(ctx)
	}
	app, err := s.App(ctx, name)
	return []App{app}, err
}

func (a *AppStatus) describe(app App, live Live) {
	a.Live, a.SHA, a.Since = live.Deployment, live.SHA, live.Since
	switch {
	case app.Stopped(live.Deployment):
		a.State, a.Since = AppStopped, app.StoppedAt
	case live.Container == "":
		a.State, a.Up = AppServing, true
	case len(a.Containers) == 0 || !a.Containers[0].Routed:
		a.State = string(RunUnknown)
	default:
		routed := a.Containers[0]
		a.State, a.Up, a.Since, a.Restarts = string(routed.State), routed.Up(), routed.Since, routed.Restarts
	}
}

// Text returns the state as people read it, with the exit code of what has ended.
func (c ContainerState) Text() string {
	if c.State == RunExited || (c.State == RunRestarting && c.ExitCode != 0) {
		return fmt.Sprintf("%s (%d)", c.State, c.ExitCode)
	}
	return string(c.State)
}
