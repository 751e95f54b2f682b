package web

import (
	"fmt"
	"time"

	"github.com/shipgate/shipgate/store"
)

// clean gives a line as it is read on a page: without what is meant for a terminal, and without the secrets of the server.
func (s *server) clean(text string) string { return s.Store.Masked(store.PlainLine(text)) }

// took says how long something was, as the push does.
func took(d time.Duration) string {
	switch s := d.Seconds(); {
	case d < 0:
		return "0 ms"
	case s < 1:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	case s < 6000:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	default:
		return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)/60%60)
	}
}

// instant is a time for machines, moment the same one for people.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// icon marks a state for those who do not see its colour.
func icon(state string) string {
	return map[string]string{
		string(store.Succeeded): "✓", string(store.Failed): "✕", string(store.Errored): "!",
		string(store.Cancelled): "–", string(store.Superseded): "»", running: "●", waiting: "○",
	}[state]
}

// What a deployment without a verdict is, beside the verdicts.
const (
	running = "running"
	waiting = "waiting"
)

func stateOf(d store.Deployment) string {
	switch {
	case d.Verdict != "":
		return string(d.Verdict)
	case d.StartedAt.IsZero():
		return waiting
	}
	return running
}
