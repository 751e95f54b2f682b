package store

import (
	"strings"
	"testing"
	"unicode"
)

func TestPlainLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain\ttext é": "plain\ttext é", "\x1b[31mred\x1b[0m": "red", "\x1b]0;title\x07x": "x", "\x1b]52;c;cm0gLXJm\x1b\\x": "x",
		"10%\r20%\r": "20%", "a\u202eb\u2066c\u200f": "abc", "\u009b31mx": "31mx", "a\x00\x08b": "ab", "\x1bcx": "x", "\x1b": "",
	} {
		if got := PlainLine(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

func FuzzPlainLine(f *testing.F) {
	f.Add("\x1b[31mred\x1b]0;x\x07\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		if got := PlainLine(text); strings.ContainsFunc(got, func(r rune) bool { return (unicode.IsControl(r) && r != '\t') || isDirectional(r) }) {
			t.Errorf("%q is shown as %q", text, got)
		}
	})
}
