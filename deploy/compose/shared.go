package compose

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

// checkShared refuses volumes, networks, configs and secrets that are not the app's own.
func (m *Model) checkShared(file string, at *lines) error {
	if len(m.project.Models) > 0 || len(m.project.Jobs) > 0 {
		return m.problem("%s: models and jobs are not possible here", file).WithHint("leave them out of %s", file)
	}
	for _, shared := range slices.Concat(m.volumes(), m.networks(), m.objects("configs", configs(m.project)), m.objects("secrets", secrets(m.project))) {
		if shared.wrong == "" || m.trusted && !shared.never {
			continue
		}
		return m.deny(file, at, shared.never, shared.wrong, shared.kind, shared.name)
	}
	return nil
}

// shared is a volume, network, config or secret, and what is wrong with it, if anything.
type shared struct {
	kind, name, wrong string
	never             bool
}

func (m *Model) volumes() (all []shared) {
	for _, name := range slices.Sorted(maps.Keys(m.project.Volumes)) {
		v := m.project.Volumes[name]
		all = append(all, shared{kind: "volumes", name: name, wrong: cmp.Or(
			when(bool(v.External), "external"), when(v.Name != "" && v.Name != m.project.Name+"_"+name, "name "+v.Name),
			when(v.Driver != "" && v.Driver != "local", "driver "+v.Driver), when(len(v.DriverOpts) > 0, "driver_opts"),
			when(ours(v.Labels), "labels"))})
	}
	return all
}

func (m *Model) networks() (all []shared) {
	for _, name := range slices.Sorted(maps.Keys(m.project.Networks)) {
		n := m.project.Networks[name]
		if bool(n.External) && m.policy.AllowsNetwork(n.Name) && !m.ourNetwork(n.Name) {
			continue
		}
		all = append(all, shared{kind: "networks", name: name, wrong: cmp.Or(
			when(bool(n.External), "external "+n.Name), when(n.Name != "" && n.Name != m.project.Name+"_"+name, "name "+n.Name),
			when(n.Driver != "" && n.Driver != "bridge", "driver "+n.Driver), when(len(n.DriverOpts) > 0, "driver_opts"),
			when(n.Ipam.Driver != "" || len(n.Ipam.Config) > 0, "ipam"), when(ours(n.Labels), "labels"))})
		if m.ourNetwork(n.Name) {
			all = append(all, shared{kind: "networks", name: name, wrong: n.Name + " is the proxy's", never: true})
		}
	}
	return all
}

// ourNetwork reports whether the containers of all apps are on a network: Compose would make the names of services known there.
func (m *Model) ourNetwork(name string) bool {
	return name == store.NetworkName(m.server) || name == store.OldNetworkName(m.server)
}

func (m *Model) objects(kind string, objects map[string]types.FileObjectConfig) (all []shared) {
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		o := objects[name]
		all = append(all,
			shared{kind: kind, name: name, wrong: when(o.File != "" && !m.inside(o.File), o.File)},
			shared{kind: kind, name: name, wrong: when(bool(o.External) || o.Driver != "" || o.TemplateDriver != "", "external"), never: true})
	}
	return all
}

func configs(project *types.Project) map[string]types.FileObjectConfig {
	objects := map[string]types.FileObjectConfig{}
	for name, config := range project.Configs {
		objects[name] = types.FileObjectConfig(config)
	}
	return objects
}

func secrets(project *types.Project) map[string]types.FileObjectConfig {
	objects := map[string]types.FileObjectConfig{}
	for name, secret := range project.Secrets {
		objects[name] = types.FileObjectConfig(secret)
	}
	return objects
}

func ours(labels types.Labels) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(labels)), store.IsReservedLabel)
}

func when(wrong bool, what string) string {
	if wrong {
		return strings.TrimSpace(what)
	}
	return ""
}
