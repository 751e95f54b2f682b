package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Logs of old deployments go, the newest stay, and the file gets smaller; also one that was made before.
func TestOldLogsArePrunedAndTheFileShrinks(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	line := Event{Kind: "release", Text: strings.Repeat("x", 1000)}
	var first, last int64
	for i := range keptLogs + 10 {
		d := claimed(t, s, "hello")
		if i == 0 {
			first = d.ID
		}
		last = d.ID
		for range 100 {
			check(t, s.Log(t.Context(), d.ID, line))
		}
		d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed, Reason: "no"}))
		must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: Failed, Reason: "no"}))
	}
	check(t, s.Compact(t.Context()))
	before := fileSize(t, s)
	check(t, s.PruneLogs(t.Context(), Kept{Newest: last}))
	check(t, s.Compact(t.Context()))
	lines, _, err := s.LogSize(t.Context(), first)
	check(t, err)
	if lines != 0 {
		t.Errorf("%d lines of the oldest are left", lines)
	}
	if lines, _, err = s.LogSize(t.Context(), last); err != nil || lines != 100 {
		t.Errorf("%d lines of the newest are left, error %v", lines, err)
	}
	if after := fileSize(t, s); after > before-500_000 {
		t.Errorf("the file had %d bytes and has %d", before, after)
	}
}

func fileSize(t *testing.T, s *Store) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.Dir(), "shipgate.db"))
	check(t, err)
	return info.Size()
}
