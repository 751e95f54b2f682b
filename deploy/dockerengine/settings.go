package dockerengine

import (
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/shipgate/shipgate/store"
)

// settings says to Docker what the spec says. Docker's own init is left out: not every engine has one, and it would
// stand between the process and its exit code.
func (e *Engine) settings(spec store.ContainerSpec, on network, mounted []mount.Mount) (*container.Config, *container.HostConfig, *dockernetwork.NetworkingConfig) {
	labels := e.containerLabels(spec)
	config := &container.Config{Image: spec.Image, Entrypoint: spec.Command, Env: spec.Env, Labels: labels, StopSignal: spec.StopSignal}
	if spec.Role == store.RoleCommand { // the image's own is for what serves
		config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(on.name),
		RestartPolicy: restarts(spec),
		SecurityOpt:   []string{"no-new-privileges"},
		CapDrop:       e.dropped(),
		LogConfig:     container.LogConfig{Type: "local", Config: map[string]string{"max-size": "10m", "max-file": "3"}},
		ExtraHosts:    internalHosts(spec, on),
		Mounts:        mounted,
		Resources:     limits(spec.Resources),
	}
	endpoint := &dockernetwork.EndpointSettings{IPAMConfig: fixedAddress(spec)}
	if spec.Address.Addr().IsLoopback() {
		port := nat.Port(strconv.Itoa(spec.Port) + "/tcp")
		published := nat.PortBinding{HostIP: spec.Address.Addr().String(), HostPort: strconv.Itoa(int(spec.Address.Port()))}
		config.ExposedPorts = nat.PortSet{port: {}}
		host.PortBindings = nat.PortMap{port: {published}}
	}
	endpoints := map[string]*dockernetwork.EndpointSettings{on.name: endpoint}
	return config, host, &dockernetwork.NetworkingConfig{EndpointsConfig: endpoints}
}

// internalHosts lead the names of the apps that the container calls to the bridge, where the proxy listens.
func internalHosts(spec store.ContainerSpec, on network) []string {
	var hosts []string
	for _, app := range spec.Calls {
		hosts = append(hosts, store.InternalName(app)+":"+on.gateway.String())
	}
	return hosts
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
		pids = store.DefaultPIDs
	}
	return container.Resources{
		Memory:     int64(resources.Memory),
		MemorySwap: int64(resources.Memory), // the same: no swap on top
		NanoCPUs:   int64(resources.CPUs * 1e9),
		PidsLimit:  &pids,
	}
}
