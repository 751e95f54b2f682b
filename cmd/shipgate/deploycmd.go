package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
)

func (c *cli) planCommand() *cobra.Command {
	var strategy string
	command := &cobra.Command{
		Use: "plan APP", Short: "Which strategy will run, why, and the gap to expect", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			var plan struct {
				store.Plan
				Uncovered []string `json:"uncovered_volumes,omitempty"`
			}
			path := "/api/v1/apps/" + url.PathEscape(args[0]) + "/plan?strategy=" + url.QueryEscape(strategy)
			if err := c.get(command.Context(), path, &plan); err != nil {
				return err
			}
			return c.print(plan, func(w io.Writer) {
				fmt.Fprintln(w, plan.Plan)
				for _, where := range plan.Uncovered {
					fmt.Fprintf(w, "VOLUME %s of the image has no volume of the app: its data is lost with the next deployment; keep it with: shipgate app update %s --volume data:%s\n", where, args[0], where)
				}
				if plan.Forced {
					fmt.Fprintln(w, "blue-green was asked for and is not possible")
				}
			})
		},
	}
	command.Flags().StringVar(&strategy, "strategy", "", "as if this one were asked for with the deployment: recreate or blue-green")
	return command
}

func (c *cli) deployCommand() *cobra.Command {
	var ref, image, strategy string
	var detach bool
	command := &cobra.Command{
		Use: "deploy APP", Short: "Deploy a commit that was pushed before, or an image", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			body := map[string]any{"ref": ref}
			if ref != "" && image != "" {
				return store.Problemf(store.CodeUsage, "--ref and --image exclude each other").WithHint("shipgate deploy %s --ref %s", args[0], ref)
			}
			if image != "" {
				body = map[string]any{"image": image}
			}
			if strategy != "" {
				body["strategy"] = strategy
			}
			return c.deploy(command.Context(), args[0], body, detach)
		},
	}
	command.Flags().StringVar(&ref, "ref", "", "branch, tag or commit (default: the deploy branch)")
	command.Flags().StringVar(&image, "image", "", "image, for apps with --source image")
	command.Flags().StringVar(&strategy, "strategy", "", "recreate or blue-green, for this deployment only")
	command.Flags().BoolVar(&detach, "no-wait", false, "print the number and return at once")
	return command
}

func (c *cli) rollbackCommand() *cobra.Command {
	var to int64
	var detach bool
	command := &cobra.Command{
		Use: "rollback APP", Short: "Go back to a release that was live before", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return c.deploy(command.Context(), args[0], map[string]any{"rollback_to": to}, detach)
		},
	}
	command.Flags().Int64Var(&to, "to", 0, "the deployment to go back to (default: the version before the present one)")
	command.Flags().BoolVar(&detach, "no-wait", false, "print the number and return at once")
	return command
}

// deploy asks for a deployment and follows it to its verdict.
func (c *cli) deploy(ctx context.Context, app string, body map[string]any, detach bool) error {
	return c.deployBy(ctx, "/api/v1/apps/"+url.PathEscape(app)+"/deployments", body, detach)
}

func (c *cli) deployBy(ctx context.Context, path string, body any, detach bool) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	var d shownDeployment
	if err := server.call(ctx, http.MethodPost, path, body, &d); err != nil {
		return err
	}
	if detach {
		return c.print(d, func(w io.Writer) { fmt.Fprintf(w, "deployment %d\n", d.ID) })
	}
	if !c.json {
		fmt.Fprintf(c.stdout, "%s · %s · deployment %d\n", d.App, d.Title(), d.ID)
	}
	ended, err := server.follow(ctx, d.ID, c.showLine)
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(c.stderr, "the deployment goes on; to stop it: shipgate cancel %d\n", d.ID)
		return verdictError{store.Cancelled}
	}
	if err != nil {
		return err
	}
	if c.json {
		if err := c.print(ended, nil); err != nil {
			return err
		}
	}
	if ended.Verdict != store.Succeeded {
		if ended.Hint != "" {
			fmt.Fprintf(c.stderr, "hint:  %s\n", ended.Hint)
		}
		return verdictError{ended.Verdict}
	}
	return nil
}

// showLine prints an event as a push shows it.
func (c *cli) showLine(event store.Event) {
	if !c.json && spoken(event) {
		fmt.Fprintln(c.stdout, pushLine(event))
	}
}

// spoken leaves out what the other lines say already.
func spoken(event store.Event) bool { return event.Kind != "step" && event.Kind != "queued" }

func pushLine(event store.Event) string {
	return fmt.Sprintf("%-7s %s", event.Kind, store.PlainLine(event.Text))
}

