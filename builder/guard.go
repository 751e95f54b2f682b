package builder

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
	digest "github.com/opencontainers/go-digest"

	"github.com/shipgate/shipgate/store"
)

// The names under which a build's own files are sent to BuildKit.
const (
	contextMount    = "context"
	dockerfileMount = "dockerfile"
)

// checkDefinition refuses what the app may not reach in any step that is about to be solved, whatever frontend wrote it.
func (g *guardedEngine) checkDefinition(ctx context.Context, definition *pb.Definition) error {
	for _, marshalled := range definition.GetDef() {
		var operation pb.Op
		err := operation.UnmarshalVT(marshalled)
		if err != nil {
			return fmt.Errorf("read build step: %w", err)
		}
		switch {
		case operation.GetSource() != nil:
			err = g.checkSourceStep(ctx, operation.GetSource())
		case operation.GetExec() != nil:
			err = g.checkExec(operation.GetExec())
		case operation.GetBuild() != nil:
			err = store.Problemf(store.CodeFailed, "a build within a build is not possible").WithHint("write its steps into the Dockerfile")
		case operation.GetFile() != nil:
			err = g.checkCopies(operation.GetFile())
		}
		if err != nil {
			g.places.fail(definition, digest.FromBytes(marshalled))
			return err
		}
	}
	return nil
}

// checkSourceStep allows the schemes that a Dockerfile needs, and no others.
func (g *guardedEngine) checkSourceStep(ctx context.Context, source *pb.SourceOp) error {
	scheme, rest, _ := strings.Cut(source.GetIdentifier(), "://")
	switch scheme {
	case "local":
		if rest == contextMount || rest == dockerfileMount {
			return nil
		}
	case "docker-image":
		return g.checkImage(ctx, rest)
	case "http", "https":
		address, err := url.Parse(source.GetIdentifier())
		if err != nil {
			return store.Problemf(store.CodeFailed, "%q is not a URL", source.GetIdentifier()).WithHint("ADD https://HOST/FILE /FILE")
		}
		return g.build.checkSource(address.Host, address.Redacted())
	case "git":
		return g.checkGit(rest, source.GetAttrs()[pb.AttrFullRemoteURL])
	}
	return store.Problemf(store.CodeFailed, "a build cannot read from %s", source.GetIdentifier()).
		WithHint("put the files into the repository, or use an image or an https address")
}

// checkGit looks at both forms in which a step names a repository: which one counts depends on the engine.
func (g *guardedEngine) checkGit(short, full string) error {
	host, _, _ := strings.Cut(short, "/")
	if _, afterUser, found := strings.Cut(host, "@"); found {
		host = afterUser
	}
	if err := g.build.checkSource(host, "git repository "+short); err != nil || full == "" {
		return err
	}
	remote, err := gitutil.ParseURL(full)
	if err != nil {
		return store.Problemf(store.CodeFailed, "%q is not the address of a git repository", full).WithHint("ADD https://HOST/OWNER/NAME.git /NAME")
	}
	return g.build.checkSource(remote.Host, "git repository "+short)
}

// checkImage decides about an image that a step or a FROM names.
func (g *guardedEngine) checkImage(ctx context.Context, ref string) error {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return store.Problemf(store.CodeFailed, "%q is not a reference to an image", ref).WithHint("FROM NAME:TAG")
	}
	if base, err := reference.ParseDockerRef(g.build.recipe.base); err == nil && named.String() == base.String() {
		return nil // it was checked when it got this name
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	decided, known := g.decided[named.String()]
	if !known {
		_, decided = g.build.checkImage(ctx, g.build.request.App, named)
		g.decided[named.String()] = decided
	}
	return decided
}

// checkExec refuses steps outside of the build's sandbox and caches that are not the app's.
func (g *guardedEngine) checkExec(exec *pb.ExecOp) error {
	if exec.GetNetwork() == pb.NetMode_HOST || exec.GetSecurity() == pb.SecurityMode_INSECURE {
		return store.Problemf(store.CodeFailed, "a build has neither the host's network nor its privileges").
			WithHint("write RUN without --network=host and --security=insecure")
	}
	for _, mount := range exec.GetMounts() {
		if cache := mount.GetCacheOpt(); cache != nil && !g.build.ownsCache(g.build.request.App, cache.GetID()) {
			return store.Problemf(store.CodeFailed, "cache %q is not one of this app's", cache.GetID()).WithHint("RUN --mount=type=cache,target=/PATH")
		}
	}
	return nil
}

// checkCopies refuses copies that this engine would carry out wrongly without a word: the frontend cannot know, because the
// operation does not declare that it needs the capability.
func (g *guardedEngine) checkCopies(file *pb.FileOp) error {
	capabilities := g.Client.BuildOpts().LLBCaps
	for _, action := range file.GetActions() {
		used := action.GetCopy()
		patterns := len(used.GetIncludePatterns()) > 0 || len(used.GetExcludePatterns()) > 0
		if patterns && capabilities.Supports(pb.CapFileCopyIncludeExcludePatterns) != nil {
			return tooOld("COPY --parents and COPY --exclude")
		}
		if used.GetModeStr() != "" && capabilities.Supports(pb.CapFileCopyModeStringFormat) != nil {
			return tooOld("COPY --chmod with letters")
		}
	}
	return nil
}

func tooOld(feature string) error {
	return store.Problemf(store.CodeFailed, "this Docker engine is too old for %s: it would copy wrongly", feature).
		WithHint("write it without, or install Docker Engine 23 or newer: https://docs.docker.com/engine/install/")
}

// ResolveSourceMetadata is another way to fetch a source, so the same rules hold.
func (g *guardedEngine) ResolveSourceMetadata(
	ctx context.Context, source *pb.SourceOp, options sourceresolver.Opt,
) (*sourceresolver.MetaResponse, error) {
	if err := g.checkSourceStep(ctx, source); err != nil {
		return nil, err
	}
	return g.Client.ResolveSourceMetadata(ctx, source, options)
}

// NewContainer is not part of any build of a Dockerfile.
func (g *guardedEngine) NewContainer(context.Context, gateway.NewContainerRequest) (gateway.Container, error) {
	return nil, store.Problemf(store.CodeFailed, "a build cannot start containers of its own").WithHint("use RUN")
}
