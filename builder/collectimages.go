package builder

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// builtImage is what one tag of ours names.
type builtImage struct {
	app        string
	deployment int64
}

// collectImages removes the tags of deployments that are not kept, and with an image's last tag the image. Images without a tag of
// ours stay, whatever labels they have: who builds FROM an image of ours inherits these.
func (b *Builder) collectImages(ctx context.Context, keep keeps, dry bool) ([]store.Garbage, error) {
	labelled := filters.NewArgs(filters.Arg("label", store.LabelData+"="+b.serverID))
	images, err := b.docker.ImageList(ctx, image.ListOptions{Filters: labelled})
	if err != nil {
		return nil, b.engineProblem("list images", err)
	}
	containers, err := b.docker.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, b.engineProblem("list containers", err)
	}
	used := map[string]bool{}
	for _, one := range containers {
		used[one.ImageID] = true
	}
	var found []store.Garbage
	var errs []error
	for _, one := range images {
		built, tags := b.ourTags(one)
		if len(tags) == 0 || keep(built.app, built.deployment) || used[one.ID] {
			continue
		}
		garbage, err := b.collectImage(ctx, one, built, tags, dry)
		errs = append(errs, err)
		if garbage.Name != "" {
			found = append(found, garbage)
		}
	}
	return found, errors.Join(errs...)
}

// ourTags lists the tags that the build gave which the image's labels name.
func (b *Builder) ourTags(one image.Summary) (builtImage, []string) {
	deployment, err := strconv.ParseInt(one.Labels[store.LabelDeployment], 10, 64)
	built := builtImage{one.Labels[store.LabelApp], deployment}
	if err != nil || store.ValidateAppName(built.app) != nil || one.Labels[store.LabelData] != b.serverID {
		return builtImage{}, nil
	}
	var tags []string
	for _, tag := range one.RepoTags {
		repository, isOurs := strings.CutSuffix(tag, ":"+strconv.FormatInt(deployment, 10))
		if isOurs && b.isOwnName(built.app, repository) {
			tags = append(tags, tag)
		}
	}
	return built, tags
}

// collectImage takes our tags away; with the last tag the engine removes the image. Nothing is forced: what has a foreign name, or came
// into use meanwhile, stays.
func (b *Builder) collectImage(ctx context.Context, one image.Summary, built builtImage, tags []string, dry bool) (store.Garbage, error) {
	garbage := store.Garbage{Kind: "image", App: built.app, Name: tags[0]}
	if len(tags) == len(one.RepoTags) {
		garbage.Bytes = one.Size // at most: other images may share its layers
	}
	if dry {
		return garbage, nil
	}
	for _, name := range tags {
		_, err := b.docker.ImageRemove(ctx, name, image.RemoveOptions{})
		if errdefs.IsConflict(err) {
			return store.Garbage{}, nil
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return store.Garbage{}, b.engineProblem("remove image "+name, err)
		}
	}
	return garbage, nil
}