func (c *cli) deploymentsCommand() *cobra.Command {
	limit := 20
	command := &cobra.Command{
		Use: "deployments APP", Short: "The newest deployments", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			var list []shownDeployment
			if err := c.get(command.Context(), fmt.Sprintf("/api/v1/apps/%s/deployments?limit=%d", url.PathEscape(args[0]), limit), &list); err != nil {
				return err
			}
			return c.print(list, func(w io.Writer) {
				rows := [][]string{{"ID", "COMMIT", "TRIGGER", "STRATEGY", "VERDICT", "WHEN", "SUBJECT"}}
				for _, d := range list {
					rows = append(rows, []string{strconv.FormatInt(d.ID, 10), d.ShortSHA(), string(d.Trigger), string(d.Strategy), standing(d.Deployment), when(d.CreatedAt), d.Subject})
				}
				table(w, rows)
			})
		},
	}
	command.Flags().IntVar(&limit, "limit", limit, "how many, 200 at the most")
	return command
}

// standing is the verdict, or the step of a deployment that has none yet.
func standing(d store.Deployment) string {
	if d.Verdict == "" {
		return string(d.Step) + "…"
	}
	return string(d.Verdict)
}

func (c *cli) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show DEPLOYMENT", Short: "Everything about one deployment", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			var d shownDeployment
			if err := c.get(command.Context(), "/api/v1/deployments/"+url.PathEscape(args[0]), &d); err != nil {
				return err
			}
			return c.print(d, func(w io.Writer) { describe(w, d) })
		},
	}
}

func describe(w io.Writer, d shownDeployment) {
	rows := [][]string{
		{"deployment", fmt.Sprintf("%d of %s, asked for by %s", d.ID, d.App, d.Trigger)},
		{"commit", d.Title()},
		{"strategy", fmt.Sprintf("%s: %s", d.Strategy, d.StrategyReason)},
		{"verdict", standing(d.Deployment)},
	}
	if d.BuiltFrom != "" {
		rows = append(rows, []string{"built from", d.BuiltFrom})
	}
	if d.ImageDigest != "" {
		rows = append(rows, []string{"digest", d.ImageDigest})
	}
	if d.Reason != "" {
		rows = append(rows, []string{"reason", d.Reason})
	}
	if d.Hint != "" {
		rows = append(rows, []string{"hint", d.Hint})
	}
	if d.Verdict == store.Succeeded && d.URL != "" {
		rows = append(rows, []string{"url", d.URL})
	}
	table(w, rows)
	fmt.Fprintln(w)
	before := d.CreatedAt
	for _, event := range d.Events {
		if event.Step != "" {
			fmt.Fprintf(w, "%s  %-8s +%s\n", event.At.Local().Format("15:04:05.000"), event.Step, event.At.Sub(before).Round(time.Millisecond))
			before = event.At
		}
	}
	fmt.Fprintln(w)
	for _, event := range lastLines(d.Events, 20) {
		fmt.Fprintln(w, pushLine(event))
	}
}

// lastLines gives the end of a history without its steps.
func lastLines(events []store.Event, limit int) []store.Event {
	lines := slices.DeleteFunc(slices.Clone(events), func(event store.Event) bool { return !spoken(event) })
	return lines[max(0, len(lines)-limit):]
}

func (c *cli) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel DEPLOYMENT", Short: "Stop a deployment that is not healthy yet", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			var d shownDeployment
			if err := server.call(command.Context(), http.MethodPost, "/api/v1/deployments/"+url.PathEscape(args[0])+"/cancel", nil, &d); err != nil {
				return err
			}
			if d, err = server.follow(command.Context(), d.ID, func(store.Event) {}); err != nil {
				return err
			}
			return c.print(d, func(w io.Writer) { fmt.Fprintf(w, "deployment %d: %s\n", d.ID, d.Verdict) })
		},
	}
}

func (c *cli) logsCommand() *cobra.Command {
	var follow, raw bool
	var deployment int64
	tail := 100
	command := &cobra.Command{
		Use: "logs APP", Short: "What the running container writes, or the log of one deployment", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			if follow && deployment != 0 {
				_, err := server.follow(command.Context(), deployment, c.showLine)
				return err
			}
			query := url.Values{"tail": {strconv.Itoa(tail)}, "follow": {strconv.FormatBool(follow)}, "raw": {strconv.FormatBool(raw)}}
			if deployment != 0 {
				query.Set("deployment", strconv.FormatInt(deployment, 10))
			}
			response, err := server.do(command.Context(), http.MethodGet, "/api/v1/apps/"+url.PathEscape(args[0])+"/logs?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			if err := copyLog(c.stdout, response.Body, raw); err != nil && command.Context().Err() == nil {
				return server.unreachable(err)
			}
			return nil
		},
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on as lines come")
	command.Flags().IntVar(&tail, "tail", tail, "how many lines to begin with")
	command.Flags().BoolVar(&raw, "raw", false, "byte for byte, also what commands a terminal")
	command.Flags().Int64Var(&deployment, "deployment", 0, "the whole log of this deployment instead")
	return command
}

// copyLog hands a log on, without what commands a terminal unless it is wanted raw.
func copyLog(to io.Writer, from io.Reader, raw bool) error {
	if raw {
		_, err := io.Copy(to, from)
		return err
	}
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			fmt.Fprintln(to, store.PlainLine(strings.TrimSuffix(line, "\n")))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
