package builder

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/shipgate/shipgate/store"
)

// frontend is the Dockerfile frontend run in this process, so that an old engine builds new Dockerfiles.
func (i *imageBuild) frontend(ctx context.Context, engine gateway.Client) (*gateway.Result, error) {
	limited := i.limited(engine)
	result, err := dockerfile.Build(ctx, limited)
	if err == nil {
		err = i.finish(result)
	}
	i.fault = err
	return result, err
}

// finish checks the image's config and reads from it where the image listens.
func (i *imageBuild) finish(result *gateway.Result) error {
	config, err := decodeConfig(result.Metadata[exptypes.ExporterImageConfigKey])
	if err != nil {
		return err
	}
	if err := i.checkOwnLabels(config.Config.Labels); err != nil {
		return err
	}
	if err := i.setLabels(result); err != nil {
		return err
	}
	i.warnOfVolumes(config.Config.Volumes)
	if i.recipe.portless {
		i.port = i.recipe.port
		return nil
	}
	i.port, err = choosePort(i.request.App, i.recipe.port, config.Config.ExposedPorts)
	return err
}

// guardedEngine is the engine's BuildKit as the frontend sees it: nothing reaches the engine that the app may not reach.
type guardedEngine struct {
	gateway.Client
	build  *imageBuild
	places *places
	limits map[string]string // attributes that hold the build's steps

	lock    sync.Mutex
	decided map[string]error // about each image, by its normalized reference: a build asks for one several times
}

// BuildOpts adds the limits to what the frontend is told.
func (g *guardedEngine) BuildOpts() gateway.BuildOpts {
	options := g.Client.BuildOpts()
	for name, value := range g.limits {
		options.Opts[name] = value
	}
	return options
}

// Solve hands a checked definition to the engine.
func (g *guardedEngine) Solve(ctx context.Context, request gateway.SolveRequest) (*gateway.Result, error) {
	g.places.note(request.Definition)
	if request.Frontend != "" {
		return nil, store.Problemf(store.CodeFailed, "a build cannot use the frontend %s", request.Frontend).WithHint("write the Dockerfile for the built-in frontend")
	}
	definitions := []*pb.Definition{request.Definition}
	for _, input := range request.FrontendInputs {
		definitions = append(definitions, input)
	}
	for _, definition := range definitions {
		if err := g.checkDefinition(ctx, definition); err != nil {
			return nil, err
		}
	}
	return g.Client.Solve(ctx, request)
}

// ResolveImageConfig names the base image where the engine names only the registry that it could not ask.
func (g *guardedEngine) ResolveImageConfig(ctx context.Context, ref string, options sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	if err := g.checkImage(ctx, ref); err != nil {
		g.places.failAt(g.build.lineOf(strings.TrimSuffix(missingImage{ref: ref}.name(), ":latest")))
		return "", "", nil, err
	}
	resolved, id, config, err := g.Client.ResolveImageConfig(ctx, ref, options)
	if err != nil && ctx.Err() == nil {
		err = missingImage{ref, err}
	}
	if err == nil {
		err = g.checkConfig(ref, config)
	}
	return resolved, id, config, err
}

// missingImage is a base image that the engine could not find anywhere.
type missingImage struct {
	ref   string
	cause error
}

// name gives the image as people write it.
func (m missingImage) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(m.ref, "docker.io/"), "library/")
}

func (m missingImage) Error() string { return fmt.Sprintf("resolve image %s: %v", m.ref, m.cause) }
func (m missingImage) Unwrap() error { return m.cause }
