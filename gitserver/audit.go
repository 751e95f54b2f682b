package gitserver

import (
	"context"
	"net"
	"net/http"

	"github.com/shipgate/shipgate/store"
)

// remoteOf returns the address that a request came from.
func remoteOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// auditRefusal logs once a minute that a token's rights do not suffice. Invalid tokens are counted by the store.
func (s *Server) auditRefusal(r *http.Request, token store.Token, app string, refused error) {
	if token.ID == 0 || store.CodeOf(refused) != store.CodeUnauthorised {
		return
	}
	s.writeAudit(r, s.store.AuditQuietly, store.AuditEntry{
		Token: token.ID, Who: token.Name, Action: "push", App: app, Outcome: store.AuditRefused, Reason: refused.Error(), Remote: remoteOf(r),
	})
}

// auditPush logs what was pushed, and the deployment that came of it.
func (s *Server) auditPush(r *http.Request, token store.Token, app string, d *store.Deployment, refs string, refused error) {
	entry := store.AuditEntry{
		Token: token.ID, Who: token.Name, Action: "push", App: app, Detail: refs, Outcome: store.AuditDone, Remote: remoteOf(r),
	}
	if d != nil {
		entry.Deployment = d.ID
	}
	if refused != nil {
		entry.Outcome, entry.Reason = store.AuditRefused, "internal error"
		if problem, known := store.AsProblem(refused); known {
			entry.Reason = problem.Message
		}
	}
	s.writeAudit(r, s.store.Audit, entry)
}

// writeAudit does not fail a push because the audit log cannot be written.
func (s *Server) writeAudit(r *http.Request, write func(context.Context, store.AuditEntry) error, entry store.AuditEntry) {
	if err := write(context.WithoutCancel(r.Context()), entry); err != nil {
		s.log.Error("write audit log", "app", entry.App, "error", err)
	}
}
