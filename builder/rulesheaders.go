package builder

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// reservedHeaders belong to the connection or to what the server makes of the content.
var reservedHeaders = []string{
	"Accept-Ranges", "Age", "Allow", "Alt-Svc", "Basic-Auth", "Connection", "Content-Encoding", "Content-Length", "Content-Range", "Date",
	"Keep-Alive", "Proxy-Connection", "Server", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// hostPattern is how a path of a certain host begins elsewhere.
var hostPattern = regexp.MustCompile(`^https?://`)

var errNoPath = errors.New("there is no path above it")

// parseHeaders reads a _headers file: a path, and below it what to set, one "Name: value" a line; "! Name" takes one off
// again. The format is that of https://docs.netlify.com/routing/headers/; "!" is Cloudflare's.
func parseHeaders(text []byte, say func(format string, arguments ...any)) ([]headerRule, error) {
	problems := &complaints{file: headersFile, say: say}
	var rules []headerRule
	var fields int
	usable := false // the path that the lines belong to
	problems.eachLine(text, func(number int, line string) error {
		if strings.HasPrefix(line, "/") || hostPattern.MatchString(line) {
			usable = false
			if err := checkPattern(line); err != nil {
				return err
			}
			if len(rules) == maxRules {
				return errEnough
			}
			rules, usable = append(rules, headerRule{line: number, Path: line}), true
			return nil
		}
		if !usable {
			return errNoPath
		}
		if fields++; fields > maxRules {
			return errEnough
		}
		return rules[len(rules)-1].add(line)
	})
	rules = slices.DeleteFunc(rules, func(r headerRule) bool { return len(r.Set) == 0 && len(r.Unset) == 0 })
	patterns, weights, lines := make([]store.RulePattern, len(rules)), make([]int, len(rules)), make([]int, len(rules))
	for i, rule := range rules {
		patterns[i], lines[i] = store.CompileRule(rule.Path), rule.line
		weights[i] = patterns[i].Weight(len(rule.Set) + len(rule.Unset))
	}
	problems.refuseHeavy(patterns, weights, lines)
	return rules, problems.refused
}

// passwordLine gives the number of the first line that protects a path by a password elsewhere, or 0.
// https://docs.netlify.com/manage/security/secure-access-to-sites/basic-authentication-with-custom-http-headers/
func passwordLine(text []byte) (found int) {
	unheard := &complaints{say: func(string, ...any) {}}
	unheard.eachLine(text, func(number int, line string) error {
		name, _, _ := strings.Cut(line, ":")
		if found == 0 && strings.EqualFold(strings.TrimSpace(name), "Basic-Auth") {
			found = number
		}
		return nil
	})
	return found
}

// add takes one line below a path.
func (r *headerRule) add(line string) error {
	if name, unset := strings.CutPrefix(line, "!"); unset {
		name, err := headerName(name)
		if err == nil {
			r.Unset = append(r.Unset, name)
		}
		return err
	}
	name, value, found := strings.Cut(line, ":")
	if !found {
		return fmt.Errorf("%s is neither a path nor Name: value", shorten(line))
	}
	name, err := headerName(name)
	if err != nil {
		return err
	}
	if value = strings.TrimSpace(value); value == "" {
		return fmt.Errorf("header %s has no value", shorten(name))
	}
	r.Set = append(r.Set, [2]string{name, value})
	return nil
}

// headerName accepts a token of RFC 9110, section 5.6.2.
func headerName(name string) (string, error) {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	name = strings.TrimSpace(name)
	if name == "" || strings.Trim(name, token) != "" {
		return "", fmt.Errorf("%q is not the name of a header", shorten(name))
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	if slices.Contains(reservedHeaders, name) {
		return "", fmt.Errorf("header %s is the server's own", name)
	}
	return name, nil
}
