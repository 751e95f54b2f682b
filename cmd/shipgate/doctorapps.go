package main

import (
	"context"
	"fmt"

	"github.com/shipgate/shipgate/store"
)

// appFindings says which apps do not do their work, and which were stopped.
func (s *services) appFindings(ctx context.Context) []store.Finding {
	apps, err := s.store.AppStatuses(ctx, "")
	if err != nil {
		return []store.Finding{finding("", err)}
	}
	findings := []store.Finding{}
	live := 0
	for _, app := range apps {
		switch {
		case app.Down():
			findings = append(findings, store.Finding{
				Level: store.LevelFail, Hint: "shipgate logs " + app.App,
				Text: fmt.Sprintf("%s is %s since %s, after %d restarts", app.App, app.Text(), when(app.Since), app.Restarts),
			})
		case app.State == store.AppStopped:
			findings = append(findings, store.Finding{
				Level: store.LevelWarn, Text: fmt.Sprintf("%s was stopped %s", app.App, when(app.Since)), Hint: "shipgate app start " + app.App,
			})
		case app.Up:
			live++
		}
	}
	if live > 0 {
		findings = append(findings, store.Finding{Level: store.LevelOK, Text: fmt.Sprintf("%d of %d apps run", live, len(apps))})
	}
	return findings
}
