package dockerengine

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

// lastRuntimeRetry is the longest pause before a lost engine is asked again: what is live starts soon after its return.
const lastRuntimeRetry = 500 * time.Millisecond

// States returns the present state of each container of an app. One that goes while they are looked at is left out.
func (e *Engine) States(ctx context.Context, app string) ([]store.ContainerStatus, error) {
	containers, err := e.List(ctx, app)
	if err != nil {
		return nil, err
	}
	states := make([]store.ContainerStatus, 0, len(containers))
	for _, c := range containers {
		found, err := e.docker.ContainerInspect(ctx, c.Name)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, e.explain("inspect container "+c.Name, err)
		}
		states = append(states, statusOf(c, &found))
	}
	return states, nil
}

func statusOf(c store.Container, found *container.InspectResponse) store.ContainerStatus {
	state := found.State
	policy := found.HostConfig.RestartPolicy
	status := store.ContainerStatus{
		Container: c, Service: found.Config.Labels[store.LabelComposeService], ExitCode: state.ExitCode, Restarts: found.RestartCount,
		Keep: policy.IsAlways() || policy.IsUnlessStopped(), State: store.RunRunning, Since: instant(state.StartedAt),
	}
	switch {
	case state.Restarting:
		status.State, status.Since = store.RunRestarting, instant(state.FinishedAt)
	case state.Paused:
		status.State = store.RunPaused
	case !state.Running:
		status.State, status.Since = store.RunExited, instant(state.FinishedAt)
	case state.Health != nil && state.Health.Status == container.Unhealthy:
		status.State = store.RunUnhealthy
	}
	status.Running = state.Running && !state.Restarting
	return status
}

// instant reads a time of the engine, which writes the year 1 where nothing happened yet.
func instant(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 2000 {
		return time.Now()
	}
	return t
}

// Changes tells of each start, end, removal and change of health of our containers until ctx ends, or Close. It survives
// the loss of the event stream: the loss is told, and so is the return, after which everything has to be looked at anew.
func (e *Engine) Changes(ctx context.Context) <-chan store.EngineChange {
	ctx, cancel := context.WithCancel(ctx)
	unlink := context.AfterFunc(e.closing, cancel)
	told := make(chan store.EngineChange)
	e.work.Go(func() {
		defer cancel()
		defer unlink()
		defer close(told)
		wait, lost := firstRetry, false
		for ctx.Err() == nil {
			connected, err := e.tellChanges(ctx, told)
			if ctx.Err() != nil {
				return
			}
			if connected {
				wait, lost = firstRetry, false
			}
			if !lost {
				e.logger.Warn("event stream of the Docker engine was lost", "error", err)
				tell(ctx, told, store.EngineChange{Lost: true})
				lost = true
			}
			pause(ctx, wait)
			wait = min(2*wait, lastRuntimeRetry)
		}
	})
	return told
}

// tellChanges follows one event stream until it ends.
func (e *Engine) tellChanges(ctx context.Context, told chan<- store.EngineChange) (connected bool, err error) {
	streaming, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, lost := e.docker.Events(streaming, events.ListOptions{Filters: changesFilter(e.serverID)})
	if _, err := e.docker.Ping(ctx); err != nil {
		return false, fmt.Errorf("ping the Docker engine: %w", err)
	}
	tell(ctx, told, store.EngineChange{})
	for {
		select {
		case message := <-messages:
			tell(ctx, told, store.EngineChange{App: message.Actor.Attributes[store.LabelApp]})
		case err := <-lost:
			return true, err
		}
	}
}

func changesFilter(serverID string) filters.Args {
	wanted := filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("label", store.LabelData+"="+serverID),
	)
	for _, action := range []events.Action{
		events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionPause, events.ActionUnPause, events.ActionHealthStatus,
	} {
		wanted.Add("event", string(action))
	}
	return wanted
}

func tell(ctx context.Context, told chan<- store.EngineChange, change store.EngineChange) {
	select {
	case told <- change:
	case <-ctx.Done():
	}
}
