package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config is the decoded and validated JSON blob of one source.
type Config interface {
	// Shared gives the fields that every source has.
	Shared() *SharedConfig
	validate() error
	plan() Plan
}

// SharedConfig is what every source's blob may say.
type SharedConfig struct {
	RepoOwner      string `json:"repo_owner,omitempty"`
	RepoName       string `json:"repo_name,omitempty"`
	Branch         string `json:"branch,omitempty"` // the deploy branch; empty: main, else master
	DeployStrategy string `json:"deploy_strategy,omitempty"`
	OnPush         string `json:"on_push,omitempty"` // "" queue behind a running build, "cancel" it

	Manual           bool     `json:"manual,omitempty"`            // pushes to the forge deploy nothing: a workflow or a person asks for it
	Paths            []string `json:"paths,omitempty"`             // globs; a push from the forge deploys only when it changes a file that they match
	PublicLogs       bool     `json:"public_logs,omitempty"`       // who follows the link of a commit status may read the page
	GitHubDeployment bool     `json:"github_deployment,omitempty"` // also make a GitHub Deployment
	Environment      string   `json:"environment,omitempty"`       // of the GitHub Deployment; default production

	Port        int          `json:"port,omitempty"`
	Healthcheck *Healthcheck `json:"healthcheck,omitempty"`
	Liveness    *Duration    `json:"liveness,omitempty"`    // window without a healthcheck; default 2s
	Drain       *Duration    `json:"drain,omitempty"`       // cap for requests in flight at a cutover; default 30s
	Hold        *Duration    `json:"hold,omitempty"`        // how long recreate parks requests; default 30s
	StopSignal  string       `json:"stop_signal,omitempty"` // asks the process to end; default what the image says, else SIGTERM
	StopGrace   *Duration    `json:"stop_grace,omitempty"`
	Volumes     []Volume     `json:"volumes,omitempty"`
	Resources   Resources    `json:"resources,omitzero"`
	Replicas    int          `json:"replicas,omitempty"` // 1 is all there is so far

	Calls     []string `json:"calls,omitempty"`      // apps that this one may call at http://APP.internal, as far as they allow it
	AllowFrom []string `json:"allow_from,omitempty"` // apps that may call this one so

	Release  string         `json:"release,omitempty"` // command run once in the new image before the new version starts; no shell
	Rollback RollbackConfig `json:"rollback,omitzero"`
}

// RollbackConfig says how going back is prepared for.
type RollbackConfig struct {
	Warm *Duration `json:"warm,omitempty"` // how long the container that was replaced is kept, stopped; default: not at all
}

// Shared gives the shared part of any source's config.
func (c *SharedConfig) Shared() *SharedConfig { return c }

// Healthcheck is the HTTP gate.
type Healthcheck struct {
	Path      string    `json:"path"`
	Status    int       `json:"status,omitempty"`    // expected status; 0: any 2xx
	Successes int       `json:"successes,omitempty"` // in a row; default 1
	Timeout   *Duration `json:"timeout,omitempty"`   // one deadline for the whole gate; default 30s
	Host      string    `json:"host,omitempty"`      // Host header; default the app's first host
}

// DockerfileConfig builds an image from the repository's Dockerfile.
type DockerfileConfig struct {
	SharedConfig
	Context      string            `json:"context,omitempty"`    // directory in the repository; default the root
	Dockerfile   string            `json:"dockerfile,omitempty"` // relative to the context; default Dockerfile
	Target       string            `json:"target,omitempty"`
	BuildArgs    map[string]string `json:"build_args,omitempty"`
	BuildSecrets []string          `json:"build_secrets,omitempty"` // names of env values given to RUN --mount=type=secret
}

// StaticConfig publishes a directory of the repository.
type StaticConfig struct {
	SharedConfig
	Mode           string       `json:"mode,omitempty"` // static (default) or deno
	PublishDir     string       `json:"publish_dir,omitempty"`
	Build          *StaticBuild `json:"build,omitempty"`
	SPA            bool         `json:"spa,omitempty"`
	CleanURLs      bool         `json:"clean_urls,omitempty"`
	KeepAssets     *Duration    `json:"keep_assets,omitempty"` // how long the files of earlier releases stay reachable; default 24h
	StorageEnabled bool         `json:"storage_enabled,omitempty"`
	Entrypoint     string       `json:"entrypoint,omitempty"`  // deno: relative to publish_dir; default main.ts
	BaseImage      string       `json:"base_image,omitempty"`  // deno: default denoland/deno
	Permissions    []string     `json:"permissions,omitempty"` // deno: beyond the least, such as "run=git" or "sys"
}

// StaticBuild makes the site's files in a container.
type StaticBuild struct {
	Image   string   `json:"image"`
	Command string   `json:"command"`         // run by /bin/sh in the repository's root
	Output  string   `json:"output"`          // directory of the result, relative to the root
	Cache   []string `json:"cache,omitempty"` // directories kept from build to build; default /root/.npm and /root/.cache
}

// ImageConfig runs an image that was built elsewhere.
type ImageConfig struct {
	SharedConfig
	Image string `json:"image"`
}

