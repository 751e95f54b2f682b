package web

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/shipgate/shipgate/store"
)

// terminal are the escape sequences of ECMA-48 with which build tools colour and move: control sequences, strings and the
// short ones.
var terminal = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")

// clean gives a line as it is read on a page: without what is meant for a terminal, and without the secrets of the server.
func (s *server) clean(text string) string {
	text = strings.TrimRight(terminal.ReplaceAllString(text, ""), "\r")
	text = text[strings.LastIndexByte(text, '\r')+1:] // a terminal would show what was written last
	text = strings.Map(func(r rune) rune {
		if (unicode.IsControl(r) && r != '\t') || isDirectional(r) {
			return -1
		}
		return r
	}, text)
	return s.Store.Masked(text)
}

// isDirectional finds the characters that make a text read otherwise than it is (Unicode UAX #9, 2).
func isDirectional(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

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
