package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shipgate/shipgate/store"
)

// Present says whether what a release is made of is still there, all of it.
func (b *Builder) Present(ctx context.Context, artefact store.Artefact) (bool, error) {
	switch {
	case artefact.Stack != "":
		return b.stackPresent(ctx, artefact.Stack)
	case artefact.Site != "":
		return b.sitePresent(artefact.Site)
	}
	return b.ImagePresent(ctx, artefact.Image)
}

func (b *Builder) sitePresent(site string) (bool, error) {
	_, err := os.Stat(filepath.Join(b.sites.dir, filepath.FromSlash(site), "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for site %s: %w", site, err)
	}
	return true, nil
}

// ImagePresent says whether the engine still has the image of a release.
func (b *Builder) ImagePresent(ctx context.Context, image string) (bool, error) {
	_, err := b.docker.ImageInspect(ctx, image)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, b.engineProblem("look for image "+image, err)
	}
	return true, nil
}

// ImageVolumes returns the paths of an image's VOLUME lines, one a line, as an Artefact has them. Releases that earlier versions made do
// not. An image that is gone has none.
func (b *Builder) ImageVolumes(ctx context.Context, image string) (string, error) {
	found, err := b.docker.ImageInspect(ctx, image)
	if errdefs.IsNotFound(err) || err == nil && found.Config == nil {
		return "", nil
	}
	if err != nil {
		return "", b.engineProblem("look at image "+image, err)
	}
	return strings.Join(slices.Sorted(maps.Keys(found.Config.Volumes)), "\n"), nil
}
