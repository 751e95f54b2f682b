package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// pattern is the path of a rule, as _headers and _redirects have them: :name stands for one segment, * for anything.
// https://docs.netlify.com/routing/redirects/redirect-options/
type pattern struct {
	expression *regexp.Regexp
	names      []string // of the groups, in order; the star is called splat
}

var wild = regexp.MustCompile(`:[A-Za-z_][A-Za-z0-9_]*|\*`)

// compile makes a pattern. A star at the end, after a slash, also stands for nothing at all, without the slash.
func compile(text string) (pattern, error) {
	var p pattern
	expression := "^"
	rest, final := strings.CutSuffix(text, "/*")
	for {
		at := wild.FindStringIndex(rest)
		if at == nil {
			break
		}
		expression += regexp.QuoteMeta(rest[:at[0]])
		if name := rest[at[0]:at[1]]; name == "*" {
			expression, p.names = expression+"(.*)", append(p.names, "splat")
		} else {
			expression, p.names = expression+"([^/]+)", append(p.names, name[1:])
		}
		rest = rest[at[1]:]
	}
	expression += regexp.QuoteMeta(strings.TrimSuffix(rest, "/"))
	if final {
		expression, p.names = expression+"(?:/(.*))?$", append(p.names, "splat")
	} else {
		expression += "/?$"
	}
	compiled, err := regexp.Compile("(?s)" + expression)
	if err != nil {
		return p, fmt.Errorf("pattern %q: %w", text, err)
	}
	p.expression = compiled
	return p, nil
}

// match gives what the names stand for in a decoded path.
func (p pattern) match(path string) (map[string]string, bool) {
	groups := p.expression.FindStringSubmatch(path)
	if groups == nil {
		return nil, false
	}
	values := map[string]string{}
	for i, name := range p.names {
		values[name] = groups[i+1]
	}
	return values, true
}

// headerRule sets headers on the answers for some paths.
type headerRule struct {
	pattern
	set   [][2]string
	unset []string
}

// guarded are headers that say how the answer is sent: no file may change these.
var guarded = map[string]bool{
	"Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Range": true, "Date": true, "Keep-Alive": true,
	"Proxy-Authenticate": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

func sayable(name, value string) bool {
	return httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) && !guarded[http.CanonicalHeaderKey(name)]
}

// putHeaders applies all rules that match, in their order. The first that names a header replaces what it was; more of the
// same name are added to it.
func (p *published) putHeaders(header http.Header, path string) {
	ours := map[string]bool{}
	for _, rule := range p.headers {
		if !rule.expression.MatchString(path) {
			continue
		}
		for _, name := range rule.unset {
			if name = http.CanonicalHeaderKey(name); !guarded[name] {
				header.Del(name)
			}
		}
		for _, pair := range rule.set {
			name := http.CanonicalHeaderKey(pair[0])
			if !sayable(name, pair[1]) {
				continue
			}
			if !ours[name] && name != "Vary" {
				header.Del(name)
			}
			ours[name] = true
			header.Add(name, pair[1])
		}
	}
}

// redirectRule answers some paths with another one.
type redirectRule struct {
	pattern
	query  map[string]string
	to     string
	status int
	force  bool
}

// redirectFor finds the first rule for a request: of all rules, or of those that count even where there is a file.
func (p *published) redirectFor(address *url.URL, forced bool) (rule redirectRule, values map[string]string, found bool) {
	if len(p.redirects) == 0 {
		return rule, nil, false
	}
	query := address.Query()
	for _, rule := range p.redirects {
		if forced && !rule.force {
			continue
		}
		values, matches := rule.match(address.Path)
		if matches && takeQuery(rule.query, query, values) {
			return rule, values, true
		}
	}
	return redirectRule{}, nil, false
}

// takeQuery says whether the parameters of a rule are there, and takes what its placeholders stand for.
func takeQuery(wanted map[string]string, query url.Values, values map[string]string) bool {
	for name, value := range wanted {
		if !query.Has(name) {
			return false
		}
		if placeholder, is := strings.CutPrefix(value, ":"); is {
			values[placeholder] = query.Get(name)
		} else if query.Get(name) != value {
			return false
		}
	}
	return true
}

// fill puts values in the place of their names.
func fill(text string, values map[string]string, escape func(string) string) string {
	return wild.ReplaceAllStringFunc(text, func(name string) string {
		value, known := values[strings.TrimPrefix(name, ":")]
		if !known {
			return name
		}
		return escape(value)
	})
}

// location is where a rule leads to. What a visitor put into it cannot lead to another host: it is escaped, and a path
// begins with one slash.
func (r redirectRule) location(values map[string]string, query string) string {
	address, ownQuery, hasQuery := strings.Cut(r.to, "?")
	address = fill(address, values, func(value string) string { return (&url.URL{Path: value}).EscapedPath() })
	if strings.HasPrefix(r.to, "/") {
		address = "/" + strings.TrimLeft(address, "/\\")
	}
	if hasQuery {
		query = fill(ownQuery, values, url.QueryEscape)
	}
	if query != "" {
		address += "?" + query
	}
	return address
}

// path is the path inside the site that a rule rewrites to.
func (r redirectRule) path(values map[string]string) string {
	address, _, _ := strings.Cut(r.to, "?")
	return fill(address, values, func(value string) string { return value })
}
