package dockerengine

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

// Diagnose looks at a container that did not become healthy. The log is the last logLines of stdout and stderr
// together, without control characters; a container that was never started has none.
func (e *Engine) Diagnose(ctx context.Context, name string, logLines int) (store.Diagnosis, error) {
	found, err := e.inspect(ctx, name)
	if err != nil {
		return store.Diagnosis{}, err
	}
	if found == nil {
		return store.Diagnosis{}, gone(name)
	}
	diagnosis := store.Diagnosis{
		Running:   found.State.Running && !found.State.Restarting,
		ExitCode:  found.State.ExitCode,
		OOMKilled: found.State.OOMKilled,
		Error:     plain(found.State.Error),
		Listening: listening(found),
	}
	if diagnosis.Running && found.RestartCount > 0 {
		e.lastEnd(ctx, name, &diagnosis)
	}
	if found.State.Status == container.StateCreated {
		return diagnosis, nil
	}
	err = e.Logs(ctx, name, logLines, false, func(line string) { diagnosis.Log = append(diagnosis.Log, plain(line)) })
	return diagnosis, err
}

// lastEnd looks up how the container ended before the restart policy started it again, which its state has forgotten.
// The engine remembers few events: what it has lost stays unsaid.
func (e *Engine) lastEnd(ctx context.Context, name string, diagnosis *store.Diagnosis) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, ended := e.docker.Events(ctx, events.ListOptions{
		Since: "0",
		Until: time.Now().Format(time.RFC3339Nano),
		Filters: filters.NewArgs(
			filters.Arg("container", name),
			filters.Arg("event", string(events.ActionDie)),
			filters.Arg("event", string(events.ActionOOM)),
		),
	})
	for {
		select {
		case message := <-messages:
			for _, event := range e.translate(ctx, name, message) {
				diagnosis.OOMKilled = diagnosis.OOMKilled || event.Kind == store.ContainerOOM
				if event.Kind == store.ContainerExited {
					diagnosis.ExitCode = event.ExitCode
				}
			}
		case <-ended:
			return
		}
	}
}
