package store

import (
	"slices"
	"strings"
	"testing"
)

// The operator's switches are in the audit log once for each change, not for each start.
func TestPolicyIsAuditedWhenItChanges(t *testing.T) {
	s := newStore(t)
	long := "--allow-image " + strings.Repeat("x", 2*auditText)
	for _, switches := range []string{"", "", "--allow-image a", "--allow-image a", "", "", "--allow-image b", long, long} {
		if err := s.AuditPolicy(t.Context(), switches); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := s.AuditTrail(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Who+" "+entry.Action)
	}
	want := []string{"the long one", "operator serve --allow-image b", "operator serve without --allow switches", "operator serve --allow-image a"}
	if len(got) != len(want) || !slices.Equal(got[1:], want[1:]) || !strings.HasPrefix(got[0], "operator serve --allow-image xxx") {
		t.Errorf("entries %.80q, want %.80q", got, want)
	}
}
