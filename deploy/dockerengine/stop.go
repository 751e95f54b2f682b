package dockerengine

import (
	"context"
	"math"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Stop asks the process to end, kills it after the grace, and keeps the container, which nothing but Start will start
// again. The grace counts in whole seconds, rounded up. A missing container is no error.
//
// The kernel drops a stop signal that the first process of a container has no handler for, as with many programs that
// run without an init. Where that can be seen from here, by root on the engine's own host, the process is killed at
// once: it would not learn that it is to end, and so the grace would be of no use, while requests are held for it.
func (e *Engine) Stop(ctx context.Context, name string, grace time.Duration) error {
	existing, err := e.inspect(ctx, name)
	if err != nil || existing == nil {
		return err
	}
	seconds := int(math.Ceil(grace.Seconds()))
	if dropsStopSignal(existing) {
		seconds = 0
	}
	err = e.docker.ContainerStop(ctx, existing.ID, container.StopOptions{Timeout: &seconds})
	if err == nil && !existing.HostConfig.RestartPolicy.IsNone() {
		// A version that is started again later is on trial again.
		never := container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled}}
		_, err = e.docker.ContainerUpdate(ctx, existing.ID, never)
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("stop container "+name, err)
}

// Remove kills and removes the container, with the volumes that only its image's VOLUME lines made: those have no name, and
// nothing would find them again. Others stay. A missing container is no error.
func (e *Engine) Remove(ctx context.Context, name string) error {
	existing, err := e.inspect(ctx, name)
	if err != nil || existing == nil {
		return err
	}
	err = e.docker.ContainerRemove(ctx, existing.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("remove container "+name, err)
}
