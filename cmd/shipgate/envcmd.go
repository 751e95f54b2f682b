package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

// envCommand takes the app before the verb, as people say it: shipgate env hello set A=b.
func (c *cli) envCommand() *cobra.Command {
	var reveal bool
	var file string
	command := &cobra.Command{
		Use: "env APP [set NAME=VALUE… | unset NAME… | list]", Short: "The app's environment; it takes effect with the next deployment",
		Long: "Set, unset and list the app's environment. Changes take effect with the next deployment.\n\n" +
			"NAME=- reads the value from standard input; NAME alone asks for it at a terminal, without echo.",
		Example: "  shipgate env hello set DATABASE_URL\n  shipgate env hello set KEY=- < key.pem\n  shipgate env hello set --from-file .env",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			verb := "list"
			if len(args) > 1 {
				verb = args[1]
			}
			path := "/api/v1/apps/" + url.PathEscape(args[0]) + "/env"
			switch verb {
			case "list":
				return c.listEnv(command.Context(), path, reveal)
			case "set":
				return c.setEnv(command.Context(), path, args[2:], file)
			case "unset":
				return c.changeEnv(command.Context(), path, map[string]any{"unset": args[2:]}, len(args) > 2)
			}
			return store.Problemf(store.CodeUsage, "env has no verb %q", verb).WithHint("shipgate env %s set NAME=VALUE", args[0])
		},
	}
	command.Flags().StringVar(&file, "from-file", "", "set: NAME=VALUE lines, as in a .env file; - for standard input")
	command.Flags().BoolVar(&reveal, "reveal", false, "list: show the values, too")
	return command
}

func (c *cli) listEnv(ctx context.Context, path string, reveal bool) error {
	var list []struct {
		Name  string  `json:"name"`
		Value *string `json:"value,omitempty"`
	}
	if err := c.get(ctx, path+"?reveal="+strconv.FormatBool(reveal), &list); err != nil {
		return err
	}
	return c.print(list, func(w io.Writer) {
		for _, one := range list {
			if one.Value == nil {
				fmt.Fprintln(w, one.Name)
				continue
			}
			fmt.Fprintf(w, "%s=%s\n", one.Name, *one.Value)
		}
	})
}

func (c *cli) setEnv(ctx context.Context, path string, args []string, file string) error {
	values, err := c.envValues(ctx, args, file)
	if err != nil {
		return err
	}
	return c.changeEnv(ctx, path, map[string]any{"set": values}, len(values) > 0)
}

func (c *cli) changeEnv(ctx context.Context, path string, body map[string]any, named bool) error {
	if !named {
		return store.Problemf(store.CodeUsage, "no variable is named").WithHint("shipgate env APP set NAME=VALUE, or: shipgate env APP set --from-file .env")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if err := server.call(ctx, http.MethodPatch, path, body, nil); err != nil {
		return err
	}
	fmt.Fprintln(c.stderr, "takes effect with the next deployment")
	return nil
}

func (c *cli) tokenCommand() *cobra.Command {
	command := &cobra.Command{Use: "token", Short: "Tokens for pushes and the API", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.tokenCreateCommand(), c.tokenListCommand(), c.tokenRevokeCommand())
	return command
}

func (c *cli) tokenCreateCommand() *cobra.Command {
	var app, scope, name string
	var rights []string
	var expires lifetime
	command := &cobra.Command{
		Use: "create", Short: "Create a token; its secret is shown once", Args: cobra.NoArgs,
		Example: `  shipgate token create --rights read,deploy --app web --expires 90d
  shipgate token create --rights env --app web --name settings
  shipgate token create --rights read --name prometheus`,
		RunE: func(command *cobra.Command, _ []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			var token struct {
				store.Token
				Secret string `json:"secret"`
			}
			body := map[string]any{"name": name, "app": app, "seconds": int64(time.Duration(expires).Seconds())}
			if scope != "" {
				body["scope"] = scope
			} else {
				body["rights"] = rights
			}
			if err := server.call(command.Context(), http.MethodPost, "/api/v1/tokens", body, &token); err != nil {
				return err
			}
			return c.print(token, func(w io.Writer) { fmt.Fprintln(w, token.Secret) })
		},
	}
	command.Flags().StringVar(&app, "app", "", "only for this app")
	command.Flags().StringSliceVar(&rights, "rights", []string{"read", "deploy"}, "what it allows: read, deploy, env, run, admin; each includes read, and admin all")
	command.Flags().StringVar(&scope, "scope", "", "")
	_ = command.Flags().MarkDeprecated("scope", "use --rights")
	command.MarkFlagsMutuallyExclusive("rights", "scope")
	command.Flags().StringVar(&name, "name", "", "what it is for")
	command.Flags().Var(&expires, "expires", "how long it is valid, such as 90d or 12h (default: until revoked)")
	return command
}

func (c *cli) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All tokens, without their secrets", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var tokens []store.Token
			if err := c.get(command.Context(), "/api/v1/tokens", &tokens); err != nil {
				return err
			}
			return c.print(tokens, func(w io.Writer) {
				rows := [][]string{{"ID", "NAME", "RIGHTS", "APP", "LAST USED", "EXPIRES"}}
				for _, token := range tokens {
					rows = append(rows, []string{strconv.FormatInt(token.ID, 10), token.Name, token.Rights.String(), token.App, when(token.LastUsedAt), when(token.ExpiresAt)})
				}
				table(w, rows)
			})
		},
	}
}

func (c *cli) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			return server.call(command.Context(), http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(args[0]), nil, nil)
		},
	}
}
