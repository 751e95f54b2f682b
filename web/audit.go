package web

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// What handlers tell the audit log.
const (
	deploymentKey = "deployment" // the deployment that a request has made
	detailKey     = "detail"     // what the action was about
	actionKey     = "action"
	appKey        = "app" // the app that a request has made
)

// noteDetail tells the audit log what a request was about: names, never secret values.
func noteDetail(c echo.Context, format string, args ...any) {
	c.Set(detailKey, fmt.Sprintf(format, args...))
}

// logged writes to the audit log who asked for what, and what came of it. Reads are not logged.
func (s *server) logged(c echo.Context, token store.Token, app string, answer func() error) error {
	if c.Get(actionKey) == "" {
		return answer()
	}
	entry := s.auditEntry(c, token, app)
	err := answer()
	entry.Outcome = store.AuditDone
	s.complete(c, &entry)
	if err != nil {
		entry.Outcome, entry.Reason = store.AuditRefused, "internal error" // what it was is in the log
		if problem, known := store.AsProblem(err); known {
			entry.Reason = problem.Message
		}
	}
	s.audit(c, s.Store.Audit, entry)
	return err
}

// complete adds what the handler has told.
func (s *server) complete(c echo.Context, entry *store.AuditEntry) {
	if made, ok := c.Get(deploymentKey).(int64); ok {
		entry.Deployment = made
	}
	if app, ok := c.Get(appKey).(string); ok {
		entry.App = app
	}
	entry.Detail, _ = c.Get(detailKey).(string)
}

// refusedEntry logs once a minute that a token's rights do not suffice. Invalid tokens are counted by the store.
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
	if action, _ := c.Get(actionKey).(string); action != "" {
		entry.Action = action
	}
	if d, err := s.deploymentOf(c); err == nil && c.Param("deployment") != "" {
		entry.Deployment, entry.App = d.ID, d.App
	}
	return entry
}

// done is the entry of what a signed-in person did on a page.
func (s *server) done(c echo.Context, token store.Token, action string) store.AuditEntry {
	c.Set(actionKey, action)
	entry := s.auditEntry(c, token, "")
	entry.Outcome = store.AuditDone
	s.complete(c, &entry)
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
