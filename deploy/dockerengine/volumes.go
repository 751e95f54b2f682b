package dockerengine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

// mounts makes sure of the app's volumes and returns how they are mounted.
func (e *Engine) mounts(ctx context.Context, spec store.ContainerSpec) ([]mount.Mount, error) {
	mounted := make([]mount.Mount, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		name, err := e.ensureVolume(ctx, spec.App, v.Name)
		if err != nil {
			return nil, err
		}
		mounted = append(mounted, mount.Mount{Type: mount.TypeVolume, Source: name, Target: v.Path, ReadOnly: v.ReadOnly})
	}
	return mounted, nil
}

// ensureVolume returns the name of an app's volume, which outlives all its containers. One that an earlier server made for
// this app goes on being used; under its name another app's may be found.
func (e *Engine) ensureVolume(ctx context.Context, app, called string) (string, error) {
	old := store.OldVolumeName(app, called)
	existing, err := e.docker.VolumeInspect(ctx, old)
	switch {
	case err == nil && e.ofApp(existing.Labels, app):
		return old, nil
	case err != nil && !errdefs.IsNotFound(err):
		return "", e.explain("inspect volume "+old, err)
	}
	name := store.VolumeName(e.serverID, app, called)
	existing, err = e.docker.VolumeInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		// Docker gives back the existing volume when another call was faster.
		existing, err = e.docker.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: e.labels(app)})
	}
	if err != nil {
		return "", e.explain("create volume "+name, err)
	}
	if !e.ofApp(existing.Labels, app) {
		return "", store.Problemf(store.CodeErrored, "volume %s is not one of app %s on this server; it was left alone", name, app).
			WithHint("docker volume inspect %s", name)
	}
	return name, nil
}

// RemoveVolumes removes the app's volumes and what is in them. Its containers must be gone.
func (e *Engine) RemoveVolumes(ctx context.Context, app string) error {
	labels := filters.NewArgs(filters.Arg("label", store.LabelData+"="+e.serverID), filters.Arg("label", store.LabelApp+"="+app))
	found, err := e.docker.VolumeList(ctx, volume.ListOptions{Filters: labels})
	if err != nil {
		return e.explain("list volumes", err)
	}
	for _, one := range found.Volumes {
		if err := e.docker.VolumeRemove(ctx, one.Name, false); err != nil && !errdefs.IsNotFound(err) {
			return e.explain("remove volume "+one.Name, err)
		}
	}
	return nil
}
