package proxy

import (
	"net/url"
	"regexp"
	"strings"
)

// pattern is the path of a rule, as _headers and _redirects have them: the segment :name stands for one segment, * for
// anything. https://docs.netlify.com/routing/redirects/redirect-options/
type pattern struct {
	parts []part
	open  bool // it ends in /*, which stands for nothing at all, too, and then goes without the slash
}

// part is one of a text, a placeholder and a star.
type part struct {
	text string
	name string
	star bool
}

// splat is the name of what the star at the end of a pattern stands for.
const splat = "splat"

var placeholder = regexp.MustCompile(`^:[A-Za-z_][A-Za-z0-9_]*$`)

// compile makes a pattern. Its texts may be escaped as in an URL.
func compile(text string) pattern {
	var p pattern
	text, p.open = strings.CutSuffix(text, "/*")
	for i, segment := range strings.Split(strings.TrimSuffix(text, "/"), "/") {
		if i > 0 {
			p.addText("/")
		}
		if placeholder.MatchString(segment) {
			p.parts = append(p.parts, part{name: segment[1:]})
			continue
		}
		for j, piece := range strings.Split(segment, "*") {
			if j > 0 {
				p.parts = append(p.parts, part{star: true})
			}
			p.addText(unescape(piece))
		}
	}
	return p
}

// addText adds to a text at the end, or begins one.
func (p *pattern) addText(text string) {
	if last := len(p.parts) - 1; last >= 0 && p.parts[last].text != "" {
		p.parts[last].text += text
	} else if text != "" {
		p.parts = append(p.parts, part{text: text})
	}
}

// unescape decodes a path, and leaves as it is what is not encoded.
func unescape(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

// match says whether a decoded path is one of the pattern's, and puts what the names stand for into values, unless these are
// nil. A star takes as little as it can. What lies between two stars fits a place or does not, so that after a misfit only
// the last star can help by taking more: the cost is at most that of the path's length times the pattern's.
func (p pattern) match(path string, values map[string]string) bool {
	next, at := 0, 0
	behind, end := 0, -1 // the part behind the last star, and where that star ends
	for {
		if next == len(p.parts) {
			if p.ends(path[at:], values) {
				return true
			}
		} else if p.parts[next].star {
			next++
			behind, end = next, at
			continue
		} else if width := p.parts[next].width(path[at:]); width > 0 {
			if name := p.parts[next].name; name != "" && values != nil {
				values[name] = path[at : at+width]
			}
			next, at = next+1, at+width
			continue
		}
		if end < 0 || end == len(path) {
			return false
		}
		end++
		next, at = behind, end
	}
}

// width is how much of a path a text or a placeholder takes: 0 when it does not fit.
func (p part) width(path string) int {
	if p.name == "" {
		if strings.HasPrefix(path, p.text) {
			return len(p.text)
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
	if !p.open {
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
