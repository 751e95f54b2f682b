package builder

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"
	"github.com/moby/buildkit/session"

	"github.com/shipgate/shipgate/store"
)

// fetchImage finds out what a reference means now and makes an image of ours from it: our labels on it let it be
// collected, and BuildKit, which gets it, shows how far it is.
func (b *Builder) fetchImage(ctx context.Context, request store.BuildRequest, config *store.ImageConfig, log func(string)) (store.Artefact, error) {
	text := config.Image
	if request.Image != "" {
		text = request.Image
	}
	named, err := parseReference(text)
	if err != nil {
		return store.Artefact{}, err
	}
	if _, err := b.checkImage(ctx, request.App, named); err != nil {
		return store.Artefact{}, err
	}
	login, err := b.loginFor(ctx, request.App, named)
	if err != nil {
		return store.Artefact{}, err
	}
	show := func(line string) { log(login.hide(line)) }
	from, err := b.resolve(ctx, request, named, login, show)
	if err != nil {
		return store.Artefact{}, err
	}
	defer from.release()
	made := recipe{
		text: "FROM " + from.name + "\n", base: from.name, pulls: true, whole: true, portless: true, tag: b.tagOf(request, ""),
		session: []session.Attachable{login},
		explain: func(_ place, err error) error { return b.registryProblem(request.App, named, login, err) },
	}
	artefact, err := b.build(ctx, request, made, nothing{}, show)
	if err != nil {
		return store.Artefact{}, err
	}
	artefact.Digest = from.digest
	artefact.Port, err = b.portOfImage(ctx, request.App, familiar(named), artefact.Image, config.Port)
	return artefact, err
}

// fixedImage is what a build starts from, under a name that means the same image to the end of the build.
type fixedImage struct {
	name    string
	digest  string // the reference by digest; empty for an image that only the engine has
	release func() // gives the name up
}

// resolve finds out what a reference means now.
func (b *Builder) resolve(ctx context.Context, request store.BuildRequest, named reference.Named, login *registryLogin, log func(string)) (fixedImage, error) {
	header, err := login.header()
	if err != nil {
		return fixedImage{}, err
	}
	found, err := b.docker.DistributionInspect(ctx, named.String(), header)
	if err != nil {
		local, lookErr := b.onlyLocal(ctx, named, login, err)
		if lookErr != nil {
			return fixedImage{}, lookErr
		}
		if local == "" {
			return fixedImage{}, b.registryProblem(request.App, named, login, err)
		}
		return b.fixLocal(ctx, request, named, local, log)
	}
	if err := b.checkPlatform(ctx, named, found); err != nil {
		return fixedImage{}, err
	}
	exact, err := reference.WithDigest(reference.TrimNamed(named), found.Descriptor.Digest)
	if err != nil {
		return fixedImage{}, fmt.Errorf("name image %s by digest: %w", named, err)
	}
	log(fmt.Sprintf("%s is %s", familiar(named), found.Descriptor.Digest))
	return fixedImage{name: exact.String(), digest: exact.String(), release: func() {}}, nil
}

// onlyLocal gives the id of an image that the engine has and that never came from a registry, else nothing. Where a login
// was refused, another image under the same name is not what was asked for.
func (b *Builder) onlyLocal(ctx context.Context, named reference.Named, login *registryLogin, cause error) (id string, err error) {
	if login.known() && faultOf(cause) == unauthorised {
		return "", nil
	}
	inspected, err := b.docker.ImageInspect(ctx, named.String())
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", b.engineProblem("look for image "+familiar(named), err)
	}
	if len(inspected.RepoDigests) > 0 {
		return "", nil
	}
	return inspected.ID, nil
}

// checkPlatform refuses an image that has nothing for the engine's machine.
func (b *Builder) checkPlatform(ctx context.Context, named reference.Named, found registry.DistributionInspect) error {
	engine, err := b.docker.ServerVersion(ctx)
	if err != nil {
		return b.engineProblem("ask the engine for its platform", err)
	}
	var offered []string
	for _, platform := range found.Platforms {
		if platform.OS == "" || platform.OS == engine.Os && (platform.Architecture == "" || platform.Architecture == engine.Arch) {
			return nil
		}
		if platform.OS != "unknown" { // attestations, which are no images
			offered = append(offered, platform.OS+"/"+platform.Architecture)
		}
	}
	if len(offered) == 0 {
		return nil
	}
	slices.Sort(offered)
	return store.Problemf(store.CodeFailed, "image %s is not for %s/%s, only for %v", familiar(named), engine.Os, engine.Arch, slices.Compact(offered)).
		WithHint("docker buildx build --platform %s/%s --push --tag %s .", engine.Os, engine.Arch, familiar(named))
}

// portOfImage gives where the image listens: what the app says, else the one port that the image exposes.
func (b *Builder) portOfImage(ctx context.Context, app, name, id string, configured int) (int, error) {
	inspected, err := b.docker.ImageInspect(ctx, id)
	if err != nil {
		return 0, b.engineProblem("look at image "+id, err)
	}
	var exposed map[string]struct{}
	if inspected.Config != nil {
		exposed = inspected.Config.ExposedPorts
	}
	if configured == 0 && len(exposed) == 0 {
		return 0, store.Problemf(store.CodeFailed, "image %s says no port, and neither does the app", name).
			WithHint("shipgate app update %s --port 8080", app)
	}
	return choosePort(app, configured, exposed)
}

// nothing is a Snapshot without files.
type nothing struct{}

func (nothing) Entries() ([]store.TreeEntry, error) { return nil, nil }

func (nothing) Open(name string) (io.ReadCloser, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
