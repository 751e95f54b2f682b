package store

import (
	"regexp"
	"strings"
	"unicode"
)

// terminalSequence matches the escape sequences of ECMA-48 with which programs colour and move: control sequences, strings
// and the short ones.
var terminalSequence = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[ -/]*[0-~])")

// PlainLine returns a line that can be shown safely: without what commands a terminal, and without characters that make a
// text read otherwise than it is (Unicode UAX #9, 2).
func PlainLine(text string) string {
	text = strings.TrimRight(terminalSequence.ReplaceAllString(text, ""), "\r")
	text = text[strings.LastIndexByte(text, '\r')+1:] // a terminal would show what was written last
	return strings.Map(func(r rune) rune {
		if (unicode.IsControl(r) && r != '\t') || isDirectional(r) {
			return -1
		}
		return r
	}, text)
}

func isDirectional(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || r == '\u200e' || r == '\u200f' || r == '\u061c'
}
