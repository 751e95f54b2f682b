package builder

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"

	"github.com/shipgate/shipgate/store"
)

const defaultDockerfile = "Dockerfile"

// imageBuild is one build of a Dockerfile.
type imageBuild struct {
	*Builder
	request        store.BuildRequest
	recipe         recipe
	context        *buildContext
	dockerfile     string // relative to the context
	definitionText []byte // of the Dockerfile
	secrets        map[string][]byte
	log            *lineLog

	port   int
	places places

	allowed   Limits
	marker    string // in the environment of the build's steps
	limit     string // what really holds them, in words
	volumes   string // the VOLUME paths of the image, one a line
	limitOnce sync.Once
	// fault is what the frontend met, in its own types; the engine hands on only the text.
	fault error
}

// build carries a recipe out. The result has the image's id and port; exported files have neither.
func (b *Builder) build(ctx context.Context, request store.BuildRequest, recipe recipe, snapshot Snapshot, log func(string)) (store.Artefact, error) {
	build := &imageBuild{
		Builder: b, request: request, recipe: recipe,
		marker: "shipgate-" + rand.Text() + ".invalid",
		limit:  "this engine cannot limit the steps of a build",
	}
	if err := build.prepare(snapshot, log); err != nil {
		return store.Artefact{}, err
	}
	if _, err := b.docker.Ping(ctx); err != nil {
		return store.Artefact{}, b.engineProblem("ask the engine", err)
	}
	if request.Slot != nil && !recipe.pulls {
		release, err := request.Slot(ctx)
		if err != nil {
			return store.Artefact{}, err
		}
		defer release()
	}
	on := b.lookAtHost(ctx)
	build.allowed = b.limits.or(on.memory, on.cpus)
	limiter := startStepLimiter(on, build.allowed, build.marker, func() { build.say(build.allowed.String()) })
	defer limiter.stop()
	image, err := build.solve(ctx)
	if vanished(err) && ctx.Err() == nil {
		build.log.say("building once more: a cached image was removed in mid-build (%v)", err)
		image, err = build.solve(ctx)
	}
	if err != nil {
		return store.Artefact{}, build.explain(ctx, err)
	}
	return store.Artefact{Image: image, ImageTag: recipe.tag, Port: build.port, Volumes: build.volumes}, nil
}

// prepare refuses what can be known to be wrong without the engine.
func (i *imageBuild) prepare(snapshot Snapshot, log func(string)) error {
	files, err := newTree(snapshot)
	if err != nil {
		return err
	}
	if i.context, err = newBuildContext(files, i.recipe.context); err != nil {
		return err
	}
	definition, err := i.findDockerfile()
	if err != nil {
		return err
	}
	if err := i.context.check(i.dockerfile, i.recipe.whole); err != nil {
		return err
	}
	if i.secrets, err = secretsOf(i.request, i.recipe.secrets); err != nil {
		return err
	}
	i.definitionText = definition
	if err := i.checkAdded(definition); err != nil {
		return err
	}
	i.log = newLineLog(log, i.secrets)
	if syntax, _, _, found := parser.DetectSyntax(definition); found {
		i.log.say("# syntax=%s is ignored: the Dockerfile is read by shipgate itself", syntax)
	}
	return nil
}

// findDockerfile reads the Dockerfile. As Docker does, it takes one in lower case where none was named.
func (i *imageBuild) findDockerfile() ([]byte, error) {
	if i.recipe.text != "" {
		i.dockerfile = defaultDockerfile
		return []byte(i.recipe.text), nil
	}
	i.dockerfile = path.Clean(i.recipe.dockerfile)
	if i.recipe.dockerfile == "" {
		i.dockerfile = defaultDockerfile
	}
	n, err := i.context.resolve(i.dockerfile)
	if err != nil && path.Base(i.dockerfile) == defaultDockerfile {
		n, err = i.context.resolve(path.Join(path.Dir(i.dockerfile), strings.ToLower(defaultDockerfile)))
	}
	if err != nil {
		return nil, store.Problemf(store.CodeFailed, "there is no %s in the commit", path.Join(i.recipe.context, i.dockerfile)).
			WithHint("git add %s, or say where it is: shipgate app update %s --config-json FILE", path.Join(i.recipe.context, i.dockerfile), i.request.App)
	}
	return i.context.tree.read(n, 1<<20)
}

func secretsOf(request store.BuildRequest, names []string) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	for _, name := range names {
		value, set := request.Env[name]
		if !set {
			return nil, store.Problemf(store.CodeFailed, "build secret %s is not in the app's env", name).
				WithHint("shipgate env %s set %s=VALUE", request.App, name)
		}
		secrets[name] = []byte(value)
	}
	return secrets, nil
}

