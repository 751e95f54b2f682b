package compose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

// rule is one thing that a service may not ask for.
type rule struct {
	field string
	asks  func(service types.ServiceConfig) (what string, asked bool)
	never bool // not even when the repository is trusted: it is not possible
}

// serviceRules are what could reach the host, other apps or the server. Fields that are harmless are listed by a test.
var serviceRules = []rule{
	{field: "privileged", asks: isSet(func(s types.ServiceConfig) bool { return s.Privileged })},
	{field: "network_mode", asks: outside(func(s types.ServiceConfig) string { return s.NetworkMode }, "none")}, // the engine's own bridge is everybody's
	{field: "pid", asks: outside(func(s types.ServiceConfig) string { return s.Pid })},
	{field: "ipc", asks: outside(func(s types.ServiceConfig) string { return s.Ipc }, "none", "private", "shareable")},
	{field: "uts", asks: outside(func(s types.ServiceConfig) string { return s.Uts })},
	{field: "userns_mode", asks: outside(func(s types.ServiceConfig) string { return s.UserNSMode })},
	{field: "cgroup", asks: outside(func(s types.ServiceConfig) string { return s.Cgroup }, "private")},
	{field: "cgroup_parent", asks: outside(func(s types.ServiceConfig) string { return s.CgroupParent })},
	{field: "runtime", asks: outside(func(s types.ServiceConfig) string { return s.Runtime })},
	{field: "isolation", asks: outside(func(s types.ServiceConfig) string { return s.Isolation })},
	{field: "volume_driver", asks: outside(func(s types.ServiceConfig) string { return s.VolumeDriver })},
	{field: "security_opt", asks: weakened},
	{field: "devices", asks: count(func(s types.ServiceConfig) int { return len(s.Devices) })},
	{field: "device_cgroup_rules", asks: some(func(s types.ServiceConfig) []string { return s.DeviceCgroupRules })},
	{field: "gpus", asks: count(func(s types.ServiceConfig) int { return len(s.Gpus) })},
	{field: "deploy", asks: reserved},
	{field: "logging", asks: logsElsewhere},
	{field: "use_api_socket", asks: isSet(func(s types.ServiceConfig) bool { return s.UseAPISocket })},
	{field: "external_links", asks: some(func(s types.ServiceConfig) []string { return s.ExternalLinks })},
	{field: "volumes_from", asks: foreignVolumes},
	{field: "storage_opt", asks: count(func(s types.ServiceConfig) int { return len(s.StorageOpt) })},
	{field: "oom_score_adj", asks: isSet(func(s types.ServiceConfig) bool { return s.OomScoreAdj < 0 })},
	{field: "oom_kill_disable", asks: isSet(func(s types.ServiceConfig) bool { return s.OomKillDisable })},
	{field: "annotations", asks: count(func(s types.ServiceConfig) int { return len(s.Annotations) })}, // the runtime may obey them, as runc does org.systemd.property
	{field: "sysctls", asks: liesOnNetwork},
	{field: "credential_spec", asks: isSet(func(s types.ServiceConfig) bool { return s.CredentialSpec != nil })},
	{field: "post_start", asks: privilegedHook(func(s types.ServiceConfig) []types.ServiceHook { return s.PostStart })},
	{field: "pre_stop", asks: privilegedHook(func(s types.ServiceConfig) []types.ServiceHook { return s.PreStop })},
	{field: "provider", asks: isSet(func(s types.ServiceConfig) bool { return s.Provider != nil }), never: true},
	{field: "models", asks: count(func(s types.ServiceConfig) int { return len(s.Models) }), never: true},
	{field: "pre_start", asks: count(func(s types.ServiceConfig) int { return len(s.PreStart) }), never: true},
	{field: "log_driver", asks: outside(func(s types.ServiceConfig) string { return s.LogDriver }), never: true},
	{field: "log_opt", asks: count(func(s types.ServiceConfig) int { return len(s.LogOpt) }), never: true},
	{field: "net", asks: outside(func(s types.ServiceConfig) string { return s.Net }), never: true},
	{field: "dockerfile", asks: outside(func(s types.ServiceConfig) string { return s.Dockerfile }), never: true},
}

func isSet(has func(types.ServiceConfig) bool) func(types.ServiceConfig) (string, bool) {
	return func(s types.ServiceConfig) (string, bool) { return "", has(s) }
}

