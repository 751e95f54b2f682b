package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
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

	Status store.AppStatus `json:"status"`
}

// follows says what the app's repository is to it; "" without one.
func (a shownApp) follows() string {
	var config store.SharedConfig
	switch {
	case json.Unmarshal(a.Config, &config) != nil || config.RepoOwner == "":
		return ""
	case config.Manual:
		return fmt.Sprintf("It follows %s/%s, and is deployed by a workflow or by\n  shipgate deploy %s\n", config.RepoOwner, config.RepoName, a.Name)
	}
	return fmt.Sprintf("It follows %s/%s: the next push there deploys. What is there now is deployed by\n  shipgate deploy %s\n", config.RepoOwner, config.RepoName, a.Name)
}

func (c *cli) appCommand() *cobra.Command {
	command := &cobra.Command{Use: "app", Short: "Create, change and remove apps", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.appCreateCommand(), c.appListCommand(), c.appShowCommand(), c.appUpdateCommand(), c.appDestroyCommand(),
		c.appStopCommand(), c.appStartCommand(), c.appRestartCommand())
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
			chosen := choice{source: store.Source(source)}
			if source == "" {
				if chosen, err = chooseSource(command, "."); err != nil {
					return err
				}
			}
			maps.Copy(config, withoutKeys(chosen.config, config))
			if err := preferBlueGreen(chosen.source, config); err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "source": chosen.source, "hosts": flags.hosts, "config": config}
			return c.createApp(command, body, chosen.why, withoutToken)
		},
	}
	flags.add(command)
	command.Flags().StringVar(&source, "source", "", "dockerfile, static, image or compose (default: what the files around here say)")
	command.Flags().BoolVar(&withoutToken, "no-token", false, "do not make a deploy token for the remote")
	return command
}

// withoutKeys gives the fields that the others do not have.
func withoutKeys(fields, others map[string]any) map[string]any {
	left := maps.Clone(fields)
	maps.DeleteFunc(left, func(name string, _ any) bool { _, said := others[name]; return said })
	return left
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

func (c *cli) createApp(command *cobra.Command, body map[string]any, why string, withoutToken bool) error {
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
		request := map[string]any{"name": "remote of " + app.Name, "app": app.Name, "rights": []string{"read", "deploy"}}
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
		if why != "" {
			fmt.Fprintf(w, "source %s was chosen: %s\n", app.Source, why)
		}
		if app.Source == store.SourceImage {
			fmt.Fprintf(w, "\nIt is deployed by\n  shipgate deploy %s\n", app.Name)
			return
		}
		if follows := app.follows(); follows != "" {
			fmt.Fprintf(w, "\n%s", follows)
		}
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
				rows := [][]string{{"NAME", "SOURCE", "STRATEGY", "STATE", "LIVE", "URL"}}
				for _, app := range apps {
					rows = append(rows, []string{app.Name, string(app.Source), string(app.Strategy), app.Status.Text(), liveText(app.Live), app.URL})
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
	if live.SHA == "" {
		return fmt.Sprintf("%d, %s", live.Deployment, when(live.Since))
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
				rows := [][]string{
					{"name", app.Name}, {"source", string(app.Source)}, {"hosts", strings.Join(app.Hosts, ", ")},
					{"strategy", string(app.Strategy)}, {"state", app.Status.Text()}, {"live", liveText(app.Live)},
				}
				table(w, append(append(rows, containerRows(app.Status)...), []string{"config", string(app.Config)}))
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
			var answer struct {
				VolumesLeft []string `json:"volumes_left"`
			}
			if err := server.call(command.Context(), http.MethodDelete, path, nil, &answer); err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "%s destroyed\n", args[0])
			if len(answer.VolumesLeft) > 0 {
				fmt.Fprintf(c.stderr, "its volumes stay, with what is in them; to remove them: docker volume rm %s\n", strings.Join(answer.VolumesLeft, " "))
			}
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
