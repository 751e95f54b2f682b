package proxy

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestPatterns(t *testing.T) {
	for pattern, paths := range map[string]map[string]string{ // what the names stand for, "no" for a path that does not fit
		"/":              {"/": "", "": "", "/a": "no"},
		"/a":             {"/a": "", "/a/": "", "/a//": "no", "/ab": "no", "/": "no", "": "no"},
		"/a/":            {"/a": "", "/a/": "", "/a/b": "no"},
		"/*":             {"/": "splat=", "": "splat=", "/a/b/": "splat=a/b/", "a": "no", "/a\nb": "splat=a\nb"},
		"/a/*":           {"/a": "splat=", "/a/": "splat=", "/a//b": "splat=/b", "/ab": "no", "/": "no"},
		"/:a/:b":         {"/x/y": "a=x b=y", "/x/y/": "a=x b=y", "/x": "no", "/x/": "no", "//y": "no", "/x/y/z": "no"},
		"/:a/*":          {"/x": "a=x splat=", "/x/y/z": "a=x splat=y/z", "/": "no"},
		"/a:b":           {"/a:b": "", "/axy": "no"},
		"/a/:1":          {"/a/:1": "", "/a/x": "no"},
		"/a%20%C3%BC/%2": {"/a ü/%2": "", "/a%20ü/%2": "no"},
		"/a%2A":          {"/a*": "", "/ab": "no"},
		"/*.js":          {"/a/b.js": "", "/.js": "", "/a.js/": "", "/a.jsx": "no", "/a.js.js": ""},
		"/a*":            {"/a": "", "/abc/d": "", "/b": "no"},
		"/*/x/*":         {"/a/x": "splat=", "/a/b/x/c": "splat=c", "/x/c": "no", "/a/xy": "no", "/a/xy/x/z": "splat=z"},
		"/*/:b/x":        {"/a/b/x": "b=b", "/a/c/b/x": "b=b", "/a/x": "no"},
		"/**x":           {"/x": "", "/axx": "", "/y": "no"},
	} {
		for path, want := range paths {
			values := map[string]string{}
			matched := compile(pattern).match(path, values)
			got := ""
			for _, name := range []string{"a", "b", splat} {
				if value, named := values[name]; named {
					got += " " + name + "=" + value
				}
			}
			if got = strings.TrimPrefix(got, " "); !matched {
				got = "no"
			}
			if got != want {
				t.Errorf("%s of %q: %q, want %q", pattern, path, got, want)
			}
			if compile(pattern).match(path, nil) != matched {
				t.Errorf("%s of %q depends on whether its names are asked for", pattern, path)
			}
		}
	}
}

// The work of the worst patterns grows with path times pattern, and no faster: were it a power of the stars, this would not end.
func TestPatternsWithManyStars(t *testing.T) {
	path := "/" + strings.Repeat("a/", maxPath/2)
	for _, pattern := range []string{
		"/" + strings.Repeat("*a", 2000) + "b", "/" + strings.Repeat("*", 4000) + "b", "/*" + strings.Repeat("/:x", 2000) + "/b", "/" + strings.Repeat("*/:x", 500) + "b",
	} {
		if compile(pattern).match(path, map[string]string{}) {
			t.Errorf("%.20s fits", pattern)
		}
	}
}

// FuzzPattern holds the matching to one that tries everything.
func FuzzPattern(f *testing.F) {
	f.Add("/*/:b/x", "/a/c/b/x")
	f.Add("/a*/*", "/ab/")
	f.Fuzz(func(t *testing.T, text, path string) {
		if !strings.HasPrefix(text, "/") || len(text) > 24 || len(path) > 24 {
			t.Skip()
		}
		p, values := compile(text), map[string]string{}
		matched := p.match(path, values)
		if want := fits(p, p.Parts, path); matched != want {
			t.Errorf("%q of %q: %v, want %v", text, path, matched, want)
		}
		if _, named := values[splat]; matched && p.Open && !named {
			t.Errorf("%q of %q has no splat: %v", text, path, values)
		}
	})
}

func fits(p pattern, parts []store.RulePart, path string) bool {
	if len(parts) == 0 {
		return path == "" || path == "/" && !p.Open || path[0] == '/' && p.Open
	}
	first, rest := parts[0], parts[1:]
	switch {
	case first.Star:
		for i := range len(path) + 1 {
			if fits(p, rest, path[i:]) {
				return true
			}
		}
		return false
	case first.Name != "":
		segment, _, _ := strings.Cut(path, "/")
		return segment != "" && fits(p, rest, path[len(segment):])
	default:
		return strings.HasPrefix(path, first.Text) && fits(p, rest, path[len(first.Text):])
	}
}
