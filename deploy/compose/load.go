package compose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

const (
	largestFile = 1 << 20 // bytes of one compose file
	mostNodes   = 100_000 // of the YAML of one compose file, aliases followed
)

// defaultFiles are looked for in the order of the Compose Specification: https://github.com/compose-spec/compose-spec/blob/main/spec.md
var defaultFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

// Model is a compose file that was read and found to be allowed.
type Model struct {
	project *types.Project
	root    string // the checkout, absolute and without symlinks
	app     string
	server  string // its id
	policy  store.Policy
	config  *store.ComposeConfig
	trusted bool
	port    int
	routed  string
	notes   []string
}

// Load reads the compose file of a checkout. Variables come from env alone; nothing is fetched and, unless the config is
// trusted, nothing outside the checkout is read. What is wrong with the file is a failed Problem.
func (s *Stacks) Load(ctx context.Context, app, checkout string, config *store.ComposeConfig, env map[string]string) (*Model, error) {
	root, err := filepath.EvalSymlinks(checkout)
	if err != nil {
		return nil, fmt.Errorf("find the commit's files: %w", err)
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, fmt.Errorf("find the commit's files: %w", err)
	}
	m := &Model{
		root: root, app: app, server: s.options.ServerID, policy: s.options.Policy, config: config,
		trusted: config.Trusted, port: config.Port,
	}
	file, err := m.findFile(config.File)
	if err != nil {
		return nil, err
	}
	lines, err := m.reach(file)
	if err != nil {
		return nil, err
	}
	if m.project, err = m.read(ctx, file, env); err != nil {
		return nil, err
	}
	if err := m.choose(config.Service); err != nil {
		return nil, err
	}
	if err := m.check(filepath.Base(file), lines); err != nil {
		return nil, err
	}
	if m.project, err = m.project.WithServicesEnvironmentResolved(true); err != nil {
		return nil, m.wrong(err)
	}
	if m.project, err = m.project.WithServicesLabelsResolved(true); err != nil {
		return nil, m.wrong(err)
	}
	m.note()
	return m, m.checkLabels()
}

// findFile gives the absolute path of the compose file.
func (m *Model) findFile(said string) (string, error) {
	candidates := defaultFiles
	if said != "" {
		candidates = []string{said}
	}
	for _, name := range candidates {
		file := filepath.Join(m.root, filepath.FromSlash(name))
		if !m.inside(file) {
			return "", m.problem("the compose file %s leaves the repository", name)
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", m.problem("there is no %s in the commit", strings.Join(candidates, ", ")).
		WithHint("git add it, or say where it is: shipgate app update %s --config-json FILE", m.app)
}

func (m *Model) read(ctx context.Context, file string, env map[string]string) (*types.Project, error) {
	details := types.ConfigDetails{
		WorkingDir:  filepath.Dir(file),
		ConfigFiles: []types.ConfigFile{{Filename: file}},
		Environment: maps.Clone(env),
	}
	project, err := loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.SetProjectName(store.ProjectName(m.server, m.app), true)
		o.Interpolate.Substitute = func(text string, values template.Mapping) (string, error) {
			return template.SubstituteWithOptions(text, values, template.WithoutLogging)
		}
		o.MaxNodeVisits = mostNodes
		// Both read files, whose places are checked first.
		o.SkipResolveEnvironment = true
		o.SkipResolveLabels = true
	})
	if err != nil {
		return nil, m.wrong(err)
	}
	return project, nil
}

// wrong says what compose-go says, without the server's own paths.
func (m *Model) wrong(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := strings.ReplaceAll(err.Error(), m.root+string(filepath.Separator), "")
	return m.problem("the compose file is not right: %s", strings.ReplaceAll(text, m.root, "."))
}

func (m *Model) problem(format string, args ...any) *store.Problem {
	return store.Problemf(store.CodeFailed, format, args...).WithHint("docker compose config # in your repository, shows what Compose makes of it")
}

// inside says whether a path, its symlinks followed as far as it exists, is in the checkout.
func (m *Model) inside(path string) bool {
	relative, err := filepath.Rel(m.root, path)
	if err != nil || !filepath.IsLocal(relative) {
		return false
	}
	root, err := os.OpenRoot(m.root)
	if err != nil {
		return false
	}
	defer root.Close()
	_, err = root.Stat(relative)
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// short is a path as the repository has it.
func (m *Model) short(path string) string {
	if relative, err := filepath.Rel(m.root, path); err == nil && filepath.IsLocal(relative) {
		return filepath.ToSlash(relative)
	}
	return path
}

// Plan reads the compose file of a checkout, as Load does, and says what has to be built and got for the stack. A stack that
// nothing here could bring up is refused before anything is built for it.
func (s *Stacks) Plan(ctx context.Context, app, checkout string, config *store.ComposeConfig, env map[string]string) (store.StackPlan, error) {
	if _, err := s.Version(ctx); err != nil {
		return store.StackPlan{}, err
	}
	m, err := s.Load(ctx, app, checkout, config, env)
	if err != nil {
		return store.StackPlan{}, err
	}
	return m.Plan(), nil
}

// Plan gives what has to be built and got for the stack.
func (m *Model) Plan() store.StackPlan {
	plan := store.StackPlan{Routed: m.routed, Port: m.port, Notes: m.notes}
	for _, name := range slices.Sorted(maps.Keys(m.project.Services)) {
		service := m.project.Services[name]
		planned := store.StackService{Name: name, Image: service.Image, Pull: service.PullPolicy == types.PullPolicyAlways}
		if service.Build != nil {
			planned.Build = m.build(service.Build)
		}
		plan.Services = append(plan.Services, planned)
	}
	return plan
}

func (m *Model) build(build *types.BuildConfig) *store.StackBuild {
	planned := &store.StackBuild{
		Context: m.short(build.Context), Dockerfile: filepath.ToSlash(build.Dockerfile), Text: build.DockerfileInline,
		Target: build.Target, Args: map[string]string{},
	}
	for name, value := range build.Args {
		if value == nil {
			if found, set := m.project.Environment[name]; set {
				value = &found
			}
		}
		if value != nil {
			planned.Args[name] = *value
		}
	}
	return planned
}
