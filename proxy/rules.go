package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/shipgate/shipgate/store"
)

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

// prepare makes the names canonical and leaves out what no rule may change, once and not for each request.
func (r headerRule) prepare() headerRule {
	prepared := headerRule{pattern: r.pattern}
	for _, name := range r.unset {
		if name = http.CanonicalHeaderKey(name); !guarded[name] && name != "Vary" && name != "Content-Type" {
			prepared.unset = append(prepared.unset, name)
		}
	}
	for _, pair := range r.set {
		if name := http.CanonicalHeaderKey(pair[0]); sayable(name, pair[1]) {
			prepared.set = append(prepared.set, [2]string{name, pair[1]})
		}
	}
	return prepared
}

// putHeaders applies all rules that match, in their order. The first that names a header replaces what it was; more of the
// same name are added to it.
func (p *published) putHeaders(header http.Header, path string) {
	if len(p.headers) == 0 {
		return
	}
	ours := map[string]bool{}
	for _, i := range p.headerIndex.Candidates(path, make([]int, 0, 16)) {
		rule := &p.headers[i]
		if !rule.match(path, nil) {
			continue
		}
		for _, name := range rule.unset {
			delete(header, name)
		}
		for _, pair := range rule.set {
			name := pair[0]
			if !ours[name] && name != "Vary" {
				delete(header, name)
			}
			ours[name] = true
			header[name] = append(header[name], pair[1])
		}
	}
	keepSession(header)
}

// redirectRule answers some paths with another one.
type redirectRule struct {
	pattern
	query  map[string]string
	to     string
	status int
	force  bool
}

// redirectFor finds the first rule that counts for a request. Where the site has a file, only those do that are forced.
func (p *published) redirectFor(address *url.URL, onFile bool) (rule redirectRule, values map[string]string, found bool) {
	if len(p.redirects) == 0 {
		return redirectRule{}, nil, false
	}
	query := sync.OnceValue(address.Query)
	for _, i := range p.redirectIndex.Candidates(address.Path, make([]int, 0, 16)) {
		rule := &p.redirects[i]
		if onFile && !rule.force {
			continue
		}
		if !rule.match(address.Path, nil) || len(rule.query) > 0 && !rule.takeQuery(query(), nil) {
			continue
		}
		values = map[string]string{}
		rule.match(address.Path, values)
		if len(rule.query) > 0 {
			rule.takeQuery(query(), values)
		}
		return *rule, values, true
	}
	return redirectRule{}, nil, false
}

// takeQuery says whether the parameters of a rule are there, and takes what its placeholders stand for, unless values is nil.
func (r redirectRule) takeQuery(query url.Values, values map[string]string) bool {
	for name, value := range r.query {
		if !query.Has(name) {
			return false
		}
		if placeholder, is := strings.CutPrefix(value, ":"); is {
			if values != nil {
				values[placeholder] = query.Get(name)
			}
		} else if query.Get(name) != value {
			return false
		}
	}
	return true
}

var (
	placeholders = regexp.MustCompile(`:[A-Za-z_][A-Za-z0-9_]*`)
	origin       = regexp.MustCompile(`^[A-Za-z]+://[^/]*`)
)

// fill puts values in the place of their names.
func fill(text string, values map[string]string, escape func(string) string) string {
	return placeholders.ReplaceAllStringFunc(text, func(name string) string {
		value, known := values[name[1:]]
		if !known {
			return name
		}
		return escape(value)
	})
}

// cutAddress divides where a rule leads to. What is not there is empty.
func cutAddress(to string) (path, query, fragment string) {
	path, fragment, _ = strings.Cut(to, "#")
	path, query, _ = strings.Cut(path, "?")
	return path, query, fragment
}

// location is where a rule leads to; the parameters of the request go along unless the rule has some of its own. What a
// visitor put into it cannot lead to another host: it is escaped, it is no part of a host, and a path begins with one slash.
func (r redirectRule) location(values map[string]string, query string) string {
	path, ownQuery, fragment := cutAddress(r.to)
	host := origin.FindString(path)
	address := fill(path[len(host):], values, escapePath)
	if host == "" {
		address = "/" + strings.TrimLeft(address, "/\\")
	}
	if ownQuery != "" {
		query = fill(ownQuery, values, url.QueryEscape)
	}
	if query != "" {
		address += "?" + query
	}
	if fragment != "" {
		address += "#" + fill(fragment, values, escapePath)
	}
	return host + escapeNonASCII(address)
}

func escapePath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// escapeNonASCII makes a header's text of an address, which may be written in any letters.
func escapeNonASCII(address string) string {
	var escaped strings.Builder
	for _, b := range []byte(address) {
		if b < 0x80 {
			escaped.WriteByte(b)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", b)
		}
	}
	return escaped.String()
}

// rewritten is the decoded path inside the site that a rule answers with.
func (r redirectRule) rewritten(values map[string]string) string {
	path, _, _ := cutAddress(r.to)
	return fill(store.UnescapePath(path), values, func(value string) string { return value })
}
