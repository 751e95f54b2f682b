package enginetest

import (
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// oddValues are values of variables that a shell, YAML, Compose or JSON could take for something else.
var oddValues = []string{
	"", " ", " leading", "trailing ", "line\nline", "line\r\n", "\n", "tab\ttab", "$HOME", "${HOME}", "$$", "$", "${X:-y}", "$(id)", "`id`", "%s%n%d",
	`"`, `a"b`, "'", "a'b", `\`, `a\nb`, `\\`, "a=b=c", "=", "#", "a # b", "caf\u00e9 \u65e5\u672c \U0001f600", "\u202e", "\x01\x1b[31m\x7f\u0085\u009b", "\ufeff\ufffe\uffff\U0001ffff\u2028",
	"true", "null", "~", "yes", "0x10", "010", "1e3", "1_000", "2001-01-01", "{a: b}", "[1]", "!tag", "&a", "*a", "- x", "|", ">", "a: b", "<<", "<no value>", "{{.}}",
	strings.Repeat("long ", 20_000),
}

// OddEnv returns variables with odd values.
func OddEnv() map[string]string {
	env := map[string]string{}
	for i, value := range oddValues {
		env["ODD_"+strconv.Itoa(i)] = value
	}
	return env
}

// ExpectEnv compares what a testapp at the address has in its environment, byte for byte. The names there may have a prefix.
func ExpectEnv(t *testing.T, address netip.AddrPort, env map[string]string, prefix string) {
	t.Helper()
	for name, want := range env {
		response, err := http.Get("http://" + address.String() + "/env?name=" + url.QueryEscape(prefix+name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want+"\n" {
			t.Errorf("%s%s is %.80q, want %.80q", prefix, name, got, want)
		}
	}
}
