package builder

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

const (
	denoImage = "denoland/deno"
	denoRoot  = "/app"        // where the app's files are in the image
	denoCache = "/deno-cache" // where its dependencies are
	denoData  = "data"        // the storage, as a directory of the app's
	denoPort  = 8000          // where Deno.serve listens when nobody says

	// denoUser runs the app, in any base image. It is the user of Deno's own image, by number: a volume keeps the owner
	// that the image gave it, so this must never change.
	denoUser = "1993:1993"
)

// denoEntrypoints are tried in this order when the config names none.
var denoEntrypoints = []string{"main.ts", "main.js", "server.ts", "mod.ts", "index.ts"}

// denoProject is what is known of an app's files before its image is built.
type denoProject struct {
	tree       *tree
	root       *node // the published directory
	config     *store.StaticConfig
	entrypoint string   // relative to the root
	manifests  []string // files at the root that name all dependencies; none: they are not separable
}

// buildDeno makes an image that runs a directory's files with Deno.
func (b *Builder) buildDeno(ctx context.Context, request store.BuildRequest, config *store.StaticConfig, files material, log func(string)) (store.Artefact, error) {
	project, err := newDenoProject(config, files)
	if err != nil {
		return store.Artefact{}, err
	}
	if config.Entrypoint == "" {
		newLineLog(log, nil).say("entrypoint %s is taken: the config names none", project.entrypoint)
	}
	port := cmp.Or(config.Port, denoPort)
	var last tail
	return b.build(ctx, request, recipe{
		context: files.directory, text: project.dockerfile(port), whole: true, port: port, tag: b.tagOf(request, ""),
		explain: func(at place, err error) error { return explainDeno(request, &last, at, err) },
	}, files, func(line string) {
		last.note(line)
		log(line)
	})
}

func newDenoProject(config *store.StaticConfig, files material) (*denoProject, error) {
	p := &denoProject{config: config}
	var err error
	if p.tree, err = newTree(files); err != nil {
		return nil, err
	}
	// The build context is the directory itself, so unlike a site's it cannot be reached by way of a symlink.
	if p.root = p.tree.find(files.directory); p.root == nil || !p.root.isDirectory() {
		return nil, store.Problemf(store.CodeFailed, "%s is not a directory of the commit", files.name).WithHint("%s", files.hint)
	}
	if err := p.findEntrypoint(files.name); err != nil {
		return nil, err
	}
	p.manifests, err = p.findManifests()
	return p, err
}

func (p *denoProject) findEntrypoint(directory string) error {
	candidates := denoEntrypoints
	if p.config.Entrypoint != "" {
		candidates = []string{path.Clean(p.config.Entrypoint)}
	}
	for _, name := range candidates {
		if p.has(name) {
			p.entrypoint = name
			return nil
		}
	}
	if p.config.Entrypoint != "" {
		return store.Problemf(store.CodeFailed, "entrypoint %s is not a file in %s", candidates[0], directory).
			WithHint(`commit it, or correct "entrypoint": shipgate app update NAME --config-json FILE`)
	}
	return store.Problemf(store.CodeFailed, "%s has no entrypoint: none of %s", directory, strings.Join(candidates, ", ")).
		WithHint(`commit main.ts, or name another in "entrypoint": shipgate app update NAME --config-json FILE`)
}

func (p *denoProject) has(name string) bool {
	n, err := p.tree.resolve(path.Join(p.root.Path, name))
	return err == nil && !n.isDirectory() && n.Mode != store.ModeSubmodule
}

var (
	denoConfigs   = []string{"deno.json", "deno.jsonc", "package.json"}
	denoCompanion = []string{"deno.lock", ".npmrc"} // read along with them
	// inseparable is what makes these files depend on others of the app.
	inseparable = regexp.MustCompile(`"(workspaces?|links|patch|importMap)"\s*:|"(file|link|workspace):`)
)

// findManifests gives the files that name the dependencies, if those can be had without the rest of the app.
func (p *denoProject) findManifests() ([]string, error) {
	var found []string
	for _, name := range denoConfigs {
		n := p.root.child(name)
		if n == nil {
			continue
		}
		text, err := p.tree.read(n, 1<<20)
		if err != nil {
			return nil, err
		}
		if n.Mode == store.ModeSymlink || inseparable.Match(text) {
			return nil, nil
		}
		found = append(found, name)
	}
	if len(found) == 0 {
		return nil, nil
	}
	for _, name := range denoCompanion {
		if n := p.root.child(name); n != nil && n.Mode != store.ModeSymlink {
			found = append(found, name)
		}
	}
	return found, nil
}

