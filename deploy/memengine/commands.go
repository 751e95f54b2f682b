package memengine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/shipgate/shipgate/store"
)

// Commands is a fake with state of the running of release commands. What an image's command does is part of its Behaviour.
// Its containers are the engine's, and pass the engine's hooks.
type Commands struct {
	engine *Engine
	runs   map[string]int // by container
}

// NewCommands returns commands on an engine.
func NewCommands(engine *Engine) *Commands {
	return &Commands{engine: engine, runs: map[string]int{}}
}

// Runs says how often the process of a command was started.
func (c *Commands) Runs(name string) int {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	return c.runs[name]
}

// Run runs the container of this name to its end and gives the exit code.
func (c *Commands) Run(ctx context.Context, spec store.ContainerSpec, log func(line string)) (exitCode int, err error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var events <-chan store.ContainerEvent
	var lines []string
	err = c.engine.call(ctx, "run "+spec.Name, func() error {
		if lines, err = c.begin(spec); err == nil {
			events = c.engine.watch(watching, spec.Name)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, line := range lines {
		log(line)
	}
	for event := range events {
		switch event.Kind {
		case store.ContainerExited:
			return event.ExitCode, nil
		case store.ContainerRemoved:
			return 0, store.Problemf(store.CodeErrored, "container %s is gone", spec.Name)
		}
	}
	return 0, c.ended(ctx, spec.Name)
}

// begin makes the container and starts its process, each once, and gives the lines that it has written.
func (c *Commands) begin(spec store.ContainerSpec) ([]string, error) {
	if found := c.engine.containers[spec.Name]; found != nil && !found.foreign && found.spec.Role != spec.Role {
		return nil, store.Problemf(store.CodeErrored, "container %s is no release command", spec.Name)
	}
	found, err := c.engine.find(spec)
	if err != nil {
		return nil, err
	}
	if !found.running && !found.ended {
		behaviour := c.engine.images[spec.Image]
		c.runs[spec.Name]++
		found.running, found.log = true, slices.Clone(behaviour.CommandLog)
		if !behaviour.CommandWaits {
			c.engine.end(found, behaviour.CommandCode, false)
		}
	}
	return slices.Clone(found.log), nil
}

// ended stops the process when its time is up or somebody gave a reason, and leaves it to the next Run otherwise.
func (c *Commands) ended(ctx context.Context, name string) error {
	cause := context.Cause(ctx)
	if _, told := store.AsProblem(cause); told || errors.Is(cause, context.DeadlineExceeded) {
		if err := c.engine.Stop(context.WithoutCancel(ctx), name, 0); err != nil {
			return errors.Join(cause, err)
		}
	}
	return fmt.Errorf("run %s: %w", name, cause)
}
