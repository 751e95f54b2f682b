package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

// appFlags are the parts of a config that have a flag of their own; --config-json has them all.
type appFlags struct {
	hosts, volumes, buildArgs, paths, calls, allowFrom               []string
	strategy, repo, branch, publishDir, health, memory, file, target string
	context, dockerfile, environment                                 string
	publicLogs, githubDeployment, manual                             bool
	port                                                             int
	healthTimeout                                                    time.Duration
	cpus                                                             float64
	source                                                           sourceFlags
}

func (f *appFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringSliceVar(&f.hosts, "host", nil, "host name that leads to the app; can be repeated")
	flags.StringVar(&f.strategy, "strategy", "", "blue-green or recreate")
	flags.IntVar(&f.port, "port", 0, "where the app listens (default: what the image exposes)")
	flags.StringVar(&f.health, "health", "", "path that answers 2xx when the app is healthy")
	flags.DurationVar(&f.healthTimeout, "health-timeout", 0, "how long it may take to be healthy (default 30s)")
	flags.StringVar(&f.repo, "repo", "", "OWNER/NAME on GitHub")
	flags.StringSliceVar(&f.paths, "paths", nil, "of the repository, such as 'web/**': only a push to GitHub that changes one deploys")
	flags.BoolVar(&f.manual, "manual", false, "a push to GitHub deploys nothing; a workflow or shipgate deploy does")
	flags.BoolVar(&f.publicLogs, "public-logs", false, "who sees the commit status at GitHub may read the deployment's page")
	flags.BoolVar(&f.githubDeployment, "github-deployment", false, "also make GitHub Deployments")
	flags.StringVar(&f.environment, "environment", "", "of the GitHub Deployments (default production)")
	flags.StringVar(&f.branch, "branch", "", "the branch that deploys (default: main, else master)")
	flags.StringVar(&f.publishDir, "publish-dir", "", "static: the directory to publish")
	flags.StringVar(&f.context, "context", "", "dockerfile: directory of the build context")
	flags.StringVar(&f.dockerfile, "dockerfile", "", "dockerfile: its path inside the context")
	flags.StringVar(&f.target, "target", "", "dockerfile: the stage to build")
	flags.StringArrayVar(&f.buildArgs, "build-arg", nil, "dockerfile: NAME=VALUE; can be repeated")
	flags.StringVar(&f.memory, "memory", "", "limit of the container, such as 512m")
	flags.Float64Var(&f.cpus, "cpus", 0, "limit of the container, such as 1.5")
	flags.StringSliceVar(&f.calls, "calls", nil, "apps that this one may call at http://APP.internal, as far as they allow it; can be repeated")
	flags.StringSliceVar(&f.allowFrom, "allow-from", nil, "apps that may call this one so; can be repeated")
	flags.StringArrayVar(&f.volumes, "volume", nil, "NAME:/PATH[:ro|:rw]; can be repeated")
	f.source.add(command)
	flags.StringVar(&f.file, "config-json", "", "the config as JSON from a file, or - for standard input; flags come on top")
}

// config gives the fields that were said, as they stand in the blob.
func (f *appFlags) config(command *cobra.Command, stdin io.Reader) (map[string]any, error) {
	config := map[string]any{}
	if f.file != "" {
		if err := readConfig(f.file, stdin, &config); err != nil {
			return nil, err
		}
	}
	for name, value := range map[string]any{
		"deploy_strategy": f.strategy, "port": f.port, "branch": f.branch, "publish_dir": f.publishDir,
		"context": f.context, "dockerfile": f.dockerfile, "target": f.target, "paths": f.paths, "public_logs": f.publicLogs,
		"github_deployment": f.githubDeployment, "environment": f.environment, "manual": f.manual,
		"calls": f.calls, "allow_from": f.allowFrom,
	} {
		flag := strings.ReplaceAll(strings.TrimPrefix(name, "deploy_"), "_", "-")
		if command.Flags().Changed(flag) {
			config[name] = value
		}
	}
	if timed := command.Flags().Changed("health-timeout"); f.health != "" || timed {
		config["healthcheck"] = f.healthcheck(object(config, "healthcheck"), timed)
	}
	if f.memory != "" || f.cpus != 0 {
		config["resources"] = f.resources(object(config, "resources"))
	}
	if f.repo != "" {
		owner, name, found := strings.Cut(f.repo, "/")
		if !found {
			return nil, store.Problemf(store.CodeUsage, "--repo %s is not OWNER/NAME", f.repo).WithHint("--repo octocat/hello-world")
		}
		config["repo_owner"], config["repo_name"] = owner, name
	}
	f.source.put(command, config)
	return config, f.lists(config)
}

// object is what the config says under a name already.
func object(config map[string]any, name string) map[string]any {
	if said, ok := config[name].(map[string]any); ok {
		return said
	}
	return map[string]any{}
}

func (f *appFlags) healthcheck(check map[string]any, timed bool) map[string]any {
	if f.health != "" {
		check["path"] = f.health
	}
	if timed {
		check["timeout"] = f.healthTimeout.String()
	}
	return check
}

func (f *appFlags) resources(resources map[string]any) map[string]any {
	if f.memory != "" {
		resources["memory"] = f.memory
	}
	if f.cpus != 0 {
		resources["cpus"] = f.cpus
	}
	return resources
}

func (f *appFlags) lists(config map[string]any) error {
	var volumes []store.Volume
	for _, text := range f.volumes {
		volume, err := store.ParseVolume(text)
		if err != nil {
			problem, _ := store.AsProblem(err)
			return store.Problemf(store.CodeUsage, "--volume: %s", problem.Message).WithHint("--volume %s", problem.Hint)
		}
		volumes = append(volumes, volume)
	}
	if volumes != nil {
		config["volumes"] = volumes
	}
	args := map[string]any{}
	for _, text := range f.buildArgs {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return store.Problemf(store.CodeUsage, "--build-arg %s is not NAME=VALUE", text)
		}
		args[name] = value
	}
	if len(args) > 0 {
		config["build_args"] = args
	}
	return nil
}

func readConfig(file string, stdin io.Reader, into *map[string]any) error {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return store.Problemf(store.CodeUsage, "read --config-json: %w", err)
		}
		defer opened.Close()
		stdin = opened
	}
	text, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("read --config-json: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return store.Problemf(store.CodeUsage, "read --config-json: %w", err)
	}
	if *into == nil {
		return store.Problemf(store.CodeUsage, "read --config-json: null is not a config").WithHint("write {} for an empty one")
	}
	return nil
}
