package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

func (c *cli) githubCommand() *cobra.Command {
	command := &cobra.Command{Use: "github", Short: "Deploy what is pushed to GitHub, and say there how it went", Args: cobra.ArbitraryArgs, RunE: chooseCommand}
	command.AddCommand(c.githubConnectCommand(), c.githubShowCommand(), c.githubDisconnectCommand(), c.githubDeliveriesCommand())
	return command
}

// githubFlags say how to speak to GitHub. Secrets come from files, so that no list of processes shows them.
type githubFlags struct {
	appID                                         int64
	privateKey, token, secret, apiURL, webURL, of string
}

func (c *cli) githubConnectCommand() *cobra.Command {
	var flags githubFlags
	command := &cobra.Command{
		Use: "connect", Args: cobra.NoArgs,
		Short: "Connect with GitHub: as a new App in the browser, as an App that exists, or by a token",
		Example: `  shipgate github connect                                     # prints the page that makes an App for this server
  shipgate github connect --app-id 123 --private-key app.pem  # an App that exists
  shipgate github connect --token-file token                  # a token; the webhook is set up by hand`,
		RunE: func(command *cobra.Command, _ []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			if flags.appID == 0 && flags.token == "" && flags.privateKey == "" {
				return c.beginSetup(command, server, flags)
			}
			access, err := flags.access(c.stdin)
			if err != nil {
				return err
			}
			var connection store.ForgeConnection
			if err := server.call(command.Context(), http.MethodPut, "/api/v1/github", access, &connection); err != nil {
				return err
			}
			return c.print(connection, func(w io.Writer) { showConnection(w, connection) })
		},
	}
	command.Flags().Int64Var(&flags.appID, "app-id", 0, "number of a GitHub App that exists")
	command.Flags().StringVar(&flags.privateKey, "private-key", "", "file with the App's private key")
	command.Flags().StringVar(&flags.token, "token-file", "", "file with a token, or - for standard input")
	command.Flags().StringVar(&flags.secret, "webhook-secret-file", "", "file with the webhook's secret, or - (default: one is made up and printed)")
	command.Flags().StringVar(&flags.apiURL, "api-url", "", "API of a GitHub Enterprise Server, such as https://github.example.com/api/v3")
	command.Flags().StringVar(&flags.webURL, "web-url", "", "where its pages and its git are, if not at the same host")
	command.Flags().StringVar(&flags.of, "organization", "", "the organization that the new App is to belong to")
	return command
}

func (c *cli) beginSetup(command *cobra.Command, server *client, flags githubFlags) error {
	var setup struct {
		URL string `json:"url"`
	}
	body := map[string]string{"account": flags.of, "api_url": flags.apiURL}
	if err := server.call(command.Context(), http.MethodPost, "/api/v1/github/setup", body, &setup); err != nil {
		return err
	}
	return c.print(setup, func(w io.Writer) {
		fmt.Fprintf(w, "Open this page within an hour; it has GitHub make an App for this server:\n\n  %s\n", setup.URL)
	})
}

// access reads the secrets. What is missing is said here, before anything is sent.
func (f githubFlags) access(stdin io.Reader) (access store.ForgeAccess, err error) {
	access = store.ForgeAccess{Kind: store.AccessToken, APIURL: f.apiURL, WebURL: f.webURL, AppID: f.appID}
	if f.appID != 0 || f.privateKey != "" {
		access.Kind = store.AccessApp
	}
	switch {
	case access.Kind == store.AccessApp && f.token != "":
		return access, store.Problemf(store.CodeUsage, "an App and a token exclude each other").WithHint("shipgate github connect --help")
	case access.Kind == store.AccessApp && (f.appID == 0 || f.privateKey == ""):
		return access, store.Problemf(store.CodeUsage, "--app-id and --private-key go together").
			WithHint("shipgate github connect --app-id NUMBER --private-key FILE")
	}
	for _, secret := range []struct {
		file string
		into *string
	}{{f.privateKey, &access.PrivateKey}, {f.token, &access.Token}, {f.secret, &access.WebhookSecret}} {
		if *secret.into, err = readSecret(secret.file, stdin); err != nil {
			return access, err
		}
	}
	return access, nil
}

// readSecret reads a file, or standard input for "-". No file is no secret.
func readSecret(file string, stdin io.Reader) (string, error) {
	if file == "" {
		return "", nil
	}
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(stdin, 1<<20))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return "", store.Problemf(store.CodeUsage, "read secret: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", store.Problemf(store.CodeUsage, "%s holds no secret", file)
	}
	return secret, nil
}

func showConnection(w io.Writer, connection store.ForgeConnection) {
	by := "a token"
	if connection.Kind == store.AccessApp {
		by = fmt.Sprintf("the App %s (%d)", connection.AppSlug, connection.AppID)
	}
	fmt.Fprintf(w, "connected with %s by %s, %s\n", connection.WebURL, by, when(connection.ConnectedAt))
	if connection.WebhookSecret == "" {
		fmt.Fprintf(w, "webhook    %s\n", connection.WebhookURL)
	} else {
		fmt.Fprintf(w, "\nIn the settings of the App, or of each repository, add a webhook:\n  Payload URL   %s\n  Content type  application/json\n  Secret        %s\n  Events        push, and Repositories for renames\n",
			connection.WebhookURL, connection.WebhookSecret)
	}
	if connection.InstallURL != "" {
		fmt.Fprintf(w, "let it into repositories at %s\n", connection.InstallURL)
	}
	fmt.Fprintln(w, "shipgate doctor says whether everything is right")
}

func (c *cli) githubShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "How this server is connected with GitHub", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var connection store.ForgeConnection
			if err := c.get(command.Context(), "/api/v1/github", &connection); err != nil {
				return err
			}
			return c.print(connection, func(w io.Writer) { showConnection(w, connection) })
		},
	}
}

func (c *cli) githubDisconnectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "disconnect", Short: "Forget the credentials for GitHub; webhooks are refused from then on", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			if err := server.call(command.Context(), http.MethodDelete, "/api/v1/github", nil, nil); err != nil {
				return err
			}
			fmt.Fprintln(c.stderr, "disconnected from GitHub")
			return nil
		},
	}
}

func (c *cli) githubDeliveriesCommand() *cobra.Command {
	var limit int
	command := &cobra.Command{
		Use: "deliveries", Short: "The webhook deliveries that came, and what became of each", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var deliveries []store.Delivery
			if err := c.get(command.Context(), fmt.Sprintf("/api/v1/github/deliveries?limit=%d", limit), &deliveries); err != nil {
				return err
			}
			return c.print(deliveries, func(w io.Writer) {
				rows := [][]string{{"DELIVERY", "EVENT", "CAME", "OUTCOME"}}
				for _, delivery := range deliveries {
					outcome := delivery.Outcome
					if delivery.EndedAt.IsZero() {
						outcome = strings.TrimSpace("waits " + outcome)
					}
					rows = append(rows, []string{delivery.GUID, delivery.Event, when(delivery.ReceivedAt), outcome})
				}
				table(w, rows)
			})
		},
	}
	command.Flags().IntVar(&limit, "limit", 20, "how many")
	return command
}
