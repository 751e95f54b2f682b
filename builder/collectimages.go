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

func (b *Builder) ourImages() filters.Args {
	return filters.NewArgs(filters.Arg("label", store.LabelData+"="+b.serverID))
}

// collectImages removes images of ours that are not kept and that no container has, those without a tag among them.
func (b *Builder) collectImages(ctx context.Context, keep keeps, dry bool) ([]store.Garbage, error) {
	images, err := b.docker.ImageList(ctx, image.ListOptions{Filters: b.ourImages()})
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
		app, deployment, err := builtFor(one)
		if err != nil || keep(app, deployment) || used[one.ID] {
			continue
		}
		garbage, err := b.collectImage(ctx, one, app, deployment, dry)
		errs = append(errs, err)
		if garbage.Name != "" {
			found = append(found, garbage)
		}
	}
	return found, errors.Join(errs...)
}

// builtFor reads the labels of an image; one that no deployment built is an error.
func builtFor(one image.Summary) (app string, deployment int64, err error) {
	deployment, err = strconv.ParseInt(one.Labels[store.LabelDeployment], 10, 64)
	return one.Labels[store.LabelApp], deployment, err
}

// collectImage takes our tags away; with the last tag the engine removes the image. Nothing is forced: what has a
// foreign name, or came into use meanwhile, stays.
func (b *Builder) collectImage(ctx context.Context, one image.Summary, app string, deployment int64, dry bool) (store.Garbage, error) {
	ours, foreign := sortTags(one, app, deployment)
	names := ours
	if len(ours) == 0 {
		if foreign {
			return store.Garbage{}, nil
		}
		names = []string{one.ID}
	}
	garbage := store.Garbage{Kind: "image", App: app, Name: names[0]}
	if !foreign {
		garbage.Bytes = one.Size // at most: other images may share its layers
	}
	if dry {
		return garbage, nil
	}
	for _, name := range names {
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

// sortTags lists the tags that a build of the deployment gives, and says whether the image has another name.
func sortTags(one image.Summary, app string, deployment int64) (ours []string, foreign bool) {
	suffix := ":" + strconv.FormatInt(deployment, 10)
	repositories := map[string]bool{"<none>": true}
	for _, tag := range one.RepoTags {
		if tag == "<none>:<none>" {
			continue
		}
		repository, isOurs := strings.CutSuffix(tag, suffix)
		if isOurs && (repository == "shipgate/"+app || strings.HasPrefix(repository, "shipgate/"+app+"/")) {
			ours = append(ours, tag)
			repositories[repository] = true
			continue
		}
		foreign = true
	}
	for _, digest := range one.RepoDigests {
		repository, _, _ := strings.Cut(digest, "@")
		foreign = foreign || !repositories[repository]
	}
	return ours, foreign
}
