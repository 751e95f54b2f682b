package proxy

import (
	"strings"

	"github.com/shipgate/shipgate/store"
)

// pattern is the path of a rule.
type pattern struct{ store.RulePattern }

// splat is the name of what the star at the end of a pattern stands for.
const splat = "splat"

func compile(text string) pattern { return pattern{store.CompileRule(text)} }

// match says whether a decoded path is one of the pattern's, and puts what the names stand for into values, unless these are
// nil. A star takes as little as it can. What lies between two stars fits a place or does not, so that after a misfit only
// the last star can help by taking more: the cost is at most that of the path's length times the pattern's.
func (p pattern) match(path string, values map[string]string) bool {
	if p.IsSuffix() {
		begin, end := p.Parts[0].Text, p.Parts[2].Text
		trimmed, slash := strings.CutSuffix(path, "/")
		return len(path) >= len(begin)+len(end) && strings.HasPrefix(path, begin) && strings.HasSuffix(path, end) ||
			slash && len(trimmed) >= len(begin)+len(end) && strings.HasPrefix(trimmed, begin) && strings.HasSuffix(trimmed, end)
	}
	next, at := 0, 0
	behind, end := 0, -1 // the part behind the last star, and where that star ends
	for {
		if next == len(p.Parts) {
			if p.ends(path[at:], values) {
				return true
			}
		} else if p.Parts[next].Star {
			next++
			behind, end = next, at
			continue
		} else if width := width(p.Parts[next], path[at:]); width > 0 {
			if name := p.Parts[next].Name; name != "" && values != nil {
				values[name] = path[at : at+width]
			}
			next, at = next+1, at+width
			continue
		}
		if end < 0 || end == len(path) {
			return false
		}
		end++
		if behind < len(p.Parts) && p.Parts[behind].Text != "" { // there is none before its text
			skip := strings.Index(path[end:], p.Parts[behind].Text)
			if skip < 0 {
				return false
			}
			end += skip
		}
		next, at = behind, end
	}
}

// width is how much of a path a text or a placeholder takes: 0 when it does not fit.
func width(p store.RulePart, path string) int {
	if p.Name == "" {
		if strings.HasPrefix(path, p.Text) {
			return len(p.Text)
		}
		return 0
	}
	if slash := strings.IndexByte(path, '/'); slash >= 0 {
		return slash
	}
	return len(path)
}

// ends says whether the rest of a path may follow the last part. A slash at the end makes no difference.
func (p pattern) ends(rest string, values map[string]string) bool {
	if !p.Open {
		return rest == "" || rest == "/"
	}
	if rest != "" && rest[0] != '/' {
		return false
	}
	if values != nil {
		values[splat] = strings.TrimPrefix(rest, "/")
	}
	return true
}
