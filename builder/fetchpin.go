package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

const (
	pinPart     = "/from:"
	pinPatience = time.Minute // for giving a name up, also after the build was cancelled
)

// pinOf is the name that an image which only the engine has gets while a deployment builds from it. It says whose it is:
// the image is not ours and has no label of ours.
func (b *Builder) pinOf(app string, deployment int64) string {
	return fmt.Sprintf("%s%s%s-%d", b.repository(app), pinPart, b.serverID, deployment)
}

// fixLocal names an image that only the engine has by a tag of ours: BuildKit takes no image id, and the reference that
// was asked for can get another meaning at any time.
func (b *Builder) fixLocal(ctx context.Context, request store.BuildRequest, named reference.Named, id string, log func(string)) (fixedImage, error) {
	pin := b.pinOf(request.App, request.Deployment)
	if err := b.docker.ImageTag(ctx, id, pin); err != nil {
		return fixedImage{}, b.engineProblem("hold image "+familiar(named), err)
	}
	log(fmt.Sprintf("image %s is taken from this engine: no registry gave it; it is %s", familiar(named), id))
	return fixedImage{name: pin, release: func() {
		if err := b.releasePin(context.WithoutCancel(ctx), pin, request.App, request.Deployment); err != nil {
			b.logger.WarnContext(ctx, "an image keeps a name of ours until the next collection", "app", request.App, "deployment", request.Deployment, "error", err)
		}
	}}, nil
}

// releasePin takes the name from its image, which stays, even when it has no other name left: to remove an image's last
// name is to remove the image. So the name first moves to an empty image of ours.
func (b *Builder) releasePin(ctx context.Context, pin, app string, deployment int64) error {
	ctx, cancel := context.WithTimeout(ctx, pinPatience)
	defer cancel()
	empty := image.ImportSource{SourceName: "-", Source: bytes.NewReader(make([]byte, 1024))} // the end of a tar archive
	changes := []string{fmt.Sprintf("LABEL %s=%s %s=%s %s=%d", store.LabelData, b.serverID, store.LabelApp, app, store.LabelDeployment, deployment)}
	stream, err := b.docker.ImageImport(ctx, empty, pin, image.ImportOptions{Changes: changes})
	if err != nil {
		return b.engineProblem("move name "+pin, err)
	}
	if err := showPull(stream, func(string) {}); err != nil {
		return fmt.Errorf("move name %s: %w", pin, err)
	}
	if _, err := b.docker.ImageRemove(ctx, pin, image.RemoveOptions{}); err != nil {
		return b.engineProblem("remove name "+pin, err)
	}
	return nil
}

// collectPins gives up the names whose build a crash ended.
func (b *Builder) collectPins(ctx context.Context, keep keeps, dry bool) ([]store.Garbage, error) {
	named := filters.NewArgs(filters.Arg("reference", b.repository("*")+pinPart+b.serverID+"-*"), filters.Arg("reference", "shipgate/*"+pinPart+b.serverID+"-*"))
	images, err := b.docker.ImageList(ctx, image.ListOptions{Filters: named})
	if err != nil {
		return nil, b.engineProblem("list held images", err)
	}
	var found []store.Garbage
	var errs []error
	for _, one := range images {
		for _, tag := range one.RepoTags {
			app, deployment, isOurs := b.pinnedFor(tag)
			if !isOurs || keep(app, deployment) {
				continue
			}
			if !dry {
				if err := b.releasePin(ctx, tag, app, deployment); err != nil {
					errs = append(errs, err)
					continue
				}
			}
			found = append(found, store.Garbage{Kind: "image", App: app, Name: tag})
		}
	}
	return found, errors.Join(errs...)
}

// pinnedFor reads a name that pinOf made, or that it made when images were not yet named after the server.
func (b *Builder) pinnedFor(tag string) (app string, deployment int64, ok bool) {
	repository, number, _ := strings.Cut(tag, pinPart+b.serverID+"-")
	app, legacy := strings.CutPrefix(repository, "shipgate/")
	if !legacy {
		app = strings.TrimPrefix(repository, b.repository(""))
	}
	deployment, err := strconv.ParseInt(number, 10, 64)
	made := b.pinOf(app, deployment)
	if legacy {
		made = "shipgate/" + app + pinPart + b.serverID + "-" + number
	}
	return app, deployment, err == nil && store.ValidateAppName(app) == nil && tag == made
}
