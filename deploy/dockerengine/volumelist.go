package dockerengine

import (
	"context"
	"slices"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/shipgate/shipgate/store"
)

// Volumes returns the names of the app's volumes, those of a stack included.
func (e *Engine) Volumes(ctx context.Context, app string) (names []string, err error) {
	labels := filters.NewArgs(filters.Arg("label", store.LabelData+"="+e.serverID), filters.Arg("label", store.LabelApp+"="+app))
	found, err := e.docker.VolumeList(ctx, volume.ListOptions{Filters: labels})
	if err != nil {
		return nil, e.explain("list volumes", err)
	}
	for _, one := range found.Volumes {
		names = append(names, one.Name)
	}
	slices.Sort(names)
	return names, nil
}
