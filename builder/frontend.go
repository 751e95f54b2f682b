package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

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
		i.port, err = i.portOf(result)
	}
	i.fault = err
	return result, err
}

func (i *imageBuild) portOf(result *gateway.Result) (int, error) {
	var image struct {
		Config struct{ ExposedPorts map[string]struct{} }
	}
	if err := json.Unmarshal(result.Metadata[exptypes.ExporterImageConfigKey], &image); err != nil {
		return 0, fmt.Errorf("read image config: %w", err)
	}
	if i.recipe.portless {
		return i.recipe.port, nil
	}
	return choosePort(i.request.App, i.recipe.port, image.Config.ExposedPorts)
}

// guardedEngine is the engine's BuildKit as the frontend sees it.
type guardedEngine struct {
	gateway.Client
	places *places
	limits map[string]string // attributes that hold the build's steps
}

// BuildOpts adds the limits to what the frontend is told.
func (g *guardedEngine) BuildOpts() gateway.BuildOpts {
	options := g.Client.BuildOpts()
	for name, value := range g.limits {
		options.Opts[name] = value
	}
	return options
}

// Solve refuses copies that this engine would carry out wrongly without a word: the frontend cannot know, because the
// operation does not declare that it needs the capability.
func (g *guardedEngine) Solve(ctx context.Context, request gateway.SolveRequest) (*gateway.Result, error) {
	g.places.note(request.Definition)
	capabilities := g.Client.BuildOpts().LLBCaps
	for _, marshalled := range request.Definition.GetDef() {
		var operation pb.Op
		if err := operation.UnmarshalVT(marshalled); err != nil {
			return nil, fmt.Errorf("read build step: %w", err)
		}
		for _, action := range operation.GetFile().GetActions() {
			used := action.GetCopy()
			patterns := len(used.GetIncludePatterns()) > 0 || len(used.GetExcludePatterns()) > 0
			if patterns && capabilities.Supports(pb.CapFileCopyIncludeExcludePatterns) != nil {
				return nil, g.tooOld(marshalled, "COPY --parents and COPY --exclude")
			}
			if used.GetModeStr() != "" && capabilities.Supports(pb.CapFileCopyModeStringFormat) != nil {
				return nil, g.tooOld(marshalled, "COPY --chmod with letters")
			}
		}
	}
	return g.Client.Solve(ctx, request)
}

func (g *guardedEngine) tooOld(step []byte, feature string) error {
	g.places.fail(digest.FromBytes(step))
	return store.Problemf(store.CodeFailed, "this Docker engine is too old for %s: it would copy wrongly", feature).
		WithHint("write it without, or install Docker Engine 23 or newer: https://docs.docker.com/engine/install/")
}

// ResolveImageConfig names the base image where the engine names only the registry that it could not ask.
func (g *guardedEngine) ResolveImageConfig(ctx context.Context, ref string, options sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	resolved, id, config, err := g.Client.ResolveImageConfig(ctx, ref, options)
	if err != nil && ctx.Err() == nil {
		err = missingImage{ref, err}
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
