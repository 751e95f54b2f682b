package dockerengine

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/go-connections/nat"

	"github.com/shipgate/shipgate/store"
)

// defaultPIDs stops a fork bomb and is more than a web app uses.
const defaultPIDs = 512

// settings says to Docker what the spec says. Docker's own init is left out: not every engine has one, and it would
// stand between the process and its exit code.
func (e *Engine) settings(spec store.ContainerSpec) (*container.Config, *container.HostConfig, *dockernetwork.NetworkingConfig) {
	labels := deploymentLabels(spec)
	maps.Copy(labels, e.labels(spec.App))
	config := &container.Config{Image: spec.Image, Entrypoint: spec.Command, Env: spec.Env, Labels: labels, StopSignal: spec.StopSignal}
	if spec.Role == store.RoleCommand { // the image's own is for what serves
		config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(e.networkName()),
		RestartPolicy: restarts(spec),
		SecurityOpt:   []string{"no-new-privileges"},
		LogConfig:     container.LogConfig{Type: "local", Config: map[string]string{"max-size": "10m", "max-file": "3"}},
		Mounts:        mounts(spec),
		Resources:     limits(spec.Resources),
	}
	endpoint := &dockernetwork.EndpointSettings{IPAMConfig: fixedAddress(spec)}
	if spec.Address.Addr().IsLoopback() {
		port := nat.Port(strconv.Itoa(spec.Port) + "/tcp")
		published := nat.PortBinding{HostIP: spec.Address.Addr().String(), HostPort: strconv.Itoa(int(spec.Address.Port()))}
		config.ExposedPorts = nat.PortSet{port: {}}
		host.PortBindings = nat.PortMap{port: {published}}
	}
	endpoints := map[string]*dockernetwork.EndpointSettings{e.networkName(): endpoint}
	return config, host, &dockernetwork.NetworkingConfig{EndpointsConfig: endpoints}
}

func restarts(spec store.ContainerSpec) container.RestartPolicy {
	if spec.KeepRunning {
		return container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	}
	return container.RestartPolicy{Name: container.RestartPolicyDisabled}
}

// fixedAddress is nil where the engine is to choose.
func fixedAddress(spec store.ContainerSpec) *dockernetwork.EndpointIPAMConfig {
	if !spec.Address.IsValid() || spec.Address.Addr().IsLoopback() {
		return nil
	}
	return &dockernetwork.EndpointIPAMConfig{IPv4Address: spec.Address.Addr().String()}
}

func deploymentLabels(spec store.ContainerSpec) map[string]string {
	labels := map[string]string{store.LabelApp: spec.App, store.LabelDeployment: strconv.FormatInt(spec.Deployment, 10)}
	if spec.Role != store.RoleServe {
		labels[store.LabelRole] = string(spec.Role)
	}
	return labels
}

func limits(resources store.Resources) container.Resources {
	pids := resources.PIDs
	if pids == 0 {
		pids = defaultPIDs
	}
	return container.Resources{
		Memory:     int64(resources.Memory),
		MemorySwap: int64(resources.Memory), // the same: no swap on top
		NanoCPUs:   int64(resources.CPUs * 1e9),
		PidsLimit:  &pids,
	}
}

func mounts(spec store.ContainerSpec) []mount.Mount {
	mounted := make([]mount.Mount, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		mounted = append(mounted, mount.Mount{
			Type: mount.TypeVolume, Source: volumeName(spec.App, v), Target: v.Path, ReadOnly: v.ReadOnly,
		})
	}
	return mounted
}

func volumeName(app string, v store.Volume) string { return fmt.Sprintf("shipgate-%s-%s", app, v.Name) }

// ensureVolume creates the volume when it is missing. It outlives all containers of the app.
func (e *Engine) ensureVolume(ctx context.Context, app string, v store.Volume) error {
	name := volumeName(app, v)
	existing, err := e.docker.VolumeInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		// Docker gives back the existing volume when another call was faster.
		existing, err = e.docker.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: e.labels(app)})
	}
	if err != nil {
		return e.explain("create volume "+name, err)
	}
	if !e.ours(existing.Labels) {
		return store.Problemf(store.CodeErrored, "volume %s is not one of this server's; it was left alone", name).
			WithHint("docker volume inspect %s", name)
	}
	return nil
}
