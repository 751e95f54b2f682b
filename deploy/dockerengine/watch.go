package dockerengine

import (
	"context"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

// How long a watch waits before it asks a lost engine again: doubled from the first to the last.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// Watch reports what happens to the container from now on, and its present state where that says that it has ended or
// what its HEALTHCHECK found. The container need not exist yet; one that was created and never started has not
// ended. An end that falls into the beginning may be told twice. The channel closes with ctx, or with Close.
//
// When the event stream is lost the watch subscribes again for as long as it takes, and then reports the state the
// container is in: the last events of an engine that is stopping look like containers that ended well.
func (e *Engine) Watch(ctx context.Context, name string) (<-chan store.ContainerEvent, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{engine: e, name: name, reported: make(chan store.ContainerEvent, 16)}
	present, err := w.subscribe(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	unlink := context.AfterFunc(e.closing, cancel)
	e.work.Go(func() {
		defer cancel()
		defer unlink()
		defer close(w.reported)
		w.run(ctx, present)
	})
	return w.reported, nil
}

type watch struct {
	engine   *Engine
	name     string
	reported chan store.ContainerEvent
	messages <-chan events.Message
	lost     <-chan error // one error when the stream ends
	cancel   context.CancelFunc
}

func (w *watch) run(ctx context.Context, present []store.ContainerEvent) {
	defer func() { w.cancel() }()
	for ctx.Err() == nil {
		w.report(ctx, present)
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		w.engine.logger.Warn("event stream of the Docker engine was lost", "container", w.name, "error", err)
		present = w.resubscribe(ctx)
	}
}

// subscribe begins a new event stream and then looks at the container, so that nothing falls between the two.
func (w *watch) subscribe(ctx context.Context) ([]store.ContainerEvent, error) {
	var streaming context.Context
	streaming, w.cancel = context.WithCancel(ctx)
	w.messages, w.lost = w.engine.docker.Events(streaming, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("container", w.name),
		filters.Arg("event", string(events.ActionDie)),
		filters.Arg("event", string(events.ActionOOM)),
		filters.Arg("event", string(events.ActionDestroy)),
		filters.Arg("event", string(events.ActionHealthStatus)),
	)})
	select {
	case err := <-w.lost:
		w.cancel()
		return nil, w.engine.explain("watch container "+w.name, err)
	default:
	}
	found, err := w.engine.inspect(ctx, w.name)
	if err != nil {
		w.cancel()
		return nil, err
	}
	if found == nil {
		return nil, nil
	}
	return present(found), nil
}

// resubscribe tries until it has a stream again or ctx ends.
func (w *watch) resubscribe(ctx context.Context) []store.ContainerEvent {
	w.cancel()
	for wait := firstRetry; pause(ctx, wait); wait = min(2*wait, lastRetry) {
		if present, err := w.subscribe(ctx); err == nil {
			return present
		}
	}
	return nil
}

// pause says whether the wait was over before ctx.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// follow hands on what the stream brings until it ends.
func (w *watch) follow(ctx context.Context) error {
	for {
		select {
		case message := <-w.messages:
			w.report(ctx, w.engine.translate(ctx, w.name, message))
		case err := <-w.lost:
			return err
		}
	}
}

func (w *watch) report(ctx context.Context, happened []store.ContainerEvent) {
	for _, event := range happened {
		select {
		case w.reported <- event:
		case <-ctx.Done():
			return
		}
	}
}

// translate reads one engine event. The engine's name filter also lets names through that begin with ours.
func (e *Engine) translate(ctx context.Context, name string, message events.Message) []store.ContainerEvent {
	attributes := message.Actor.Attributes
	if attributes["name"] != name {
		return nil
	}
	if ours, err := e.owned(ctx, identity{message.Actor.ID, name, attributes}); err != nil || !ours {
		return nil
	}
	switch message.Action {
	case events.ActionDie:
		code, err := strconv.Atoi(attributes["exitCode"])
		if err != nil {
			code = -1
		}
		return []store.ContainerEvent{{Kind: store.ContainerExited, ExitCode: code}}
	case events.ActionOOM:
		return []store.ContainerEvent{{Kind: store.ContainerOOM}}
	case events.ActionDestroy:
		return []store.ContainerEvent{{Kind: store.ContainerRemoved}}
	case events.ActionHealthStatusHealthy:
		return []store.ContainerEvent{{Kind: store.ContainerHealthy}}
	case events.ActionHealthStatusUnhealthy:
		return []store.ContainerEvent{{Kind: store.ContainerUnhealthy}}
	}
	return nil
}

// present says what an inspected container's state amounts to: an end, also one that the restart policy has undone
// since the last start, or the health it was found to have.
func present(found *container.InspectResponse) []store.ContainerEvent {
	state := found.State
	if ended(found) {
		end := store.ContainerEvent{Kind: store.ContainerExited, ExitCode: state.ExitCode}
		if state.OOMKilled {
			return []store.ContainerEvent{{Kind: store.ContainerOOM}, end}
		}
		return []store.ContainerEvent{end}
	}
	if state.Health == nil {
		return nil
	}
	switch state.Health.Status {
	case container.Healthy:
		return []store.ContainerEvent{{Kind: store.ContainerHealthy}}
	case container.Unhealthy:
		return []store.ContainerEvent{{Kind: store.ContainerUnhealthy}}
	}
	return nil
}

func ended(found *container.InspectResponse) bool {
	state := found.State
	return state.Restarting || found.RestartCount > 0 || state.Status == container.StateExited || state.Status == container.StateDead
}
