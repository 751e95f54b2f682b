package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// watching is a watch under test.
type watching struct {
	name   string
	events <-chan store.ContainerEvent
	cancel context.CancelFunc
}

func (c *contract) watch(t *testing.T, name string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	t.Cleanup(cancel)
	events, err := c.Engine.Watch(ctx, name)
	if err != nil {
		t.Fatalf("watch %s: %v", name, err)
	}
	return &watching{name: name, events: events, cancel: cancel}
}

// next wants the event to be the next one.
func (w *watching) next(t *testing.T, wanted store.ContainerEvent) {
	t.Helper()
	select {
	case event, open := <-w.events:
		if !open || event != wanted {
			t.Fatalf("%s: got %+v (open: %t), want %+v", w.name, event, open, wanted)
		}
	case <-time.After(patience):
		t.Fatalf("%s: nothing reported, want %+v", w.name, wanted)
	}
}

// none ends the watch and wants it to have reported nothing.
func (w *watching) none(t *testing.T) {
	t.Helper()
	w.cancel()
	for {
		select {
		case event, open := <-w.events:
			if !open {
				return
			}
			t.Errorf("%s: got %+v, want nothing", w.name, event)
		case <-time.After(patience):
			t.Fatalf("%s: the channel stays open", w.name)
		}
	}
}

func watchBeforeStart(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Exiting)
	events := c.watch(t, spec.Name)
	c.start(t, spec)
	events.next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
}

func watchAfterEnd(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Exiting)
	before := c.watch(t, spec.Name)
	c.start(t, spec)
	before.next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
	c.stop(t, spec) // no restart policy may come between
	c.watch(t, spec.Name).next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
}

func watchRunning(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	before := c.watch(t, spec.Name)
	c.start(t, spec)
	after := c.watch(t, spec.Name)
	if !c.Answers(t, spec.Address) {
		t.Fatal("nothing answers")
	}
	before.none(t)
	after.none(t)
}

func watchStopAndRemove(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	if !c.Answers(t, spec.Address) {
		t.Fatal("nothing answers")
	}
	events := c.watch(t, spec.Name)
	c.stop(t, spec)
	events.next(t, store.ContainerEvent{Kind: store.ContainerExited})
	c.remove(t, spec)
	events.next(t, store.ContainerEvent{Kind: store.ContainerRemoved})
}

func watchSimilarNames(t *testing.T, c *contract) {
	short, long := c.spec(t, 1, c.Serving), c.spec(t, 12, c.Exiting)
	c.start(t, short)
	events, others := c.watch(t, short.Name), c.watch(t, long.Name)
	c.start(t, long)
	others.next(t, store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3})
	c.remove(t, long)
	c.stop(t, short)
	events.next(t, store.ContainerEvent{Kind: store.ContainerExited})
}

func watchEnds(t *testing.T, c *contract) {
	spec := c.spec(t, 1, c.Serving)
	c.start(t, spec)
	events := c.watch(t, spec.Name)
	events.cancel()
	select {
	case event, open := <-events.events:
		if open {
			t.Fatalf("got %+v, want the end", event)
		}
	case <-time.After(patience):
		t.Fatal("the channel stays open")
	}
}
