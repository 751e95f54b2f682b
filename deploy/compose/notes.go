package compose

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
)

// note says what is done otherwise than the file says.
func (m *Model) note() {
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		service := m.project.Services[name]
		if service.ContainerName != "" {
			m.notes = append(m.notes, fmt.Sprintf("service %s: container_name %s is left out; containers are named by deployment", name, service.ContainerName))
		}
		if name == m.routed {
			if service.Hostname != "" {
				m.notes = append(m.notes, fmt.Sprintf("service %s: hostname %s is left out; it would be a name on the network of all apps", name, service.Hostname))
			}
			for _, port := range service.Ports {
				m.notes = append(m.notes, fmt.Sprintf("service %s: port %d is not published; the proxy reaches it inside", name, port.Target))
			}
		}
		for _, volume := range service.Volumes {
			if m.ofCommit(volume) && !volume.ReadOnly {
				m.notes = append(m.notes, fmt.Sprintf("service %s: %s is of the commit and mounted read-only", name, m.short(volume.Source)))
			}
		}
	}
}

// owned says whether a mount is a folder of the app's own, which stays from one deployment to the next.
func (m *Model) owned(volume types.ServiceVolumeConfig) bool {
	return volume.Type == types.VolumeTypeBind && m.inside(volume.Source) && !m.ofCommit(volume)
}

// ofCommit says that a bind mounts what the commit has.
func (m *Model) ofCommit(volume types.ServiceVolumeConfig) bool {
	if volume.Type != types.VolumeTypeBind || !m.inside(volume.Source) {
		return false
	}
	_, err := os.Lstat(volume.Source)
	return err == nil
}
