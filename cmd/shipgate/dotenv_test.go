package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDotenv(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"":                                       {},
		"# remark\n\nA=1\nexport B = two \r\nC=": {"A": "1", "B": "two", "C": ""},
		"A=p@ss#word\nB=x # remark\nC= # r":      {"A": "p@ss#word", "B": "x", "C": ""},
		`A="a\n\"b\" $HOME \$x \d"` + "\nB='it \\n is' # r": {"A": "a\n\"b\" $HOME $x \\d", "B": `it \n is`},
		"KEY=\"-----BEGIN-----\nabc=\n-----END-----\"\nB=1": {"KEY": "-----BEGIN-----\nabc=\n-----END-----", "B": "1"},
		"\ufeffURL=postgres://u:p@h/d?x=1&y=2":              {"URL": "postgres://u:p@h/d?x=1&y=2"},
	} {
		got := map[string]string{}
		if err := parseDotenv(text, got); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"A=1\nnonsense\n": "line 2", "=1": "line 1", "A=\"x\n\ny": "no end", "A='x' y": "goes on", "A=\"x\ny\"\nB": "line 3", "A B=1": "line 1",
	} {
		if err := parseDotenv(text, map[string]string{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzDotenv(f *testing.F) {
	f.Add("A=1\nexport B=\"x\\n\"\nC='y' # z\n")
	f.Fuzz(func(t *testing.T, text string) { _ = parseDotenv(text, map[string]string{}) })
}

// Secrets can be given where neither the shell's history nor the process list shows them.
func TestEnvValuesFromElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("A=1\nB='two'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // what is asked; empty: refused as usage
	}{
		{"s3cret\n", []string{"KEY=-"}, `{"set":{"KEY":"s3cret"}}`},
		{"two\nlines\n", []string{"KEY=-", "A=b"}, `{"set":{"A":"b","KEY":"two\nlines"}}`},
		{"", []string{"--from-file", file, "B=three"}, `{"set":{"A":"1","B":"three"}}`},
		{"A=1\n", []string{"--from-file", "-"}, `{"set":{"A":"1"}}`},
		{"x", []string{"A=-", "B=-"}, ""},
		{"A=1", []string{"--from-file", "-", "B=-"}, ""},
		{"x", []string{"A"}, ""},
		{"nonsense", []string{"--from-file", "-"}, ""},
		{"", []string{"--from-file", file + ".missing"}, ""},
		{"", nil, ""},
	} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"PATCH /api/v1/apps/hello/env": reply(200, map[string]any{})})
		got := shipgate(t.Context(), f.env(), c.stdin, append([]string{"env", "hello", "set"}, c.args...)...)
		if c.want == "" {
			if got.code != exitUsage || len(f.asked) != 0 {
				t.Errorf("%q: exit %d, asked %q", c.args, got.code, f.asked)
			}
			continue
		}
		if want := "PATCH /api/v1/apps/hello/env " + c.want; got.code != 0 || len(f.asked) != 1 || f.asked[0] != want {
			t.Errorf("%q: exit %d %s, asked %q, want %s", c.args, got.code, got.stderr, f.asked, want)
		}
	}
}