// dockerfile is independent of the base image's own entrypoint and user. The dependencies have a layer of their own, which
// stays as long as the files that name them.
func (p *denoProject) dockerfile(port int) string {
	var text strings.Builder
	line := func(format string, arguments ...any) { fmt.Fprintf(&text, format+"\n", arguments...) }
	if p.seedsStorage() {
		line("FROM scratch AS seed\nCOPY %s /%s/", denoData, denoData)
	}
	line("FROM %s", cmp.Or(p.config.BaseImage, denoImage))
	line("ENV DENO_DIR=%s DENO_NO_UPDATE_CHECK=1", denoCache)
	line("USER %s", denoUser)
	line("WORKDIR %s", denoCache) // WORKDIR makes a directory the user's own
	if p.config.StorageEnabled {
		line("ENV DENO_KV_DEFAULT_PATH=%s/kv.sqlite3", store.DenoStorage) // Deno.openKv() without a path
		line("WORKDIR %s", store.DenoStorage)                             // a new volume gets its owner and files
	}
	line("WORKDIR %s", denoRoot)
	if len(p.manifests) > 0 {
		line("COPY %s", words(append(slices.Clone(p.manifests), "./")...))
		line("RUN %s", words("deno", "install"))
	}
	line("COPY . .")
	if p.seedsStorage() {
		// A COPY changes the owner of what it copies, but not of the directory that it copies to.
		line("COPY --from=seed --chown=%s / %s/", denoUser, denoRoot)
	}
	line("RUN %s", words(append(append([]string{"deno", "cache"}, p.importPermission()...), p.main())...))
	line("EXPOSE %d", port)
	line("ENTRYPOINT []")
	line("CMD %s", words(p.command()...))
	return text.String()
}

// seedsStorage says that the app brings files for a new volume.
func (p *denoProject) seedsStorage() bool {
	data := p.root.child(denoData)
	return p.config.StorageEnabled && data != nil && data.isDirectory()
}

func (p *denoProject) main() string { return path.Join(denoRoot, p.entrypoint) }

// command runs the app with the least permissions, and those that the config adds.
func (p *denoProject) command() []string {
	granted := permissions{"net": nil, "env": nil, "read": {denoRoot}}
	if p.config.StorageEnabled {
		granted["write"] = []string{store.DenoStorage}
	}
	for _, permission := range p.config.Permissions {
		granted.add(permission)
	}
	return slices.Concat([]string{"deno", "run", "--no-prompt"}, granted.flags(), []string{p.main()})
}

// importPermission lets the build fetch from where the app may import.
func (p *denoProject) importPermission() []string {
	granted := permissions{}
	for _, permission := range p.config.Permissions {
		if name, _, _ := strings.Cut(permission, "="); name == "import" {
			granted.add(permission)
		}
	}
	return granted.flags()
}

// permissions are Deno's, by kind, with what each is limited to; nothing: it is not limited.
// See https://docs.deno.com/runtime/fundamentals/security/
type permissions map[string][]string

// add grants one more. A flag that is given twice would count only once.
func (p permissions) add(permission string) {
	name, value, limited := strings.Cut(permission, "=")
	present, granted := p[name]
	switch {
	case !limited:
		p[name] = nil
	case !granted || present != nil:
		p[name] = append(slices.Clone(present), value)
	}
}

func (p permissions) flags() []string {
	var flags []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		flag := "--allow-" + name
		if limits := p[name]; limits != nil {
			flag += "=" + strings.Join(limits, ",")
		}
		flags = append(flags, flag)
	}
	return flags
}

// explainDeno says what a step of Deno's met: its reader has never seen the Dockerfile.
func explainDeno(request store.BuildRequest, last *tail, at place, err error) error {
	code := exitCode.FindStringSubmatch(err.Error())
	if code == nil || code[1] == killed {
		return nil
	}
	attempt := "deno cache"
	if strings.Contains(at.text, `"install"`) {
		attempt = "deno install"
	}
	return store.Problemf(store.CodeFailed, "%s: exit code %s%s", attempt, code[1], last).WithHint("shipgate show %d", request.Deployment)
}
