package github

import "testing"

func TestPathPatterns(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		file     string
		want     bool
	}{
		{[]string{"web/**"}, "web/a/b.txt", true},
		{[]string{"web/**"}, "webb/a.txt", false},
		{[]string{"web/**"}, "api/web/a.txt", false},
		{[]string{"web"}, "web/a/b.txt", true},
		{[]string{"web/"}, "web/a", true},
		{[]string{"./web"}, "web/a", true},
		{[]string{"web"}, "web", true},
		{[]string{"web"}, "website/a", false},
		{[]string{"."}, "any/thing", true},
		{[]string{"*.md"}, "README.md", true},
		{[]string{"*.md"}, "docs/README.md", false},
		{[]string{"**/*.md"}, "docs/a/README.md", true},
		{[]string{"**/*.md"}, "README.md", true},
		{[]string{"*"}, "web/a", false},
		{[]string{"web/*"}, "web/a/b", false},
		{[]string{"web/{a,b}/**"}, "web/b/c", true},
		{[]string{"[ab].txt"}, "b.txt", true},
		{[]string{"web/**", "!web/docs/**"}, "web/docs/a", false},
		{[]string{"web/**", "!web/docs"}, "web/docs/a", false},
		{[]string{"web/**", "!web/docs/**"}, "web/a", true},
		{[]string{"web/**", "!web/docs/**", "web/docs/api/**"}, "web/docs/api/a", true},
		{[]string{"!web/docs/**", "web/**"}, "web/docs/a", true},
		{[]string{"!docs/**"}, "web/a", true},
		{[]string{"!docs/**"}, "docs/a", false},
		{[]string{"web/**", "*.md"}, "README.md", true},
		{[]string{"web/{a"}, "anything", true},
		{[]string{"web/**", "!{a"}, "web/a", true},
		{[]string{"web/**"}, "", false},
		{nil, "web/a", true},
	} {
		if got := matchPaths(test.patterns)(test.file); got != test.want {
			t.Errorf("%q: %q is %v", test.patterns, test.file, got)
		}
	}
}
