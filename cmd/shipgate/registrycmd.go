package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

func (c *cli) registryCommand() *cobra.Command {
	command := &cobra.Command{Use: "registry", Short: "Logins for the registries that images come from", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.registryLoginCommand(), c.registryListCommand(), c.registryLogoutCommand())
	return command
}

func (c *cli) registryLoginCommand() *cobra.Command {
	var username, app string
	var fromStdin bool
	command := &cobra.Command{
		Use: "login HOST", Args: cobra.ExactArgs(1),
		Short: "Store a name and a password, sealed, for all apps or one; it is asked for without echo, or read from standard input",
		RunE: func(command *cobra.Command, args []string) error {
			password, err := c.password(command.Context(), fmt.Sprintf("Password for %s at %s: ", username, args[0]), fromStdin)
			if err != nil {
				return err
			}
			server, err := c.client()
			if err != nil {
				return err
			}
			body := map[string]string{"username": username, "password": password}
			if err := server.call(command.Context(), http.MethodPut, loginPath(args[0], app), body, nil); err != nil {
				return err
			}
			if app == "" {
				fmt.Fprintf(c.stderr, "the login for %s is stored; all apps use it from their next deployments on. For one app only: --app APP\n", args[0])
			} else {
				fmt.Fprintf(c.stderr, "the login for %s is stored; %s alone uses it, from its next deployment on\n", args[0], app)
			}
			return nil
		},
	}
	command.Flags().StringVar(&username, "username", "", "who to be there")
	command.Flags().StringVar(&app, "app", "", "the only app that uses it; without it, all apps do")
	command.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from standard input, also at a terminal")
	return command
}

// loginPath is where the API has the login for a registry, of an app or for all.
func loginPath(host, app string) string {
	path := "/api/v1/registries/" + url.PathEscape(host)
	if app != "" {
		path += "?app=" + url.QueryEscape(app)
	}
	return path
}

// password asks at a terminal, without echo; else it comes from standard input.
func (c *cli) password(ctx context.Context, prompt string, fromStdin bool) (string, error) {
	if fd, person := c.terminal(); person && !fromStdin {
		return c.askSecret(ctx, fd, prompt)
	}
	return c.readSecret()
}

func (c *cli) registryListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The logins for registries, and which apps use them", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var registries []store.Registry
			if err := c.get(command.Context(), "/api/v1/registries", &registries); err != nil {
				return err
			}
			return c.print(registries, func(w io.Writer) {
				rows := [][]string{{"HOST", "APP", "USERNAME", "STORED"}}
				for _, one := range registries {
					rows = append(rows, []string{one.Host, cmp.Or(one.App, "(all)"), one.Username, when(one.UpdatedAt)})
				}
				table(w, rows)
			})
		},
	}
}

func (c *cli) registryLogoutCommand() *cobra.Command {
	var app string
	command := &cobra.Command{
		Use: "logout HOST", Short: "Remove the login for a registry, the one for all apps or that of one", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			return server.call(command.Context(), http.MethodDelete, loginPath(args[0], app), nil, nil)
		},
	}
	command.Flags().StringVar(&app, "app", "", "the app whose login it is; without it, the one for all apps")
	return command
}

func (c *cli) gcCommand() *cobra.Command {
	var dry bool
	command := &cobra.Command{
		Use: "gc", Short: "Remove what nothing needs any more; the last five releases of each app stay", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var collected struct {
				Items   []store.Garbage `json:"items"`
				Bytes   int64           `json:"bytes"`
				Trouble string          `json:"trouble,omitempty"`
			}
			server, err := c.client()
			if err == nil {
				err = server.call(command.Context(), http.MethodPost, "/api/v1/gc", map[string]bool{"dry_run": dry}, &collected)
			}
			if store.CodeOf(err) == store.CodeUnreachable && c.dataDir != "" {
				return c.collectWithoutServer(command.Context(), err, dry)
			}
			if err != nil {
				return err
			}
			err = c.print(collected, func(w io.Writer) { describeGarbage(w, collected.Items, collected.Bytes, dry) })
			if err == nil && collected.Trouble != "" {
				err = store.Problemf(store.CodeErrored, "not everything could be looked through: %s", collected.Trouble).WithHint("shipgate doctor")
			}
			return err
		},
	}
	command.Flags().BoolVar(&dry, "dry-run", false, "only list it")
	return command
}

func describeGarbage(w io.Writer, items []store.Garbage, bytes int64, dry bool) {
	if len(items) == 0 {
		fmt.Fprintln(w, "there is nothing to remove")
		return
	}
	rows := [][]string{{"KIND", "APP", "NAME", "SIZE"}}
	for _, item := range items {
		size := ""
		if item.Bytes > 0 {
			size = units.BytesSize(float64(item.Bytes))
		}
		rows = append(rows, []string{item.Kind, item.App, item.Name, size})
	}
	table(w, rows)
	done := "removed"
	if dry {
		done = "would be removed"
	}
	fmt.Fprintf(w, "%d things %s, %s\n", len(items), done, units.BytesSize(float64(bytes)))
}
