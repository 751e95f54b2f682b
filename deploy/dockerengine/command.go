package dockerengine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// stopPatience is how long a command that has to end may take for it, its grace included.
const stopPatience = store.DefaultStopGrace + time.Minute

// Run runs the container of this name to its end and gives the exit code, 137 when it was killed for its memory. Lines
// of stdout and stderr are handed on as they come, without control characters. It is repeatable: a container that runs
// already is waited for, and one that has ended is not run again; their lines are handed on from the first. The
// container stays until Remove.
//
// A ctx that ends at its deadline or with a Problem as its cause stops the process, and kills it after the default
// grace. One that ends without a reason, as it does with the server, leaves it to the next Run.
//
// A command that cannot be started is a failed Problem. An engine that goes away meanwhile is waited for.
func (e *Engine) Run(ctx context.Context, spec store.ContainerSpec, log func(line string)) (exitCode int, err error) {
	lines := &commandLog{engine: e, name: spec.Name, write: log}
	exitCode, err = e.runToEnd(ctx, spec, lines)
	cause := context.Cause(ctx)
	if err == nil || cause == nil {
		return exitCode, err
	}
	err = fmt.Errorf("run %s: %w", spec.Name, cause)
	if !endsCommand(cause) {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	if stopped := e.Stop(ctx, spec.Name, store.DefaultStopGrace); stopped != nil {
		return 0, errors.Join(err, stopped)
	}
	lines.rest(ctx)
	return 0, err
}

func endsCommand(cause error) bool {
	_, told := store.AsProblem(cause)
	return told || errors.Is(cause, context.DeadlineExceeded)
}

func (e *Engine) runToEnd(ctx context.Context, spec store.ContainerSpec, lines *commandLog) (exitCode int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := e.Watch(ctx, spec.Name)
	if err != nil {
		return 0, err
	}
	found, err := e.obtain(ctx, spec)
	if err != nil {
		return 0, err
	}
	if found.State.Status == container.StateCreated {
		if err := e.start(ctx, spec); err != nil {
			return 0, err
		}
	}
	stopFollowing := lines.follow(ctx)
	exitCode, err = e.awaitEnd(ctx, spec.Name, events)
	stopFollowing()
	if err == nil {
		lines.rest(ctx)
	}
	return exitCode, err
}

// awaitEnd asks the engine itself once the watch has told of an end: what an engine that is stopping tells may not be
// all there is to it.
func (e *Engine) awaitEnd(ctx context.Context, name string, events <-chan store.ContainerEvent) (exitCode int, err error) {
	for event := range events {
		switch event.Kind {
		case store.ContainerRemoved:
			return 0, gone(name)
		case store.ContainerExited:
			var found *container.InspectResponse
			err := insist(ctx, func() (err error) { found, err = e.inspect(ctx, name); return err })
			if err != nil {
				return 0, err
			}
			if found == nil {
				return 0, gone(name)
			}
			if !found.State.Running {
				return found.State.ExitCode, nil
			}
		}
	}
	return 0, fmt.Errorf("wait for the end of %s: %w", name, context.Canceled) // the watch ends with ctx or with Close
}

// commandLog hands on every line of a container once, however often the log has to be read for it.
type commandLog struct {
	engine *Engine
	name   string
	write  func(line string)
	handed int
}

// follow hands on lines as they come until it is stopped.
func (l *commandLog) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() {
		if err := insist(ctx, func() error { return l.read(ctx, true) }); err != nil && ctx.Err() == nil {
			l.engine.logger.Warn("log of a command cannot be followed", "container", l.name, "error", err)
		}
	})
	return func() {
		cancel()
		following.Wait()
	}
}

// rest hands on what there is beyond the lines that were handed on. The exit code stands without it.
func (l *commandLog) rest(ctx context.Context) {
	if err := insist(ctx, func() error { return l.read(ctx, false) }); err != nil {
		l.engine.logger.Warn("log of a command is not complete", "container", l.name, "error", err)
	}
}

func (l *commandLog) read(ctx context.Context, follow bool) error {
	seen := 0
	return l.engine.Logs(ctx, l.name, -1, follow, func(line string) {
		if seen++; seen > l.handed {
			l.handed = seen
			l.write(plain(line))
		}
	})
}

// insist tries again for as long as it takes where the engine was lost over it.
func insist(ctx context.Context, attempt func() error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := attempt()
		if !lost(err) || !pause(ctx, wait) {
			return err
		}
	}
}

// lost says that the connection broke, which says nothing of the container.
func lost(err error) bool {
	var broken *net.OpError
	return client.IsErrConnectionFailed(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken)
}
