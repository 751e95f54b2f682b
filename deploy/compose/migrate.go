package compose

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

// keepVolumes has the stack go on with the volumes that an earlier server made under the app's old project, and refuses
// those that are not the app's.
func (r *rendering) keepVolumes(ctx context.Context, engine Engine) error {
	for _, key := range slices.Sorted(maps.Keys(r.project.Volumes)) {
		volume := r.project.Volumes[key]
		if volume.External || volume.Name != "" && volume.Name != r.project.Name+"_"+key {
			continue // only where the operator trusts the repository
		}
		old := store.OldProjectName(r.app) + "_" + key
		labels, found, err := engine.VolumeLabels(ctx, old)
		if err != nil {
			return err
		}
		if found && r.ownLabels(labels) && labels[store.LabelComposeProject] == store.OldProjectName(r.app) {
			r.project.Volumes[key] = types.VolumeConfig{Name: old, External: true}
			continue
		}
		name := r.project.Name + "_" + key
		if labels, found, err = engine.VolumeLabels(ctx, name); err != nil {
			return err
		}
		if found && !r.ownLabels(labels) {
			return store.Problemf(store.CodeErrored, "volume %s is not one of this server's; it was left alone", name).
				WithHint("docker volume inspect %s", name)
		}
	}
	return nil
}

func (r *rendering) ownLabels(labels map[string]string) bool {
	return labels[store.LabelData] == r.server && labels[store.LabelApp] == r.app
}

// keepAnonymous has a service go on with the volumes without a name that its container of the old project has: within a
// project Compose hands them on by itself.
func (r *rendering) keepAnonymous(old []store.StackContainer) {
	for _, c := range old {
		service, known := r.project.Services[c.Service()]
		if !known {
			continue
		}
		for _, path := range slices.Sorted(maps.Keys(c.Volumes)) {
			name := c.Volumes[path]
			at := slices.IndexFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == path })
			if !anonymous(name) || at >= 0 && service.Volumes[at].Source != "" {
				continue
			}
			mount := types.ServiceVolumeConfig{Type: types.VolumeTypeVolume, Source: name, Target: path}
			if at >= 0 {
				service.Volumes[at] = mount
			} else {
				service.Volumes = append(service.Volumes, mount)
			}
			if r.project.Volumes == nil {
				r.project.Volumes = types.Volumes{}
			}
			r.project.Volumes[name] = types.VolumeConfig{Name: name, External: true}
		}
		r.project.Services[c.Service()] = service
	}
}

// anonymous reports whether the engine made the name up.
func anonymous(volume string) bool {
	return len(volume) == 64 && strings.Trim(volume, "0123456789abcdef") == ""
}

// makeRoom renames a container of the old project that has the name of the new routed container: a live deployment of an
// earlier server that is brought up again keeps its name. The other name is one that ownsOld knows.
func (s *Stacks) makeRoom(ctx context.Context, spec store.StackSpec, old []store.StackContainer) error {
	for _, c := range old {
		if c.Name == spec.Container {
			return s.options.Engine.RenameStackContainer(ctx, c.ID, c.ID[:12]+"_"+c.Name)
		}
	}
	return nil
}

// retireOld takes the old project down once the containers of the new one exist. Until then they serve.
func (s *Stacks) retireOld(ctx context.Context, app string, old []store.StackContainer, log func(string)) error {
	if len(old) == 0 {
		return nil
	}
	log(fmt.Sprintf("project %s becomes %s; volumes stay", store.OldProjectName(app), s.projectName(app)))
	if err := s.remove(ctx, old); err != nil {
		return err
	}
	return s.options.Engine.RemoveStackNetworks(ctx, app, store.OldProjectName(app))
}
