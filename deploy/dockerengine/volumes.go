package dockerengine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

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
