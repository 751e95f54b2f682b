package store

import (
	"fmt"
	"strings"
)

// pastTense has the first words of what the audit log calls actions.
var pastTense = map[string]string{
	"create": "created", "change": "changed", "destroy": "destroyed", "deploy": "deployed", "upload": "uploaded", "cancel": "cancelled",
	"revoke": "revoked", "connect": "connected", "disconnect": "disconnected", "begin": "began", "store": "stored", "remove": "removed",
	"collect": "collected", "add": "added", "push": "pushed", "reveal": "revealed", "sign": "signed", "exchange": "exchanged",
	"roll": "rolled", "stop": "stopped", "start": "started", "restart": "restarted", "allow": "allowed", "purge": "purged",
}

// Sentence says what was done, or refused, to what and by whom: "deployed hello (deployment 41) by token ci (19)".
func (e AuditEntry) Sentence() string {
	verb, rest, _ := strings.Cut(e.Action, " ")
	past, known := pastTense[verb]
	var out strings.Builder
	if e.Outcome == AuditDone && known {
		out.WriteString(strings.TrimSpace(past + " " + rest))
	} else {
		if e.Outcome != AuditDone {
			out.WriteString(e.Outcome + ": ")
		}
		out.WriteString(e.Action)
	}
	switch {
	case e.App == "":
	case rest == "" || rest == "app" || verb == "roll":
		out.WriteString(" " + e.App)
	default:
		out.WriteString(" of " + e.App)
	}
	if e.Deployment != 0 {
		fmt.Fprintf(&out, " (deployment %d)", e.Deployment)
	}
	if e.Detail != "" {
		out.WriteString(": " + e.Detail)
	}
	switch {
	case e.Token != 0 && e.Who != "":
		fmt.Fprintf(&out, " by token %s (%d)", e.Who, e.Token)
	case e.Token != 0:
		fmt.Fprintf(&out, " by token %d", e.Token)
	case e.Who != "":
		out.WriteString(" by " + e.Who)
	}
	if e.Reason != "" {
		out.WriteString("; " + e.Reason)
	}
	return out.String()
}
