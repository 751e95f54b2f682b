package dockerengine

import (
	"context"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/shipgate/shipgate/store"
)

// Start creates the container when there is none of this name, starts it when it does not run, and sees to its restart
// policy. What is wrong with the image or its command is a Problem failed, with the engine's own words; a container that could not be started
// stays behind for Remove.
func (e *Engine) Start(ctx context.Context, spec store.ContainerSpec) error {
	existing, err := e.obtain(ctx, spec)
	if err != nil {
		return err
	}
	if !existing.State.Running || existing.State.Restarting {
		if err := e.start(ctx, spec); err != nil {
			return err
		}
	}
	if spec.KeepRunning && !existing.HostConfig.RestartPolicy.IsUnlessStopped() {
		return e.keepRunning(ctx, spec.Name)
	}
	return nil
}

// obtain gives the container of the spec, created when there is none.
func (e *Engine) obtain(ctx context.Context, spec store.ContainerSpec) (*container.InspectResponse, error) {
	existing, err := e.inspect(ctx, spec.Name)
	if err == nil && existing == nil {
		existing, err = e.create(ctx, spec)
	}
	if err != nil {
		return nil, err
	}
	if !sameDeployment(existing.Config.Labels, spec) {
		return nil, store.Problemf(store.CodeErrored, "container %s belongs to deployment %s of %s; it was left alone", spec.Name,
			existing.Config.Labels[store.LabelDeployment], existing.Config.Labels[store.LabelApp]).
			WithHint("docker inspect %s", spec.Name)
	}
	return existing, nil
}

func (e *Engine) keepRunning(ctx context.Context, name string) error {
	always := container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}}
	_, err := e.docker.ContainerUpdate(ctx, name, always)
	return e.explain("have container "+name+" restarted", err)
}

func sameDeployment(labels map[string]string, spec store.ContainerSpec) bool {
	wanted := deploymentLabels(spec)
	return labels[store.LabelApp] == wanted[store.LabelApp] &&
		labels[store.LabelDeployment] == wanted[store.LabelDeployment] &&
		labels[store.LabelRole] == wanted[store.LabelRole]
}

// create makes the container, or finds the one that another call made meanwhile.
func (e *Engine) create(ctx context.Context, spec store.ContainerSpec) (*container.InspectResponse, error) {
	on, err := e.networkOf(ctx, spec.App, spec.Address)
	if err != nil {
		return nil, err
	}
	mounted, err := e.mounts(ctx, spec)
	if err != nil {
		return nil, err
	}
	config, host, networking := e.settings(spec, on, mounted)
	_, err = e.docker.ContainerCreate(ctx, config, host, networking, nil, spec.Name)
	if err != nil && !errdefs.IsConflict(err) {
		return nil, e.explainStart(spec, err)
	}
	created, err := e.inspect(ctx, spec.Name)
	if err == nil && created == nil {
		err = store.Problemf(store.CodeErrored, "container %s was removed while it was being started", spec.Name)
	}
	return created, err
}

// start starts a container that exists. Its network may have been removed since it was created.
func (e *Engine) start(ctx context.Context, spec store.ContainerSpec) error {
	err := e.docker.ContainerStart(ctx, spec.Name, container.StartOptions{})
	if networkGone(err) {
		if err := e.reconnect(ctx, spec); err != nil {
			return err
		}
		err = e.docker.ContainerStart(ctx, spec.Name, container.StartOptions{})
	}
	if lastRunLeft(err) {
		return e.replace(ctx, spec)
	}
	return e.explainStart(spec, err)
}

// replace makes a container anew that can never be started again, and starts that.
func (e *Engine) replace(ctx context.Context, spec store.ContainerSpec) error {
	e.logger.Warn("containerd still has the last run of a container; make it anew", "app", spec.App, "container", spec.Name)
	if err := e.docker.ContainerRemove(ctx, spec.Name, container.RemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
		return e.explain("remove container "+spec.Name, err)
	}
	if _, err := e.obtain(ctx, spec); err != nil {
		return err
	}
	err := e.docker.ContainerStart(ctx, spec.Name, container.StartOptions{})
	if err == nil && spec.KeepRunning {
		return e.keepRunning(ctx, spec.Name)
	}
	return e.explainStart(spec, err)
}

func (e *Engine) explainStart(spec store.ContainerSpec, err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err) && strings.Contains(err.Error(), "No such image"):
		return store.Problemf(store.CodeFailed, "image %s is gone", spec.Image).WithHint("shipgate deploy %s", spec.App)
	case addressTaken(err):
		return store.Problemf(store.CodeErrored, "address %s of container %s is taken: %w", spec.Address, spec.Name, said{err}).
			WithHint("docker ps --all")
	case errdefs.IsInvalidArgument(err):
		return store.Problemf(store.CodeFailed, "container %s cannot start: %w", spec.Name, said{err}).
			WithHint("shipgate app show %s", spec.App)
	}
	return e.explain("start container "+spec.Name, err)
}

// addressTaken, networkGone and lastRunLeft know the engine's words, as it has no class of its own for any of them.
func addressTaken(err error) bool {
	text := err.Error()
	return strings.Contains(text, "ddress already in use") || strings.Contains(text, "port is already allocated")
}

func networkGone(err error) bool {
	return err != nil && errdefs.IsNotFound(err) && strings.Contains(err.Error(), "network")
}

var lastRun = regexp.MustCompile(`task [0-9a-f]{64}: already exists|id already in use`)

// lastRunLeft reports whether containerd still has a run of the container that the engine takes for ended. An engine leaves
// that behind when it is stopped with more containers to stop than it has time for, and refuses every start from then on.
func lastRunLeft(err error) bool {
	return err != nil && lastRun.MatchString(err.Error())
}