// solve runs the build and gives the image's id. It returns when the engine has ended the build, also a cancelled one.
func (i *imageBuild) solve(ctx context.Context) (string, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	i.context.stop = stop
	connection, err := i.connect(ctx)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	display, err := progressui.NewDisplay(i.log, progressui.PlainMode)
	if err != nil {
		return "", fmt.Errorf("show progress: %w", err)
	}
	i.fault = nil
	i.places.reset()
	progress, shown := make(chan *buildkit.SolveStatus), make(chan *buildkit.SolveStatus)
	var showing sync.WaitGroup
	showing.Go(func() {
		defer close(shown)
		for status := range progress {
			i.places.follow(status)
			shown <- status
		}
	})
	showing.Go(func() {
		// It ends when the channel is closed; a cancelled build has its last lines too.
		_, _ = display.UpdateFrom(context.WithoutCancel(ctx), shown)
	})
	response, err := connection.Build(ctx, i.options(), "shipgate", i.frontend, progress)
	showing.Wait()
	i.log.flush()
	if cause := context.Cause(ctx); cause != nil {
		return "", stopped{cause}
	}
	if err := cmp.Or(i.fault, err); err != nil {
		return "", err
	}
	return response.ExporterResponse[exptypes.ExporterImageDigestKey], nil
}

// stopped is what made us end a build; it is not BuildKit's word.
type stopped struct{ error }

func (s stopped) Unwrap() error { return s.error }

// connect opens BuildKit inside the engine: https://docs.docker.com/reference/api/engine/ (the session and grpc endpoints).
func (b *Builder) connect(ctx context.Context) (*buildkit.Client, error) {
	grpc := func(ctx context.Context, _ string) (net.Conn, error) {
		return b.docker.DialHijack(ctx, "/grpc", "h2c", nil)
	}
	session := func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return b.docker.DialHijack(ctx, "/session", proto, meta)
	}
	connection, err := buildkit.New(ctx, "", buildkit.WithContextDialer(grpc), buildkit.WithSessionDialer(session))
	if err != nil {
		return nil, fmt.Errorf("connect to BuildKit: %w", err)
	}
	return connection, nil
}

func (i *imageBuild) options() buildkit.SolveOpt {
	return buildkit.SolveOpt{
		Exports:       []buildkit.ExportEntry{i.recipe.export()},
		LocalMounts:   map[string]fsutil.FS{contextMount: i.context, dockerfileMount: i.definition()},
		SharedKey:     strings.Join([]string{i.serverID, i.request.App, i.recipe.context}, ":"),
		FrontendAttrs: i.attributes(),
		Session:       append([]session.Attachable{secretsprovider.FromMap(i.secrets)}, i.logins()...),
	}
}

// logins are what BuildKit may show registries: what the recipe says, else what the operator stored.
func (i *imageBuild) logins() []session.Attachable {
	if i.recipe.session != nil || i.login == nil {
		return i.recipe.session
	}
	return []session.Attachable{&registryLogins{app: i.request.App, login: i.login}}
}

func (i *imageBuild) attributes() map[string]string {
	attributes := map[string]string{
		"filename": i.dockerfile,
		"target":   i.recipe.target,
		"cmdline":  "shipgate", // keeps the frontend from pulling another one that a # syntax= line names
	}
	for name, value := range withMarker(i.recipe.args, i.marker) {
		attributes["build-arg:"+name] = value
	}
	attributes["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = i.cacheNamespace(i.request.App) // after all that the user can set
	return attributes
}

// choosePort gives where the image listens: what the app says, else the one TCP port the image exposes.
func choosePort(app string, configured int, exposed map[string]struct{}) (int, error) {
	if configured != 0 {
		return configured, nil
	}
	var ports []int
	for _, name := range slices.Sorted(maps.Keys(exposed)) {
		number, protocol, _ := strings.Cut(name, "/")
		if port, err := strconv.Atoi(number); err == nil && (protocol == "tcp" || protocol == "") {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	switch ports = slices.Compact(ports); len(ports) {
	case 0:
		return 0, store.Problemf(store.CodeFailed, "the image says no port: the Dockerfile has no EXPOSE, and the app no port").
			WithHint("write EXPOSE 8080 in the Dockerfile, or: shipgate app update %s --port 8080", app)
	case 1:
		return ports[0], nil
	}
	return 0, store.Problemf(store.CodeFailed, "the image exposes several ports, %s, and the app does not say which", strings.Trim(fmt.Sprint(ports), "[]")).
		WithHint("shipgate app update %s --port %d", app, ports[0])
}
