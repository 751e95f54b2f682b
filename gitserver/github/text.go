package github

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shipgate/shipgate/store"
)

// oneLine makes a text fit for where only one line of at most so many characters is taken.
func oneLine(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// said gives GitHub's words as they may be shown. What is secret goes first: cut in two it would not be known any more.
func (g *GitHub) said(t *trouble) string { return oneLine(g.Store.Masked(t.Error()), 300) }

// problem says to a user what GitHub had against something.
func (g *GitHub) problem(err error, what string) error {
	if isProblem(err) {
		return err
	}
	t := classify(err, g.now())
	said := g.said(t)
	switch {
	case t.kind == limited:
		return store.Problemf(store.CodeUnreachable, "%s: GitHub wants a pause until %s: %s", what, t.until.UTC().Format("15:04:05 UTC"), said).
			WithHint("try again then")
	case t.kind == transient:
		return store.Problemf(store.CodeUnreachable, "%s: GitHub cannot be reached: %s", what, said).WithHint("shipgate doctor")
	}
	return store.Problemf(store.CodeErrored, "%s: GitHub refuses: %s", what, said).WithHint("shipgate doctor")
}
