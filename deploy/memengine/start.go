package memengine

import "github.com/shipgate/shipgate/store"

func (e *Engine) start(spec store.ContainerSpec) error {
	c, err := e.find(spec)
	if err != nil {
		return err
	}
	c.spec.KeepRunning = c.spec.KeepRunning || spec.KeepRunning
	if c.running {
		return nil
	}
	if other := e.holder(c.spec.Address); other != nil {
		return store.Problemf(store.CodeErrored, "address %s of container %s is taken", c.spec.Address, spec.Name).
			WithHint("docker ps --all")
	}
	behaviour := e.images[c.spec.Image]
	*c = container{spec: c.spec, log: append(c.log, behaviour.Log...)}
	if behaviour.StartFails != "" {
		c.exit, c.fault = 127, behaviour.StartFails
		return store.Problemf(store.CodeFailed, "container %s cannot start: %s", spec.Name, behaviour.StartFails)
	}
	c.running = true
	e.changed(store.EngineChange{})
	e.live(c, behaviour)
	return nil
}

// find gives the container of this name, created when there is none.
func (e *Engine) find(spec store.ContainerSpec) (*container, error) {
	c, err := e.ours(spec.Name)
	if err != nil {
		return nil, err
	}
	if c != nil {
		if c.spec.App != spec.App || c.spec.Deployment != spec.Deployment {
			return nil, store.Problemf(store.CodeErrored, "container %s belongs to deployment %d of %s",
				spec.Name, c.spec.Deployment, c.spec.App)
		}
		return c, nil
	}
	if _, known := e.images[spec.Image]; !known {
		return nil, store.Problemf(store.CodeFailed, "image %s is gone", spec.Image).
			WithHint("shipgate deploy %s", spec.App)
	}
	if spec.Role != store.RoleCommand && !pool.Subnet.Contains(spec.Address.Addr()) {
		return nil, store.Problemf(store.CodeErrored, "address %s of container %s is outside %s",
			spec.Address, spec.Name, pool.Subnet)
	}
	c = &container{spec: spec}
	e.containers[spec.Name] = c
	return c, nil
}

// live is what a container does from its start on.
func (e *Engine) live(c *container, behaviour Behaviour) {
	switch {
	case behaviour.OOM:
		e.end(c, 137, true)
	case behaviour.Exits:
		e.end(c, behaviour.ExitCode, false)
	case behaviour.Health != "":
		c.health = behaviour.Health
		e.tell(c.spec.Name, health(c)...)
	}
}

func (e *Engine) end(c *container, code int, oom bool) {
	c.running, c.ended, c.exit, c.oom, c.health = false, true, code, oom, ""
	e.tell(c.spec.Name, state(c)...)
}

// state is what there is to report of a container as it is now: that it has ended, or what its HEALTHCHECK said.
func state(c *container) []store.ContainerEvent {
	if !c.ended || c.running {
		return health(c)
	}
	end := store.ContainerEvent{Kind: store.ContainerExited, ExitCode: c.exit}
	if c.oom {
		return []store.ContainerEvent{{Kind: store.ContainerOOM}, end}
	}
	return []store.ContainerEvent{end}
}

func health(c *container) []store.ContainerEvent {
	switch c.health {
	case "healthy":
		return []store.ContainerEvent{{Kind: store.ContainerHealthy}}
	case "unhealthy":
		return []store.ContainerEvent{{Kind: store.ContainerUnhealthy}}
	}
	return nil
}
