package compose

import (
	"context"
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

// foreign starts a container that has labels as if by inheritance, and a name of the engine's choice.
func (l *lab) foreign(t *testing.T, labels map[string]string) (id string) {
	t.Helper()
	made, err := l.docker.ContainerCreate(t.Context(), &container.Config{Image: l.image, Labels: labels}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.removeForeign(t, made.ID) })
	if err := l.docker.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func (l *lab) removeForeign(t *testing.T, id string) {
	err := l.docker.ContainerRemove(context.WithoutCancel(t.Context()), id, container.RemoveOptions{Force: true})
	t.Log("remove the foreign container: ", err)
}

func (l *lab) stillRuns(t *testing.T, id string) {
	t.Helper()
	if found, err := l.docker.ContainerInspect(t.Context(), id); err != nil || !found.State.Running {
		t.Errorf("the foreign container was not left alone: %v", err)
	}
}

// routedNetwork returns the name of the network that the proxy dials containers on.
func (l *lab) routedNetwork(t *testing.T) string {
	t.Helper()
	name, err := l.engine.Network(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func (l *lab) connectAs(t *testing.T, on, id, alias string, address netip.AddrPort) {
	t.Helper()
	endpoint := &network.EndpointSettings{Aliases: []string{alias}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: address.Addr().String()}}
	if err := l.docker.NetworkConnect(t.Context(), on, id, endpoint); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) makeVolume(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	if _, err := l.docker.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: labels}); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) addressWithPort(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(l.address(t).Addr(), port)
}

// oldProject brings a stack up exactly as servers up to 47a093d did: the model that they rendered, by the plugin.
func (l *lab) oldProject(t *testing.T, app string, deployment string, address netip.AddrPort) {
	t.Helper()
	network := l.routedNetwork(t)
	labels := `"` + store.LabelApp + `": "` + app + `", "` + store.LabelData + `": "` + l.server + `", "` + store.LabelRole + `": "stack"`
	logging := `"logging": {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}}, "security_opt": ["no-new-privileges:true"]`
	model := `{"name": "shipgate-` + app + `",
		"networks": {"default": {"name": "shipgate-` + app + `_default", "labels": {` + labels + `}},
			"dev.shipgate.proxy": {"name": "` + network + `", "external": true}},
		"volumes": {"data": {"name": "shipgate-` + app + `_data", "labels": {` + labels + `}}},
		"services": {
			"web": {"image": "` + l.image + `", "container_name": "` + app + "-" + deployment + `", "environment": {"PORT": "8080", "APP_VERSION": "old"},
				"depends_on": {"db": {"condition": "service_started", "required": true}},
				"labels": {` + labels + `, "` + store.LabelDeployment + `": "` + deployment + `"}, ` + logging + `,
				"networks": {"default": null, "dev.shipgate.proxy": {"ipv4_address": "` + address.Addr().String() + `"}}},
			"db": {"image": "` + l.image + `", "environment": {"PORT": "5432"}, "labels": {` + labels + `}, ` + logging + `,
				"networks": {"default": null}, "volumes": [{"type": "volume", "source": "data", "target": "/data"}, {"type": "volume", "target": "/unnamed"}]}}}`
	found, err := l.findPlugin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log := &tail{}
	err = found.run(t.Context(), []byte(model), log.add, "-p", store.OldProjectName(app), "--env-file", "/dev/null", "-f", "-", "up", "--no-build", "--pull", "never",
		"--detach", "--wait")
	if err != nil {
		t.Fatalf("%v: %v", err, log.lines)
	}
}