// ComposeConfig runs the repository's compose file as one stack.
type ComposeConfig struct {
	SharedConfig
	File    string `json:"file,omitempty"`    // default compose.yaml, compose.yml, docker-compose.yaml or docker-compose.yml
	Service string `json:"service,omitempty"` // the one that is routed; may be left out where only one says a port
	Trusted bool   `json:"trusted,omitempty"` // the stack may ask for what is refused otherwise, such as host ports
}

// DecodeConfig decodes and validates a source's blob. Unknown fields are errors; every error is a usage Problem.
func DecodeConfig(source Source, blob []byte) (Config, error) {
	var config Config
	switch source {
	case SourceDockerfile:
		config = &DockerfileConfig{}
	case SourceStatic:
		config = &StaticConfig{}
	case SourceImage:
		config = &ImageConfig{}
	case SourceCompose:
		config = &ComposeConfig{}
	default:
		return nil, Problemf(CodeUsage, "source %q is unknown: use dockerfile, static, image or compose", source)
	}
	if len(bytes.TrimSpace(blob)) == 0 {
		blob = []byte("{}")
	}
	decoder := json.NewDecoder(bytes.NewReader(blob))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(config); err != nil {
		return nil, Problemf(CodeUsage, "%s config: %w", source, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, Problemf(CodeUsage, "%s config: more than one JSON value", source)
	}
	if err := config.Shared().validateShared(); err != nil {
		return nil, Problemf(CodeUsage, "%s config: %w", source, err)
	}
	if err := config.validate(); err != nil {
		return nil, Problemf(CodeUsage, "%s config: %w", source, err)
	}
	return config, nil
}

var (
	repoPart   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)
	branchName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*$`)
	volumeName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)
)

func (c *SharedConfig) validateShared() error {
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Errorf("port %d is not a port: use 1 to 65535", c.Port)
	}
	if (c.RepoOwner == "") != (c.RepoName == "") {
		return errors.New("repo_owner and repo_name go together")
	}
	if repository, follows := c.Repository(); follows {
		if err := ValidateRepository(repository); err != nil {
			return err
		}
	}
	if c.Branch != "" && (!branchName.MatchString(c.Branch) || strings.Contains(c.Branch, "..") || len(c.Branch) > 200) {
		return fmt.Errorf("branch %q is not a branch name", c.Branch)
	}
	if err := c.validateForge(); err != nil {
		return err
	}
	if c.OnPush != "" && c.OnPush != "cancel" {
		return fmt.Errorf("on_push %q is unknown: leave it out or use cancel", c.OnPush)
	}
	for _, window := range []struct {
		key string
		*Duration
	}{{"liveness", c.Liveness}, {"drain", c.Drain}, {"hold", c.Hold}, {"stop_grace", c.StopGrace}} {
		if lasts := window.Or(0); lasts < 0 || lasts > time.Hour {
			return fmt.Errorf("%s %s is out of range: use 0s to 1h", window.key, lasts)
		}
	}
	for i, volume := range c.Volumes {
		if strings.Contains(volume.Path, ":") {
			return fmt.Errorf("volume %s at %q: a path has no colon; write the volume as \"%s:/PATH\" or \"%s:/PATH:ro\"", volume.Name, volume.Path, volume.Name, volume.Name)
		}
		if !volumeName.MatchString(volume.Name) || !path.IsAbs(volume.Path) || path.Clean(volume.Path) == "/" {
			return fmt.Errorf("volume %q at %q: a volume has a plain name and an absolute path", volume.Name, volume.Path)
		}
		samePath := func(other Volume) bool { return path.Clean(other.Path) == path.Clean(volume.Path) }
		if slices.ContainsFunc(c.Volumes[:i], samePath) {
			return fmt.Errorf("volume path %q is used twice", volume.Path)
		}
	}
	if r := c.Resources; r.Memory < 0 || math.Signbit(r.CPUs) || r.PIDs < 0 {
		return errors.New("resources cannot be negative")
	}
	return errors.Join(c.validateRun(), c.Healthcheck.validate())
}

func (h *Healthcheck) validate() error {
	switch {
	case h == nil:
		return nil
	case !strings.HasPrefix(h.Path, "/") || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("healthcheck path %q does not start with / or has blanks", h.Path)
	case h.Status != 0 && (h.Status < 100 || h.Status > 599):
		return fmt.Errorf("healthcheck status %d is not an HTTP status: use 100 to 599", h.Status)
	case h.Successes < 0 || h.Successes > 100:
		return fmt.Errorf("healthcheck successes %d is out of range: use 1 to 100", h.Successes)
	case h.Timeout.Or(1) <= 0 || h.Timeout.Or(1) > time.Hour:
		return errors.New("healthcheck timeout is out of range: use more than 0s, up to 1h")
	}
	return nil
}

func (c *DockerfileConfig) validate() error {
	return errors.Join(relative("context", c.Context), relative("dockerfile", c.Dockerfile), legalStrategy(c.DeployStrategy))
}

func relative(field, name string) error {
	if name == "" || name == "." {
		return nil
	}
	if path.IsAbs(name) || !isLocal(path.Clean(name)) {
		return fmt.Errorf("%s %q leaves the repository", field, name)
	}
	return nil
}

func isLocal(cleaned string) bool {
	return cleaned != ".." && !strings.HasPrefix(cleaned, "../") && !strings.ContainsRune(cleaned, '\\')
}
