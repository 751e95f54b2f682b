package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

// shownApp is an app as the API shows it.
type shownApp struct {
	Name      string          `json:"name"`
	Source    store.Source    `json:"source"`
	Hosts     []string        `json:"hosts"`
	URL       string          `json:"url"`
	Strategy  store.Strategy  `json:"strategy"`
	Config    json.RawMessage `json:"config"`
	Live      *store.Live     `json:"live"`
	CreatedAt time.Time       `json:"created_at"`
}

func (c *cli) appCommand() *cobra.Command {
	command := &cobra.Command{Use: "app", Short: "Create, change and remove apps", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.appCreateCommand(), c.appListCommand(), c.appShowCommand(), c.appUpdateCommand(), c.appDestroyCommand())
	return command
}

func (c *cli) appCreateCommand() *cobra.Command {
	var flags appFlags
	var source string
	var withoutToken bool
	command := &cobra.Command{
		Use: "create NAME", Short: "Create an app and print the remote to push to", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			config, err := flags.config(command, c.stdin)
			if err != nil {
				return err
			}
			if err := preferBlueGreen(store.Source(source), config); err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "source": source, "hosts": flags.hosts, "config": config}
			return c.createApp(command, body, withoutToken)
		},
	}
	flags.add(command)
	command.Flags().StringVar(&source, "source", "dockerfile", "dockerfile or static")
	command.Flags().BoolVar(&withoutToken, "no-token", false, "do not make a deploy token for the remote")
	return command
}

// preferBlueGreen writes blue-green into the config of a new app where it is possible and nothing else was said, so that
// what is stored is explicit.
func preferBlueGreen(source store.Source, config map[string]any) error {
	if _, said := config["deploy_strategy"]; said || source == store.SourceCompose {
		return nil
	}
	config["deploy_strategy"] = string(store.BlueGreen)
	blob, err := json.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	decoded, err := store.DecodeConfig(source, blob)
	if err != nil {
		return err
	}
	if store.PlanOf(decoded).Forced {
		config["deploy_strategy"] = string(store.Recreate)
	}
	return nil
}

func (c *cli) createApp(command *cobra.Command, body map[string]any, withoutToken bool) error {
	ctx := command.Context()
	server, err := c.client()
	if err != nil {
		return err
	}
	var app shownApp
	if err := server.call(ctx, http.MethodPost, "/api/v1/apps", body, &app); err != nil {
		return err
	}
	remote := ""
	if !withoutToken {
		var token struct {
			Secret string `json:"secret"`
		}
		request := map[string]any{"name": "remote of " + app.Name, "app": app.Name, "scope": "deploy"}
		if err := server.call(ctx, http.MethodPost, "/api/v1/tokens", request, &token); err != nil {
			return err
		}
		remote = remoteURL(server.remote, token.Secret, app.Name)
	}
	return c.print(struct {
		shownApp
		Remote string `json:"remote,omitempty"`
	}{app, remote}, func(w io.Writer) {
		fmt.Fprintf(w, "%s created: %s, %s\n", app.Name, app.Source, app.Strategy)
		if remote != "" {
			fmt.Fprintf(w, "\nIn your repository:\n  git remote add shipgate %s\n  git push shipgate main\n", remote)
		}
	})
}

func remoteURL(server, secret, app string) string {
	scheme, host, _ := strings.Cut(server, "://")
	return scheme + "://x:" + secret + "@" + host + "/" + app + ".git"
}

func (c *cli) appListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All apps", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var apps []shownApp
			if err := c.get(command.Context(), "/api/v1/apps", &apps); err != nil {
				return err
			}
			return c.print(apps, func(w io.Writer) {
				rows := [][]string{{"NAME", "SOURCE", "STRATEGY", "LIVE", "URL"}}
				for _, app := range apps {
					rows = append(rows, []string{app.Name, string(app.Source), string(app.Strategy), liveText(app.Live), app.URL})
				}
				table(w, rows)
			})
		},
	}
}

func liveText(live *store.Live) string {
	if live == nil {
		return "never"
	}
	return fmt.Sprintf("%d (%.7s), %s", live.Deployment, live.SHA, when(live.Since))
}

func (c *cli) appShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "One app with its config", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			var app shownApp
			if err := c.get(command.Context(), "/api/v1/apps/"+url.PathEscape(args[0]), &app); err != nil {
				return err
			}
			return c.print(app, func(w io.Writer) {
				table(w, [][]string{
					{"name", app.Name}, {"source", string(app.Source)}, {"hosts", strings.Join(app.Hosts, ", ")},
					{"strategy", string(app.Strategy)}, {"live", liveText(app.Live)}, {"config", string(app.Config)},
				})
			})
		},
	}
}

