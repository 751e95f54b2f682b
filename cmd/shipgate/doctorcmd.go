package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
	"github.com/shipgate/shipgate/web"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "What is wrong with the server and its surroundings", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var report web.Report
			err := c.get(command.Context(), "/api/v1/doctor", &report)
			if store.CodeOf(err) == store.CodeUnreachable {
				report, err = c.examineWithoutServer(command.Context(), err)
			}
			if err != nil {
				return err
			}
			if err := c.print(report, func(w io.Writer) { showFindings(w, report.Findings) }); err != nil {
				return err
			}
			if slices.ContainsFunc(report.Findings, func(f store.Finding) bool { return f.Level == store.LevelFail }) {
				return verdictError{store.Failed}
			}
			return nil
		},
	}
}

func showFindings(w io.Writer, findings []store.Finding) {
	for _, finding := range findings {
		fmt.Fprintf(w, "%-5s %s\n", finding.Level, finding.Text)
		if finding.Hint != "" {
			fmt.Fprintf(w, "      hint: %s\n", finding.Hint)
		}
	}
}

// examineWithoutServer looks at what a server that does not answer would work with, where this is its machine.
func (c *cli) examineWithoutServer(ctx context.Context, silence error) (web.Report, error) {
	down := finding("the server answers", silence)
	if c.dataDir == "" {
		return web.Report{Findings: []store.Finding{down}}, nil
	}
	down.Hint = "shipgate serve --data " + c.dataDir
	s, err := c.surroundings()
	if err != nil {
		return web.Report{}, err
	}
	report := s.examine(ctx)
	report.Findings = slices.Insert(report.Findings, 0, down)
	return report, s.close()
}
