package web

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

const deploymentKey = "deployment" // of what a request has made, for the audit trail

// trail writes who asked for what, and what came of it. A read is written before its answer, which may be a stream; of the
// same reads, one a minute.
func (s *server) trail(c echo.Context, token store.Token, app string, answer func() error) error {
	entry := s.auditEntry(c, token, app)
	if c.Request().Method == http.MethodGet {
		entry.Outcome = store.AuditDone
		s.audit(c, s.Store.AuditQuietly, entry)
		return answer()
	}
	err := answer()
	entry.Outcome = store.AuditDone
	if made, ok := c.Get(deploymentKey).(int64); ok {
		entry.Deployment = made
	}
	if err != nil {
		entry.Outcome, entry.Reason = store.AuditRefused, "internal error" // what it was is in the log
		if problem, known := store.AsProblem(err); known {
			entry.Reason = problem.Message
		}
	}
	s.audit(c, s.Store.Audit, entry)
	return err
}

// refusedEntry writes that somebody was turned away, once a minute for each who is and why.
func (s *server) refusedEntry(c echo.Context, token store.Token, app string, cause error) error {
	if problem, known := store.AsProblem(cause); known && problem.Code == store.CodeUnauthorised {
		entry := s.auditEntry(c, token, app)
		entry.Outcome, entry.Reason = store.AuditRefused, problem.Message
		s.audit(c, s.Store.AuditQuietly, entry)
	}
	return cause
}

func (s *server) auditEntry(c echo.Context, token store.Token, app string) store.AuditEntry {
	entry := store.AuditEntry{
		Token: token.ID, Who: token.Name, Action: c.Request().Method + " " + c.Path(), App: app, Remote: c.RealIP(),
	}
	if d, err := s.deploymentOf(c); err == nil && c.Param("deployment") != "" {
		entry.Deployment, entry.App = d.ID, d.App
	}
	return entry
}

// done is the entry of what a signed-in person did on a page.
func (s *server) done(c echo.Context, token store.Token) store.AuditEntry {
	entry := s.auditEntry(c, token, "")
	entry.Outcome = store.AuditDone
	return entry
}

// audit does not fail what was done because the trail cannot be written: that is said in the log.
func (s *server) audit(c echo.Context, write func(context.Context, store.AuditEntry) error, entry store.AuditEntry) {
	if err := write(context.WithoutCancel(c.Request().Context()), entry); err != nil {
		s.Logger.Error("write audit trail", "action", entry.Action, "app", entry.App, "error", err)
	}
}

const mostAudit = 1000

func (s *server) showAudit(c echo.Context) error {
	limit, err := number(c, "limit", 100, mostAudit)
	if err != nil {
		return err
	}
	entries, err := s.Store.AuditTrail(c.Request().Context(), c.QueryParam("app"), limit)
	if err != nil {
		return err
	}
	if entries == nil {
		entries = []store.AuditEntry{}
	}
	return c.JSON(http.StatusOK, entries)
}