func (c *cli) appUpdateCommand() *cobra.Command {
	var flags appFlags
	command := &cobra.Command{
		Use: "update NAME", Short: "Change an app's hosts or config; the config takes effect with the next deployment", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			config, err := flags.config(command, c.stdin)
			if err != nil {
				return err
			}
			body := map[string]any{"config": config}
			if command.Flags().Changed("host") {
				body["hosts"] = flags.hosts
			}
			server, err := c.client()
			if err != nil {
				return err
			}
			var app shownApp
			if err := server.call(command.Context(), http.MethodPatch, "/api/v1/apps/"+url.PathEscape(args[0]), body, &app); err != nil {
				return err
			}
			return c.print(app, func(w io.Writer) { fmt.Fprintf(w, "%s updated: %s, %s\n", app.Name, app.Source, app.Strategy) })
		},
	}
	flags.add(command)
	return command
}

func (c *cli) appDestroyCommand() *cobra.Command {
	var yes, withData bool
	command := &cobra.Command{
		Use: "destroy NAME", Short: "Remove an app, its containers, its repository and its history", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if !yes && !c.confirmed(args[0]) {
				return store.Problemf(store.CodeUsage, "nothing was removed").WithHint("shipgate app destroy %s --yes", args[0])
			}
			server, err := c.client()
			if err != nil {
				return err
			}
			path := fmt.Sprintf("/api/v1/apps/%s?with_data=%t", url.PathEscape(args[0]), withData)
			if err := server.call(command.Context(), http.MethodDelete, path, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "%s destroyed\n", args[0])
			return nil
		},
	}
	command.Flags().BoolVar(&yes, "yes", false, "do not ask")
	command.Flags().BoolVar(&withData, "with-data", false, "remove its volumes, too")
	return command
}

// confirmed asks for the name, which nobody types by accident.
func (c *cli) confirmed(name string) bool {
	fmt.Fprintf(c.stderr, "This removes %s for good. Type its name to go on: ", name)
	var answer string
	_, err := fmt.Fscanln(c.stdin, &answer)
	return err == nil && answer == name
}

// appFlags are the parts of a config that have a flag of their own; --config-json has them all.
type appFlags struct {
	hosts, volumes, buildArgs                                        []string
	strategy, repo, branch, publishDir, health, memory, file, target string
	context, dockerfile                                              string
	port                                                             int
	healthTimeout                                                    time.Duration
	cpus                                                             float64
}

func (f *appFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringSliceVar(&f.hosts, "host", nil, "host name that leads to the app; can be repeated")
	flags.StringVar(&f.strategy, "strategy", "", "blue-green or recreate")
	flags.IntVar(&f.port, "port", 0, "where the app listens (default: what the image exposes)")
	flags.StringVar(&f.health, "health", "", "path that answers 2xx when the app is healthy")
	flags.DurationVar(&f.healthTimeout, "health-timeout", 0, "how long it may take to be healthy (default 30s)")
	flags.StringVar(&f.repo, "repo", "", "OWNER/NAME on GitHub")
	flags.StringVar(&f.branch, "branch", "", "the branch that deploys (default: main, else master)")
	flags.StringVar(&f.publishDir, "publish-dir", "", "static: the directory to publish")
	flags.StringVar(&f.context, "context", "", "dockerfile: directory of the build context")
	flags.StringVar(&f.dockerfile, "dockerfile", "", "dockerfile: its path inside the context")
	flags.StringVar(&f.target, "target", "", "dockerfile: the stage to build")
	flags.StringArrayVar(&f.buildArgs, "build-arg", nil, "dockerfile: NAME=VALUE; can be repeated")
	flags.StringVar(&f.memory, "memory", "", "limit of the container, such as 512m")
	flags.Float64Var(&f.cpus, "cpus", 0, "limit of the container, such as 1.5")
	flags.StringArrayVar(&f.volumes, "volume", nil, "NAME:/PATH[:ro]; can be repeated")
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
		"context": f.context, "dockerfile": f.dockerfile, "target": f.target,
	} {
		flag := strings.ReplaceAll(strings.TrimPrefix(name, "deploy_"), "_", "-")
		if command.Flags().Changed(flag) {
			config[name] = value
		}
	}
	if f.health != "" || f.healthTimeout != 0 {
		config["healthcheck"] = f.healthcheck(object(config, "healthcheck"))
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
	return config, f.lists(config)
}

// object is what the config says under a name already.
func object(config map[string]any, name string) map[string]any {
	if said, ok := config[name].(map[string]any); ok {
		return said
	}
	return map[string]any{}
}

func (f *appFlags) healthcheck(check map[string]any) map[string]any {
	if f.health != "" {
		check["path"] = f.health
	}
	if f.healthTimeout != 0 {
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
	var volumes []map[string]any
	for _, text := range f.volumes {
		name, path, found := strings.Cut(text, ":")
		if !found {
			return store.Problemf(store.CodeUsage, "--volume %s is not NAME:/PATH", text).WithHint("--volume data:/var/lib/app")
		}
		path, readOnly := strings.CutSuffix(path, ":ro")
		volumes = append(volumes, map[string]any{"name": name, "path": path, "read_only": readOnly})
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
