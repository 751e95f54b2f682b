package store

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// RulePattern is the path of a site's rule, as _headers and _redirects have them: the segment :name stands for one segment, * for
// anything. https://docs.netlify.com/routing/redirects/redirect-options/
type RulePattern struct {
	Parts []RulePart
	Open  bool // it ends in /*, which stands for nothing at all, too, and then goes without the slash
}

// RulePart is one of a text, a placeholder and a star.
type RulePart struct {
	Text string
	Name string
	Star bool
}

var rulePlaceholder = regexp.MustCompile(`^:[A-Za-z_][A-Za-z0-9_]*$`)

// CompileRule makes a pattern. Its texts may be escaped as in an URL.
func CompileRule(text string) RulePattern {
	var p RulePattern
	text, p.Open = strings.CutSuffix(text, "/*")
	for i, segment := range strings.Split(strings.TrimSuffix(text, "/"), "/") {
		if i > 0 {
			p.addText("/")
		}
		if rulePlaceholder.MatchString(segment) {
			p.Parts = append(p.Parts, RulePart{Name: segment[1:]})
			continue
		}
		for j, piece := range strings.Split(segment, "*") {
			if j > 0 {
				p.Parts = append(p.Parts, RulePart{Star: true})
			}
			p.addText(UnescapePath(piece))
		}
	}
	return p
}

// addText adds to a text at the end, or begins one.
func (p *RulePattern) addText(text string) {
	if last := len(p.Parts) - 1; last >= 0 && p.Parts[last].Text != "" {
		p.Parts[last].Text += text
	} else if text != "" {
		p.Parts = append(p.Parts, RulePart{Text: text})
	}
}

// UnescapePath decodes a path, and leaves as it is what is not encoded.
func UnescapePath(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

// IsSuffix reports whether the pattern is a text, a star and a text, as "/*.css" is, which costs as little as a text alone.
func (p RulePattern) IsSuffix() bool {
	return !p.Open && len(p.Parts) == 3 && p.Parts[0].Text != "" && p.Parts[1].Star && p.Parts[2].Text != ""
}

// beginning returns the text that every path of the pattern begins with, and whether there is nothing else to it.
func (p RulePattern) beginning() (text string, whole bool) {
	if len(p.Parts) == 0 {
		return "", !p.Open
	}
	return p.Parts[0].Text, len(p.Parts) == 1 && p.Parts[0].Text != "" && !p.Open
}

// Weight is what a look at the rule costs: one for each header or parameter that it names, and for every four parts and every 128 bytes
// of its pattern. Stars other than those of /* at the end and of /*.css cost by far the most.
func (p RulePattern) Weight(names int) int {
	star := slices.IndexFunc(p.Parts, func(one RulePart) bool { return one.Star })
	if star >= 0 && !p.IsSuffix() {
		return max(names, ruleStarWeight*max(1, len(p.Parts)-star-1))
	}
	text := 0
	for _, one := range p.Parts {
		text += len(one.Text)
	}
	return max(names, 1+max(len(p.Parts)/rulePieces, text/ruleText))
}
