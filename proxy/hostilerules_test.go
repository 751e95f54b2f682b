package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// hostileRules are rules that a site may have, and the path that costs the most with them.
func hostileRules(kind string) (patterns []string, path string) {
	const n = 10_000
	add := func(format string, count int) {
		for i := range count {
			patterns = append(patterns, fmt.Sprintf(format, i))
		}
	}
	switch kind {
	case "placeholders": // each fits up to its last letter
		add("/:a/:b/:c/:d/:e/:f/:g/:h/%d", n)
		path = "/a/a/a/a/a/a/a/a/x"
	case "same path":
		add("/a%.0s", n)
		path = "/a/"
	case "stars": // the text behind a star fits nearly, at each place
		add("/*aaaaaaaaaaaaaaaab%d", n)
		path = "/" + strings.Repeat("a", maxPath-1)
	case "long stars":
		add("/*"+strings.Repeat("a", 2000)+"b%d", 1000)
		path = "/" + strings.Repeat("a", maxPath-1)
	case "stars and placeholders":
		add("/*/:a/:b/:c/:d/:e/:f/:g/:h/%d", n)
		path = strings.Repeat("/a", maxPath/2)
	case "one star": // few enough to be looked at
		add("/*/:a%.0s", n)
		path = strings.Repeat("/a", maxPath/2-1) + "//"
	case "two stars":
		add("/*/a%d/*", n)
		path = strings.Repeat("/a1b", maxPath/4)
	case "many placeholders":
		var names strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&names, "/:n%d", i)
		}
		add("/*"+names.String()+"/%d", 20)
		path = strings.Repeat("/a", maxPath/2)
	case "mixed":
		add("/a/*", 50)
		add("/:a/:b/%d", 200)
		add("/a/:b/%d", 150)
		add("/a/a%.0s", n)
		path = "/a/a/"
	}
	return patterns, path
}

var hostileKinds = []string{"placeholders", "same path", "stars", "long stars", "stars and placeholders", "one star", "two stars", "many placeholders", "mixed"}

// BenchmarkHostileRules compares the rules of a site with 10,000 of them, in both files, with an answer of a plain file.
func BenchmarkHostileRules(b *testing.B) {
	s := mustOpen(b, store.Target{Site: exampleTree(b)})
	b.Run("plain file", func(b *testing.B) {
		for b.Loop() {
			_ = s.serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/about.html", nil))
		}
	})
	for _, kind := range hostileKinds {
		patterns, path := hostileRules(kind)
		p := publishedWith(patterns)
		b.Run(kind, func(b *testing.B) {
			address := &url.URL{Path: path}
			for b.Loop() {
				p.putHeaders(http.Header{}, path)
				_, _, _ = p.redirectFor(address, false)
			}
		})
	}
}
