package memengine

import (
	"context"

	"github.com/shipgate/shipgate/store"
)

// backlog is more than any container lives through in a test.
const backlog = 1024

type watcher struct {
	name   string
	events chan store.ContainerEvent
}

// Watch reports what happens to the container from now on, and its present state where that says something. The
// channel closes with ctx.
func (e *Engine) Watch(ctx context.Context, name string) (events <-chan store.ContainerEvent, err error) {
	err = e.call(ctx, "watch "+name, func() error {
		events = e.watch(ctx, name)
		return nil
	})
	return events, err
}

func (e *Engine) watch(ctx context.Context, name string) <-chan store.ContainerEvent {
	w := &watcher{name: name, events: make(chan store.ContainerEvent, backlog)}
	if c := e.containers[name]; c != nil && !c.foreign {
		w.send(state(c)...)
	}
	e.watchers[w] = struct{}{}
	context.AfterFunc(ctx, func() { e.forget(w) })
	return w.events
}

func (e *Engine) forget(w *watcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watchers, w)
	close(w.events)
}

func (e *Engine) tell(name string, events ...store.ContainerEvent) {
	e.changed(store.EngineChange{})
	for w := range e.watchers {
		if w.name == name {
			w.send(events...)
		}
	}
}

func (w *watcher) send(events ...store.ContainerEvent) {
	for _, event := range events {
		select {
		case w.events <- event:
		default:
			panic("memengine: nobody reads the events of " + w.name)
		}
	}
}
