package store

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/mattn/go-shellwords"
)

const maxWindow = 30 * 24 * time.Hour // for what is kept of earlier versions

var (
	signalName     = regexp.MustCompile(`^(SIG[A-Z0-9+-]{2,12}|[1-9][0-9]?)$`)
	denoPermission = regexp.MustCompile(`^(read|write|net|env|run|sys|ffi|import)(=[^\s'"\\]+)?$`)
	serviceName    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
)

// validateRun checks what says how a version runs.
func (c *SharedConfig) validateRun() error {
	if c.StopSignal != "" && !signalName.MatchString(c.StopSignal) {
		return fmt.Errorf("stop_signal %q is not a signal: write SIGTERM or its number", c.StopSignal)
	}
	if c.Replicas < 0 || c.Replicas > 1 {
		return fmt.Errorf("replicas %d is not possible: an app runs one container so far", c.Replicas)
	}
	if warm := c.Rollback.Warm.Or(0); warm < 0 || warm > maxWindow {
		return fmt.Errorf("rollback warm %s is out of range: use 0s to 720h", warm)
	}
	if err := errors.Join(validateApps("calls", c.Calls), validateApps("allow_from", c.AllowFrom)); err != nil {
		return err
	}
	if c.Release != "" {
		_, err := c.ReleaseCommand()
		return err
	}
	return nil
}

// ReleaseCommand gives the words of the release command, as a shell would split them; nil when there is none. No shell is
// involved: who needs one writes sh -c '…'.
func (c *SharedConfig) ReleaseCommand() ([]string, error) {
	if c.Release == "" {
		return nil, nil
	}
	parser := shellwords.NewParser()
	words, err := parser.Parse(c.Release)
	if err == nil && (len(words) == 0 || parser.Position >= 0) { // a position: it stopped at one of ; & | < >
		err = errors.New("it needs a shell, and there is none in between")
	}
	if err != nil {
		return nil, fmt.Errorf("release command %q: %w: write sh -c '…' for a shell", c.Release, err)
	}
	return words, nil
}

func (c *StaticConfig) validate() error {
	if c.Mode != "" && c.Mode != "static" && c.Mode != "deno" {
		return fmt.Errorf("mode %q is unknown: use static or deno", c.Mode)
	}
	if keep := c.KeepAssets.Or(0); keep < 0 || keep > maxWindow {
		return fmt.Errorf("keep_assets %s is out of range: use 0s to 720h", keep)
	}
	return errors.Join(c.Build.validate(), c.validateDeno(), relative("publish_dir", c.PublishDir), legalStrategy(c.DeployStrategy))
}

func (b *StaticBuild) validate() error {
	if b == nil {
		return nil
	}
	if b.Image == "" || b.Command == "" || b.Output == "" {
		return errors.New("build needs image, command and output")
	}
	for _, directory := range b.Cache {
		if !path.IsAbs(directory) || path.Clean(directory) == "/" {
			return fmt.Errorf("build cache %q is not the absolute path of a directory", directory)
		}
	}
	return errors.Join(legalImage("build image", b.Image), relative("build output", b.Output))
}

// Deno says that the source is static and its mode is deno: files that run in a container.
func (c *StaticConfig) Deno() bool { return c.Mode == "deno" }

func (c *StaticConfig) validateDeno() error {
	if !c.Deno() {
		if c.StorageEnabled || c.Entrypoint != "" || c.BaseImage != "" || len(c.Permissions) > 0 || c.Release != "" || len(c.Calls) > 0 {
			return errors.New("storage_enabled, entrypoint, base_image, permissions, release and calls belong to mode deno")
		}
		return nil
	}
	for _, permission := range c.Permissions {
		if !denoPermission.MatchString(permission) {
			return fmt.Errorf("permission %q is not one of Deno's: write read=/etc, run=git, sys, …", permission)
		}
	}
	overStorage := func(v Volume) bool { return path.Clean(v.Path) == DenoStorage || v.Name == StorageVolume }
	if c.StorageEnabled && slices.ContainsFunc(c.Volumes, overStorage) {
		return fmt.Errorf("storage_enabled has a volume %s at %s already", StorageVolume, DenoStorage)
	}
	if c.BaseImage != "" {
		if err := legalImage("base_image", c.BaseImage); err != nil {
			return err
		}
	}
	return relative("entrypoint", c.Entrypoint)
}

func (c *ImageConfig) validate() error {
	if c.Image == "" {
		return errors.New("image is missing")
	}
	return errors.Join(legalImage("image", c.Image), legalStrategy(c.DeployStrategy))
}

func (c *ComposeConfig) validate() error {
	if c.DeployStrategy != "" && c.DeployStrategy != string(Recreate) {
		return fmt.Errorf("deploy_strategy %q is not possible for compose: Compose manages the stack itself; leave it out or use recreate", c.DeployStrategy)
	}
	if c.Service != "" && !serviceName.MatchString(c.Service) {
		return fmt.Errorf("service %q is not the name of a service", c.Service)
	}
	if len(c.Volumes) > 0 || c.Resources != (Resources{}) || c.StopSignal != "" {
		return errors.New("volumes, resources and stop_signal of a stack are said in its compose file")
	}
	if c.Release != "" || c.Rollback.Warm.Or(0) != 0 {
		return errors.New("release and rollback.warm are not possible for compose: a service of the stack does that with depends_on")
	}
	return relative("file", c.File)
}

// ValidateImage accepts a reference to an image, in any of the forms that docker pull takes. The error is a usage Problem.
func ValidateImage(image string) error {
	if err := legalImage("image", image); err != nil {
		return Problemf(CodeUsage, "%w", err).WithHint("write it as docker pull takes it: ghcr.io/acme/web:1.4")
	}
	return nil
}

func legalImage(field, image string) error {
	if _, err := reference.ParseDockerRef(image); err != nil {
		return fmt.Errorf("%s %q is not a reference to an image: %w", field, image, err)
	}
	return nil
}
