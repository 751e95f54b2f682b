package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/shipgate/shipgate/store"
	"github.com/shipgate/shipgate/web"
)

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "What is wrong with the server and its surroundings", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var report web.Report
			if err := c.get(command.Context(), "/api/v1/doctor", &report); err != nil {
				return err
			}
			if err := c.print(report, func(w io.Writer) { showFindings(w, report.Findings) }); err != nil {
				return err
			}
			for _, finding := range report.Findings {
				if finding.Level == "fail" {
					return verdictError{store.Failed}
				}
			}
			return nil
		},
	}
}

func showFindings(w io.Writer, findings []web.Finding) {
	for _, finding := range findings {
		fmt.Fprintf(w, "%-5s %s\n", finding.Level, finding.Text)
		if finding.Hint != "" {
			fmt.Fprintf(w, "      hint: %s\n", finding.Hint)
		}
	}
}

const doctorPatience = 10 * time.Second

// examine asks everything around the server how it is.
func (s *services) examine(ctx context.Context) web.Report {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	report := web.Report{ServerID: s.store.ServerID()}
	add := func(what string, err error) {
		finding := web.Finding{Level: "ok", Text: what}
		if err != nil {
			finding.Level, finding.Text = "fail", what+": "+err.Error()
			if problem, known := store.AsProblem(err); known {
				finding.Hint = problem.Hint
			}
		}
		report.Findings = append(report.Findings, finding)
	}
	add("Docker engine answers", s.engine.Ping(ctx))
	status, err := s.proxy.Status(ctx)
	report.ProxyPID = status.PID
	add(fmt.Sprintf("proxy serves %s with %d routes, process %d", status.PublicAddr, status.Routes, status.PID), err)
	add("disk space", s.builder.Preflight(ctx))
	pool, err := s.engine.Pool(ctx)
	add(fmt.Sprintf("addresses for containers: %s", pool.Subnet), err)
	return report
}
