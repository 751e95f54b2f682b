package memengine

import (
	"context"
	"time"

	"github.com/shipgate/shipgate/store"
)

// States returns the present state of each container of an app.
func (e *Engine) States(ctx context.Context, app string) (states []store.ContainerStatus, err error) {
	err = e.call(ctx, "states "+app, func() error {
		for _, listed := range e.list(app) {
			c := e.containers[listed.Name]
			status := store.ContainerStatus{
				Container: listed, State: store.RunRunning, ExitCode: c.exit, Keep: c.spec.KeepRunning, Since: time.Now(),
			}
			if c.spec.Role == store.RoleStack && listed.Name == otherName(c.spec.App) {
				status.Service, status.Keep = "other", true
			}
			switch {
			case !c.running:
				status.State = store.RunExited
			case c.health == "unhealthy":
				status.State = store.RunUnhealthy
			}
			states = append(states, status)
		}
		return nil
	})
	return states, err
}

// Changes tells that something changed until ctx ends. Several changes may be told as one.
func (e *Engine) Changes(ctx context.Context) <-chan store.EngineChange {
	told := make(chan store.EngineChange, 2) // room for a loss and a return
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listeners[told] = store.EngineChange{Lost: e.lost}
	told <- e.listeners[told]
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, told)
		close(told)
	})
	return told
}

// changed never lets a loss or a return go missing: where a listener is behind, the older of two changes gives way.
func (e *Engine) changed(change store.EngineChange) {
	for told, last := range e.listeners {
		if len(told) == cap(told) {
			if change == last {
				continue
			}
			select {
			case <-told:
			default: // it was read meanwhile
			}
		}
		told <- change
		e.listeners[told] = change
	}
}

// Lose ends every container, as the death of an engine does, and has all verbs fail until Return.
func (e *Engine) Lose() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost = true
	for _, c := range e.containers {
		if c.running && !c.foreign {
			e.end(c, 137, false)
		}
	}
	e.changed(store.EngineChange{Lost: true})
}

// Return has a lost engine answer again. It starts nothing: it takes its own clean-up for a stop on purpose.
func (e *Engine) Return() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost = false
	e.changed(store.EngineChange{})
}

// RemoveByHand removes a container as somebody with access to the engine can.
func (e *Engine) RemoveByHand(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[name]
	if c == nil || c.foreign {
		return
	}
	if c.running {
		e.end(c, 137, false)
	}
	delete(e.containers, name)
	e.tell(name, store.ContainerEvent{Kind: store.ContainerRemoved})
}