func count(of func(types.ServiceConfig) int) func(types.ServiceConfig) (string, bool) {
	return func(s types.ServiceConfig) (string, bool) { return "", of(s) > 0 }
}

func some(of func(types.ServiceConfig) []string) func(types.ServiceConfig) (string, bool) {
	return func(s types.ServiceConfig) (string, bool) { return strings.Join(of(s), ", "), len(of(s)) > 0 }
}

// outside asks for more than the empty value, another service of the stack, or one of those that are fine.
func outside(of func(types.ServiceConfig) string, fine ...string) func(types.ServiceConfig) (string, bool) {
	return func(s types.ServiceConfig) (string, bool) {
		value := of(s)
		return value, value != "" && !strings.HasPrefix(value, types.ServicePrefix) && !slices.Contains(fine, value)
	}
}

func weakened(s types.ServiceConfig) (string, bool) {
	for _, option := range s.SecurityOpt {
		if plain := strings.ReplaceAll(option, "=", ":"); plain != "no-new-privileges:true" && plain != "no-new-privileges" {
			return option, true
		}
	}
	return "", false
}

func reserved(s types.ServiceConfig) (string, bool) {
	if s.Deploy == nil {
		return "", false
	}
	for _, resource := range []*types.Resource{s.Deploy.Resources.Reservations, s.Deploy.Resources.Limits} {
		if resource != nil && len(resource.Devices) > 0 {
			return "resources with devices", true
		}
	}
	return "", false
}

// logsElsewhere asks for a driver that the engine has send lines over the host's own network, or read its files.
func logsElsewhere(s types.ServiceConfig) (string, bool) {
	if s.Logging == nil {
		return "", false
	}
	return s.Logging.Driver, !slices.Contains([]string{"", "local", "json-file", "none"}, s.Logging.Driver)
}

// harmlessSysctls begin the network settings that concern a container's own sockets. Others make it answer for the addresses of
// its neighbours, as proxy_arp_pvlan does, or talk to them by IPv6.
var harmlessSysctls = []string{
	"net.core.somaxconn", "net.ipv4.tcp_", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.unix.",
}

func liesOnNetwork(s types.ServiceConfig) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		plain := strings.ReplaceAll(name, "/", ".")
		harmless := func(prefix string) bool { return strings.HasPrefix(plain, prefix) }
		if strings.HasPrefix(plain, "net.") && !slices.ContainsFunc(harmlessSysctls, harmless) {
			return name, true
		}
	}
	return "", false
}

func foreignVolumes(s types.ServiceConfig) (string, bool) {
	for _, from := range s.VolumesFrom {
		if strings.HasPrefix(from, types.ContainerPrefix) {
			return from, true
		}
	}
	return "", false
}

func privilegedHook(of func(types.ServiceConfig) []types.ServiceHook) func(types.ServiceConfig) (string, bool) {
	return func(s types.ServiceConfig) (string, bool) {
		return "privileged", slices.ContainsFunc(of(s), func(h types.ServiceHook) bool { return h.Privileged })
	}
}

// check refuses what the stack may not ask for, each with its place.
func (m *Model) check(file string, at *lines) error {
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		service := m.project.Services[name]
		for _, rule := range serviceRules {
			what, asked := rule.asks(service)
			if !asked || m.trusted && !rule.never {
				continue
			}
			if err := m.deny(file, at, rule.never, what, "services", name, rule.field); err != nil {
				return err
			}
		}
		if field, what := m.checkService(name, service); field != "" && !m.trusted {
			return m.deny(file, at, false, what, "services", name, field)
		}
		if field, what := m.impossible(name, service); field != "" {
			return m.deny(file, at, true, what, "services", name, field)
		}
	}
	if err := m.checkScale(); err != nil {
		return err
	}
	return m.checkShared(file, at)
}

// deny says what is refused: service, field, what it says, and where.
func (m *Model) deny(file string, at *lines, never bool, what string, path ...string) error {
	kind, name, field := strings.TrimSuffix(path[0], "s"), path[1], ""
	if len(path) > 2 {
		field = ": " + path[2]
	}
	if what != "" {
		what = fmt.Sprintf(" (%s)", what)
	}
	place := file
	if line := at.of(path...); line > 0 {
		place = fmt.Sprintf("%s:%d", file, line)
	}
	if never {
		return m.problem("%s: %s %s%s%s is not possible here", place, kind, name, field, what).
			WithHint("leave it out of %s", file)
	}
	return m.refused("%s: %s %s%s%s is refused: it reaches beyond the app", place, kind, name, field, what)
}

