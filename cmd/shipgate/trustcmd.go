package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

// trustCommand lists rules, or adds one when a repository is named.
func (c *cli) trustCommand() *cobra.Command {
	var rule store.Trust
	var remove int64
	command := &cobra.Command{
		Use: "trust APP", Short: "Which workflows may deploy an app without a stored token", Args: cobra.ExactArgs(1),
		Example: `  shipgate trust web                                                     # the rules
  shipgate trust web --repo acme/web --ref refs/heads/main
  shipgate trust web --repo acme/web --environment production
  shipgate trust web --remove 3`,
		RunE: func(command *cobra.Command, args []string) error {
			path := "/api/v1/apps/" + url.PathEscape(args[0]) + "/trust"
			server, err := c.client()
			switch {
			case err != nil:
				return err
			case remove != 0:
				return server.call(command.Context(), http.MethodDelete, path+"/"+strconv.FormatInt(remove, 10), nil, nil)
			case rule.Repository != "":
				return c.addTrust(command, server, path, rule)
			}
			var rules []store.Trust
			if err := server.call(command.Context(), http.MethodGet, path, nil, &rules); err != nil {
				return err
			}
			return c.print(rules, func(w io.Writer) { showTrust(w, rules) })
		},
	}
	flags := command.Flags()
	flags.StringVar(&rule.Repository, "repo", "", "OWNER/NAME whose workflows are trusted")
	flags.StringVar(&rule.RepositoryID, "repo-id", "", "its number, where GitHub is not connected")
	flags.StringVar(&rule.OwnerID, "owner-id", "", "its owner's number, where GitHub is not connected")
	flags.StringVar(&rule.Ref, "ref", "", "only for this ref, such as refs/heads/main or refs/tags/v*")
	flags.StringVar(&rule.Environment, "environment", "", "only for jobs of this environment")
	flags.StringSliceVar(&rule.Events, "event", nil, "only for these events (default: all but pull_request and pull_request_target)")
	flags.StringVar(&rule.Workflow, "workflow", "", "only for this job_workflow_ref")
	flags.StringVar(&rule.Issuer, "issuer", "", "whose identity tokens count (default: github.com's)")
	flags.Int64Var(&remove, "remove", 0, "the number of a rule to remove")
	return command
}

func (c *cli) addTrust(command *cobra.Command, server *client, path string, rule store.Trust) error {
	body := map[string]any{
		"repository": rule.Repository, "repository_id": rule.RepositoryID, "repository_owner_id": rule.OwnerID, "ref": rule.Ref,
		"environment": rule.Environment, "issuer": rule.Issuer, "job_workflow_ref": rule.Workflow,
	}
	if len(rule.Events) > 0 {
		body["events"] = rule.Events
	}
	var added store.Trust
	if err := server.call(command.Context(), http.MethodPost, path, body, &added); err != nil {
		return err
	}
	return c.print(added, func(w io.Writer) {
		fmt.Fprintf(w, "workflows of %s (repository %s, owner %s) may deploy %s\n", added.Repository, added.RepositoryID, added.OwnerID, added.App)
	})
}

func showTrust(w io.Writer, rules []store.Trust) {
	rows := [][]string{{"ID", "REPOSITORY", "REF", "ENVIRONMENT", "EVENTS"}}
	for _, rule := range rules {
		rows = append(rows, []string{strconv.FormatInt(rule.ID, 10), rule.Repository, orAny(rule.Ref), orAny(rule.Environment), orAny(strings.Join(rule.Events, ","))})
	}
	table(w, rows)
}

func orAny(text string) string {
	if text == "" {
		return "any"
	}
	return text
}

func (c *cli) auditCommand() *cobra.Command {
	var app string
	var limit int
	command := &cobra.Command{
		Use: "audit", Short: "Show the audit log, the newest entry first", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var entries []store.AuditEntry
			query := url.Values{"app": {app}, "limit": {strconv.Itoa(limit)}}
			if err := c.get(command.Context(), "/api/v1/audit?"+query.Encode(), &entries); err != nil {
				return err
			}
			return c.print(entries, func(w io.Writer) {
				rows := [][]string{{"AT", "FROM", "WHAT"}}
				for _, e := range entries {
					rows = append(rows, []string{when(e.At), e.Remote, e.Sentence()})
				}
				table(w, rows)
			})
		},
	}
	command.Flags().StringVar(&app, "app", "", "only of this app")
	command.Flags().IntVar(&limit, "limit", 100, "how many, 1000 at the most")
	return command
}

// lifetime is a flag for a duration in which days may be said, too.
type lifetime time.Duration

func (l *lifetime) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > 3650 {
			return fmt.Errorf("%q is not a number of days from 1 to 3650", days)
		}
		*l = lifetime(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	duration, err := time.ParseDuration(text)
	if err == nil && duration < time.Second {
		err = fmt.Errorf("%q is no time", text)
	}
	*l = lifetime(duration)
	return err
}

func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return time.Duration(*l).String()
}

func (*lifetime) Type() string { return "duration" }
