package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

// Cookies know no ports, so that the browser of who is signed in to the server sends that session to every app on the same
// host name, and such an app could set one. Neither passes.

// removeSession takes the server's session out of a request's cookies. The others stay byte for byte.
func removeSession(header http.Header) {
	lines := header["Cookie"]
	if !slices.ContainsFunc(lines, namesSession) {
		return
	}
	var kept []string
	for _, line := range lines {
		pairs := slices.DeleteFunc(strings.Split(line, ";"), isSession)
		if rest := strings.TrimSpace(strings.Join(pairs, ";")); rest != "" {
			kept = append(kept, rest)
		}
	}
	if len(kept) == 0 {
		header.Del("Cookie")
		return
	}
	header["Cookie"] = kept
}

// keepSession removes what would set the server's session from an answer.
func keepSession(header http.Header) {
	lines := header["Set-Cookie"]
	if !slices.ContainsFunc(lines, namesSession) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		pair, _, _ := strings.Cut(line, ";")
		return isSession(pair)
	})
	if len(kept) == 0 {
		header.Del("Set-Cookie")
		return
	}
	header["Set-Cookie"] = kept
}

func namesSession(line string) bool { return strings.Contains(line, store.SessionCookie) }

// isSession reports whether a pair is the session. One without a name counts by its value: browsers send "=a=b" as "a=b".
func isSession(pair string) bool {
	pair = strings.TrimLeft(pair, " \t=")
	name, _, _ := strings.Cut(pair, "=")
	name = strings.Trim(name, " \t\"")
	return name == store.SessionCookie || name == store.SecureSessionCookie
}
