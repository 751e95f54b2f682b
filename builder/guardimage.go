package builder

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// checkImage decides whether an app may use an image. The reference is a normalized one. The image as the engine has it is
// returned, or nil where the engine would have to pull it.
func (b *Builder) checkImage(ctx context.Context, app string, named reference.Named) (*image.InspectResponse, error) {
	inspected, err := b.docker.ImageInspect(ctx, named.String())
	local := err == nil
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, b.engineProblem("look for image "+familiar(named), err)
	}
	if local {
		own, err := b.checkLabels(app, named, labelsOf(&inspected))
		if err != nil {
			return nil, err
		}
		if own || b.policy.AllowsImage(named.String()) {
			return &inspected, nil
		}
	}
	if owner, ours := ownerOf(named); ours && (local || !b.isOwnName(app, reference.FamiliarName(named))) {
		return nil, foreignImage(named, "is of app "+owner+" of shipgate")
	}
	if err := b.checkRegistry(ctx, app, named); err != nil {
		return nil, err
	}
	if !local {
		return nil, nil
	}
	if !b.fromRegistry(ctx, app, named, &inspected) {
		return nil, store.Problemf(store.CodeFailed, "image %s is one that only this engine has, and the operator does not allow it", familiar(named)).
			WithHint("push it to a registry, or have the operator run: shipgate serve --allow-image '%s'", reference.FamiliarName(named))
	}
	return &inspected, nil
}

// ourNamespace is what names of images that servers of shipgate make begin with.
var ourNamespace = regexp.MustCompile(`^shipgate(-[0-9a-z-]{8})?$`)

// ownerOf returns the app that an image's name says it is of; false for names that shipgate does not make.
func ownerOf(named reference.Named) (app string, ours bool) {
	server, rest, nested := strings.Cut(reference.Path(named), "/")
	if reference.Domain(named) != "docker.io" || !nested || !ourNamespace.MatchString(server) {
		return "", false
	}
	app, _, _ = strings.Cut(rest, "/")
	return app, true
}

// isOwnName reports whether builds of the app may have made an image's name. Before images were named after the server as
// well, they were called shipgate/APP.
func (b *Builder) isOwnName(app, name string) bool {
	name += "/"
	return strings.HasPrefix(name, b.repository(app)+"/") || strings.HasPrefix(name, "shipgate/"+app+"/")
}

func foreignImage(named reference.Named, reason string) error {
	return store.Problemf(store.CodeFailed, "image %s %s: an app uses its own images only", familiar(named), reason).
		WithHint("push it to a registry under another name, and name it there")
}

// checkLabels refuses reserved labels, and reports whether the image is one that this server built for the app.
func (b *Builder) checkLabels(app string, named reference.Named, labels map[string]string) (own bool, err error) {
	own = labels[store.LabelApp] == app && labels[store.LabelData] == b.serverID
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case !store.IsReservedLabel(name), own && strings.HasPrefix(name, "dev.shipgate."):
		case labels[store.LabelApp] != "":
			return false, foreignImage(named, "is of app "+labels[store.LabelApp]+" of shipgate")
		default:
			return false, store.Problemf(store.CodeFailed, "image %s has the label %s, which is reserved", familiar(named), name).
				WithHint("build the image without it: docker image inspect --format '{{json .Config.Labels}}' %s", familiar(named))
		}
	}
	return own, nil
}

func labelsOf(inspected *image.InspectResponse) map[string]string {
	if inspected.Config == nil {
		return nil
	}
	return inspected.Config.Labels
}

// checkRegistry refuses registries that the app may not reach. Where another app has a login for the registry, the image may be on
// the engine by that login only, so the registry is asked with what this app may show.
func (b *Builder) checkRegistry(ctx context.Context, app string, named reference.Named) error {
	if err := b.checkSource(reference.Domain(named), "image "+familiar(named)); err != nil {
		return err
	}
	if b.loginOfOthers == nil {
		return nil
	}
	shared, err := b.loginOfOthers(ctx, app, reference.Domain(named))
	if err != nil {
		return fmt.Errorf("look up credentials for registry %s: %w", reference.Domain(named), err)
	}
	if !shared {
		return nil
	}
	_, err = b.askRegistry(ctx, app, named)
	return err
}

// askRegistry returns the digest that the registry gives the reference, asked with the app's login.
func (b *Builder) askRegistry(ctx context.Context, app string, named reference.Named) (digest string, err error) {
	login, err := b.loginFor(ctx, app, named)
	if err != nil {
		return "", err
	}
	header, err := login.header()
	if err != nil {
		return "", err
	}
	found, err := b.docker.DistributionInspect(ctx, named.String(), header)
	if err != nil {
		return "", b.registryProblem(app, named, login, err)
	}
	return found.Descriptor.Digest.String(), nil
}

// checkSource refuses hosts that are not on the Internet and that the operator does not allow.
func (b *Builder) checkSource(host, what string) error {
	if b.policy.AllowsSource(host) {
		return nil
	}
	return store.Problemf(store.CodeFailed, "%s is on %s, which is not a public host, and the operator does not allow it", what, host).
		WithHint("use a public host, or have the operator run: shipgate serve --allow-source %s", host)
}

// fromRegistry reports whether the engine has the image from the registry that its reference names. An engine that keeps images in
// containerd records a digest for images of its own as well, so there the registry has to confirm it.
func (b *Builder) fromRegistry(ctx context.Context, app string, named reference.Named, inspected *image.InspectResponse) bool {
	prefix := reference.FamiliarName(named) + "@"
	if !slices.ContainsFunc(inspected.RepoDigests, func(digest string) bool { return strings.HasPrefix(digest, prefix) }) {
		return false
	}
	if !b.keepsInContainerd(ctx) {
		return true
	}
	digest, err := b.askRegistry(ctx, app, named)
	return err == nil && slices.Contains(inspected.RepoDigests, prefix+digest)
}

func (b *Builder) keepsInContainerd(ctx context.Context) bool {
	info, err := b.docker.Info(ctx)
	return err == nil && slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}
