package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// Forget removes the images and release trees of an app that is no more. Objects of sites stay: others may share them.
func (b *Builder) Forget(ctx context.Context, app string) error {
	if err := store.ValidateAppName(app); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.sites.dir, "releases", app)); err != nil {
		return fmt.Errorf("remove release trees: %w", err)
	}
	labels := filters.NewArgs(filters.Arg("label", store.LabelData+"="+b.serverID), filters.Arg("label", store.LabelApp+"="+app))
	images, err := b.docker.ImageList(ctx, image.ListOptions{Filters: labels})
	if err != nil {
		return b.engineProblem("list images", err)
	}
	for _, one := range images {
		_, err := b.docker.ImageRemove(ctx, one.ID, image.RemoveOptions{Force: true, PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) {
			return b.engineProblem("remove image "+one.ID, err)
		}
	}
	return nil
}
