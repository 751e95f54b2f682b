package web

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// Each deployment counts once, when it has ended, however often one looks and whatever overtakes it.
func TestPhasesCountOnce(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	counted := func(step string) string {
		t.Helper()
		metrics := l.ask("GET", "/metrics", "").must(t, 200).body
		_, rest, _ := strings.Cut(metrics, `shipgate_phase_seconds_count{step="`+step+`"} `)
		number, _, _ := strings.Cut(rest, "\n")
		return number
	}
	count := func(step, want string) {
		t.Helper()
		if got := counted(step); got != want {
			t.Errorf("%s is counted %q times, want %q", step, got, want)
		}
	}
	running := l.advance(l.enqueue("hello"), store.StepBuilt)
	count("built", "")
	l.deploy("hello", `{}`, "").must(t, 202) // waits, and is superseded before the first one ends
	l.deploy("hello", `{}`, "").must(t, 202)
	count("built", "")
	l.advance(running, store.StepDone)
	count("built", "1")
	count("done", "1")
	count("built", "1")
	claimed, _, err := l.store.Claim(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	l.advance(claimed, store.StepDone)
	count("built", "2")
	count("queued", "2")
}
