package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show whether each app runs; exit code 1 when one that should does not", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var apps []store.AppStatus
			if err := c.get(command.Context(), "/api/v1/status", &apps); err != nil {
				return err
			}
			if err := c.print(apps, func(w io.Writer) { table(w, statusRows(apps)) }); err != nil {
				return err
			}
			if slices.ContainsFunc(apps, store.AppStatus.Down) {
				return verdictError{store.Failed}
			}
			return nil
		},
	}
}

func statusRows(apps []store.AppStatus) [][]string {
	rows := [][]string{{"APP", "STATE", "LIVE", "SINCE", "RESTARTS", "HOST"}}
	for _, app := range apps {
		live := "-"
		if app.Live != 0 {
			live = strconv.FormatInt(app.Live, 10)
		}
		if app.SHA != "" {
			live += fmt.Sprintf(" (%.7s)", app.SHA)
		}
		rows = append(rows, []string{app.App, app.Text(), live, when(app.Since), strconv.Itoa(app.Restarts), app.Host})
	}
	return rows
}

// containerRows are the containers of what is live, as app show lists them.
func containerRows(app store.AppStatus) [][]string {
	var rows [][]string
	for _, one := range app.Containers {
		text := fmt.Sprintf("%s, %s, %d restarts, since %s", one.Container, one.Text(), one.Restarts, when(one.Since))
		if one.Service != "" {
			text = one.Service + ": " + text
		}
		rows = append(rows, []string{"container", text})
	}
	return rows
}

func (c *cli) appStopCommand() *cobra.Command {
	return c.wantedCommand("stop", "Stop an app: visitors get 503 until it is started or deployed; volumes stay", "stopped")
}

func (c *cli) appStartCommand() *cobra.Command {
	return c.wantedCommand("start", "Start an app that was stopped", "started")
}

func (c *cli) wantedCommand(verb, short, done string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			var app shownApp
			path := "/api/v1/apps/" + url.PathEscape(args[0]) + "/" + verb
			if err := server.call(command.Context(), http.MethodPost, path, nil, &app); err != nil {
				return err
			}
			return c.print(app, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", app.Name, done) })
		},
	}
}

func (c *cli) appRestartCommand() *cobra.Command {
	var detach bool
	command := &cobra.Command{
		Use: "restart NAME", Short: "Deploy the live release once more, by its strategy", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return c.deployBy(command.Context(), "/api/v1/apps/"+url.PathEscape(args[0])+"/restart", nil, detach)
		},
	}
	command.Flags().BoolVar(&detach, "no-wait", false, "print the number and return at once")
	return command
}
