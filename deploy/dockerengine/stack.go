package dockerengine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

func ofProject(project string) filters.Args {
	return filters.NewArgs(filters.Arg("label", store.LabelComposeProject+"="+project))
}

// StackContainers returns all containers that carry the label of a Compose project, whoever made them.
func (e *Engine) StackContainers(ctx context.Context, project string) ([]store.StackContainer, error) {
	summaries, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: ofProject(project)})
	if err != nil {
		return nil, e.explain("list the stack's containers", err)
	}
	var found []store.StackContainer
	for _, summary := range summaries {
		inspected, err := e.docker.ContainerInspect(ctx, summary.ID)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, e.explain("inspect container "+summary.ID, err)
		}
		found = append(found, stackContainerOf(inspected))
	}
	return found, nil
}

func stackContainerOf(i container.InspectResponse) store.StackContainer {
	c := store.StackContainer{
		ID: i.ID, Name: i.Name[min(1, len(i.Name)):], Labels: i.Config.Labels, State: string(i.State.Status), ExitCode: i.State.ExitCode,
		Restarts: i.RestartCount, Volumes: map[string]string{},
	}
	if i.State.Health != nil && i.State.Health.Status != container.NoHealthcheck {
		c.Health = string(i.State.Health.Status)
	}
	c.StartedAt, _ = time.Parse(time.RFC3339Nano, i.State.StartedAt) // zero where it never started
	if i.NetworkSettings != nil {
		c.Networks = slices.Sorted(maps.Keys(i.NetworkSettings.Networks))
	}
	for _, mounted := range i.Mounts {
		if mounted.Name != "" {
			c.Volumes[mounted.Destination] = mounted.Name
		}
	}
	return c
}

// StopStackContainer stops a container within its own grace and keeps it. A missing one is no error.
func (e *Engine) StopStackContainer(ctx context.Context, id string) error {
	err := e.docker.ContainerStop(ctx, id, container.StopOptions{})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("stop container "+id, err)
}

// RemoveStackContainer stops a container within its own grace and removes it. Its volumes stay. A missing one is no error.
func (e *Engine) RemoveStackContainer(ctx context.Context, id string) error {
	err := e.docker.ContainerStop(ctx, id, container.StopOptions{})
	if err == nil {
		err = e.docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
	}
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("remove container "+id, err)
}

// RenameStackContainer gives a container another name.
func (e *Engine) RenameStackContainer(ctx context.Context, id, name string) error {
	return e.explain("rename container "+id, e.docker.ContainerRename(ctx, id, name))
}

// RemoveStackNetworks removes the networks that Compose made for an app's project. One that something is still connected to
// stays: it is not only the stack's any more.
func (e *Engine) RemoveStackNetworks(ctx context.Context, app, project string) error {
	mine := ofProject(project)
	mine.Add("label", store.LabelData+"="+e.serverID)
	mine.Add("label", store.LabelApp+"="+app)
	found, err := e.docker.NetworkList(ctx, dockernetwork.ListOptions{Filters: mine})
	if err != nil {
		return e.explain("list networks of the stack", err)
	}
	for _, one := range found {
		switch err := e.docker.NetworkRemove(ctx, one.ID); {
		case err == nil || errdefs.IsNotFound(err):
		case errdefs.IsPermissionDenied(err) || errdefs.IsConflict(err): // "has active endpoints"
			e.logger.Warn("network of the stack is still in use", "app", app, "network", one.Name, "error", err)
		default:
			return e.explain("remove network "+one.Name, err)
		}
	}
	return nil
}

// VolumeLabels returns the labels of a volume; false when there is none of this name.
func (e *Engine) VolumeLabels(ctx context.Context, name string) (labels map[string]string, found bool, err error) {
	volume, err := e.docker.VolumeInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, e.explain("inspect volume "+name, err)
	}
	return volume.Labels, true, nil
}

// StackChanges reports that something happened to a container of a Compose project. It closes when the engine tells no more.
func (e *Engine) StackChanges(ctx context.Context, project string) <-chan struct{} {
	filter := ofProject(project)
	filter.Add("type", string(events.ContainerEventType))
	for _, action := range []events.Action{events.ActionStart, events.ActionDie, events.ActionDestroy, events.ActionHealthStatus} {
		filter.Add("event", string(action))
	}
	messages, failed := e.docker.Events(ctx, events.ListOptions{Filters: filter})
	changes := make(chan struct{}, 1)
	e.work.Go(func() {
		defer close(changes)
		for {
			select {
			case <-messages:
				select {
				case changes <- struct{}{}:
				default: // one is waiting to be read
				}
			case <-failed:
				return
			}
		}
	})
	return changes
}

// ConnectStack puts the routed container of a stack on the network that the proxy dials the address on. It gives the
// container no name there: Compose would add the names of its service and container as aliases, which every container on
// the network could then take for its own. It can be repeated.
func (e *Engine) ConnectStack(ctx context.Context, app, id string, address netip.AddrPort) error {
	known, err := e.networkOf(ctx, app, address)
	if err != nil {
		return err
	}
	found, err := e.docker.ContainerInspect(ctx, id)
	if err != nil {
		return e.explain("inspect container "+id, err)
	}
	for _, endpoint := range found.NetworkSettings.Networks {
		if endpoint.NetworkID != known.id {
			continue
		}
		if e.plainEndpoint(endpoint, found.ID, address) {
			return nil
		}
		if err := e.docker.NetworkDisconnect(ctx, known.id, id, true); err != nil {
			return e.explain("disconnect container "+id, err)
		}
	}
	endpoint := &dockernetwork.EndpointSettings{IPAMConfig: fixedAddress(store.ContainerSpec{Address: address})}
	return e.explain("connect container "+id, e.docker.NetworkConnect(ctx, known.id, id, endpoint))
}

// plainEndpoint reports whether an endpoint has the address and no alias but the start of the id, which the engine adds.
func (e *Engine) plainEndpoint(endpoint *dockernetwork.EndpointSettings, id string, address netip.AddrPort) bool {
	own := func(alias string) bool { return len(alias) == 12 && alias == id[:12] }
	if slices.ContainsFunc(endpoint.Aliases, func(alias string) bool { return !own(alias) }) {
		return false
	}
	return address.Addr().IsLoopback() || endpoint.IPAMConfig != nil && endpoint.IPAMConfig.IPv4Address == address.Addr().String()
}