// checkService looks at what depends on the rest of the stack. It gives the field that is refused, and why.
func (m *Model) checkService(name string, service types.ServiceConfig) (field, what string) {
	if what := m.mayAdd(service); what != "" {
		return "cap_add", what
	}
	if name != m.routed && len(service.Ports) > 0 {
		return "ports", cmp.Or(service.Ports[0].Published, "any") + " on the host"
	}
	for _, volume := range service.Volumes {
		switch {
		case volume.Type == types.VolumeTypeBind && !m.inside(volume.Source):
			return "volumes", volume.Source
		case volume.Type == types.VolumeTypeBind && volume.Bind != nil && volume.Bind.Propagation != "" && volume.Bind.Propagation != types.PropagationRPrivate:
			return "volumes", "propagation " + volume.Bind.Propagation
		case volume.Type == types.VolumeTypeNamedPipe || volume.Type == types.VolumeTypeCluster || volume.Type == types.VolumeTypeImage:
			return "volumes", volume.Type
		}
	}
	for _, joined := range service.Networks {
		if joined != nil && len(joined.DriverOpts) > 0 {
			return "networks", "driver_opts"
		}
	}
	for _, env := range service.EnvFiles {
		if !m.inside(env.Path) {
			return "env_file", env.Path
		}
	}
	for _, path := range service.LabelFiles {
		if !m.inside(path) {
			return "label_file", path
		}
	}
	return "", ""
}

// impossible gives the field that no trust makes possible.
func (m *Model) impossible(name string, service types.ServiceConfig) (field, what string) {
	if name == m.routed && service.NetworkMode != "" {
		return "network_mode", service.NetworkMode + ": the proxy could not reach it"
	}
	if name == m.routed && service.GetScale() != 1 {
		return "scale", fmt.Sprintf("%d: the service that gets the requests runs once", service.GetScale())
	}
	for _, volume := range service.Volumes {
		if what := m.inAnother(volume); what != "" {
			return "volumes", what
		}
	}
	if service.Build != nil {
		return m.impossibleBuild(service.Build)
	}
	return "", ""
}

// inAnother says which folder of the app's own this one lies in: what a service has in the outer one could be put in the
// place of the inner one.
func (m *Model) inAnother(volume types.ServiceVolumeConfig) string {
	if !m.owned(volume) {
		return ""
	}
	name := m.short(volume.Source)
	if first, _, _ := strings.Cut(name, "/"); first == contentFolder {
		return name + ": the name is taken"
	}
	for _, service := range m.project.Services {
		for _, other := range service.Volumes {
			if outer := m.short(other.Source); m.owned(other) && strings.HasPrefix(name, outer+"/") {
				return name + " is inside of " + outer
			}
		}
	}
	return ""
}

func (m *Model) impossibleBuild(b *types.BuildConfig) (field, what string) {
	for _, unsupported := range []struct {
		field string
		set   bool
	}{
		{"additional_contexts", len(b.AdditionalContexts) > 0}, {"entitlements", len(b.Entitlements) > 0},
		{"extra_hosts", len(b.ExtraHosts) > 0}, {"isolation", b.Isolation != ""}, {"network", b.Network != ""},
		{"platforms", len(b.Platforms) > 0}, {"privileged", b.Privileged}, {"secrets", len(b.Secrets) > 0},
		{"shm_size", b.ShmSize != 0}, {"ssh", len(b.SSH) > 0}, {"ulimits", len(b.Ulimits) > 0},
		{"no_cache_filter", len(b.NoCacheFilter) > 0},
	} {
		if unsupported.set {
			return "build", unsupported.field
		}
	}
	if !m.inside(b.Context) {
		return "build", "context " + b.Context + ": outside of the repository"
	}
	return "", ""
}

// checkLabels refuses labels that tell our containers and volumes apart, and Compose its own: a stack that set them could pass
// for another.
func (m *Model) checkLabels() error {
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		service := m.project.Services[name]
		all := slices.Collect(maps.Keys(service.Labels))
		for _, volume := range service.Volumes {
			if volume.Volume != nil {
				all = slices.AppendSeq(all, maps.Keys(volume.Volume.Labels))
			}
		}
		slices.Sort(all)
		if at := slices.IndexFunc(all, store.IsReservedLabel); at >= 0 {
			return m.problem("service %s: label %s is not the stack's to set", name, all[at]).WithHint("leave the label out")
		}
	}
	return nil
}
