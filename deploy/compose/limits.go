package compose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

const (
	mostContainers = 20   // that one stack may have
	defaultPIDs    = 4096 // of each container where neither the app's config nor the compose file says less
)

// dropped are capabilities that the engine gives by default and that let a container lie on a network, make devices or write
// into the host's audit log.
var dropped = []string{"NET_RAW", "MKNOD", "AUDIT_WRITE"}

// checkScale bounds how many containers the stack has.
func (m *Model) checkScale() error {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		service := m.project.Services[name]
		scale := service.GetScale()
		if scale < 0 || scale > mostContainers {
			return m.problem("service %s: scale %d is out of range: a stack has at most %d containers", name, scale, mostContainers)
		}
		total += scale
	}
	if total > mostContainers {
		return m.problem("the stack has %d containers, and may have %d", total, mostContainers)
	}
	return nil
}

// limit gives a service the limits of the app's config, each container for itself. The compose file may say less, not more.
func (m *Model) limit(service *types.ServiceConfig) {
	ceiling := m.config.Resources
	limits := &types.Resource{}
	if service.Deploy == nil {
		service.Deploy = &types.DeployConfig{}
	}
	deploy := *service.Deploy
	if deploy.Resources.Limits != nil {
		copied := *deploy.Resources.Limits
		limits = &copied
	}
	deploy.Resources.Limits = limits
	service.Deploy = &deploy

	limits.Pids = least(least(limits.Pids, service.PidsLimit), cmp.Or(ceiling.PIDs, defaultPIDs))
	service.PidsLimit = 0
	if ceiling.Memory > 0 {
		limits.MemoryBytes = least(least(limits.MemoryBytes, service.MemLimit), types.UnitBytes(ceiling.Memory))
		service.MemLimit, service.MemReservation = 0, 0
		service.MemSwapLimit = limits.MemoryBytes // the same: no swap on top
		if deploy.Resources.Reservations != nil {
			reserved := *deploy.Resources.Reservations
			reserved.MemoryBytes = 0
			service.Deploy.Resources.Reservations = &reserved
		}
	}
	if ceiling.CPUs > 0 {
		quota := float32(0)
		if service.CPUQuota > 0 {
			quota = float32(service.CPUQuota) / float32(cmp.Or(service.CPUPeriod, 100_000))
		}
		said := least(least(float32(limits.NanoCPUs), service.CPUS), quota)
		limits.NanoCPUs = types.NanoCPUs(least(said, float32(ceiling.CPUs)))
		service.CPUS, service.CPUQuota, service.CPUPeriod, service.CPUCount, service.CPUPercent = 0, 0, 0, 0, 0
	}
}

// least returns the smaller of two limits, of which 0 and less is none.
func least[N int64 | types.UnitBytes | float32](a, b N) N {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}

// drop takes away what no container of ours has, unless the operator lets apps have it or the file asks for it and may.
func (m *Model) drop(service *types.ServiceConfig) {
	if service.Privileged {
		return // only where the operator trusts the repository; the engine gives it all
	}
	added := map[string]bool{}
	for _, name := range service.CapAdd {
		added[store.NormalizeCapability(name)] = true
	}
	for _, name := range dropped {
		if !added[name] && !added["ALL"] && !m.policy.AllowsCapability(name) && !slices.Contains(service.CapDrop, name) {
			service.CapDrop = append(service.CapDrop, name)
		}
	}
}

// mayAdd refuses capabilities that the operator does not let apps have.
func (m *Model) mayAdd(service types.ServiceConfig) (what string) {
	for _, name := range service.CapAdd {
		if !m.policy.AllowsCapability(name) {
			return fmt.Sprint(name)
		}
	}
	return ""
}
