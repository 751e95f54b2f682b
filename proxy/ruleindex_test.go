package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// manyRules returns rules of the kinds that a large site or a hostile one may have.
func manyRules(kind string, n int) (patterns []string) {
	for i := range n {
		switch kind {
		case "exact":
			patterns = append(patterns, fmt.Sprintf("/blog/%d/post", i))
		case "prefix":
			patterns = append(patterns, fmt.Sprintf("/blog/%d/*", i))
		case "nested":
			patterns = append(patterns, strings.Repeat("/a", i%1000)+"/*")
		case "placeholder":
			patterns = append(patterns, fmt.Sprintf("/:a/%d", i))
		case "stars":
			patterns = append(patterns, fmt.Sprintf("/*a*a*a*a*%d", i))
		case "same":
			patterns = append(patterns, "/*")
		}
	}
	return patterns
}

var ruleKinds = []string{"exact", "prefix", "nested", "placeholder", "stars", "same"}

func publishedWith(patterns []string) *published {
	p := &published{}
	for _, text := range patterns {
		compiled := compile(text)
		p.headers = append(p.headers, headerRule{pattern: compiled, set: [][2]string{{"X-A", "b"}}})
		p.redirects = append(p.redirects, redirectRule{pattern: compiled, to: "/", status: 301})
	}
	p.ignored = p.indexRules()
	return p
}

// TestRulesLookedAtAreBounded counts, because time would not say it reliably.
func TestRulesLookedAtAreBounded(t *testing.T) {
	for _, kind := range ruleKinds {
		p := publishedWith(manyRules(kind, 20_000))
		for _, path := range []string{"/", "/blog/7/post", "/blog/77/post/", strings.Repeat("/a", 2000), "/a/7", strings.Repeat("a", 4000)} {
			if found := len(p.headerIndex.Candidates(path, nil)); found > store.MaxRuleWeight {
				t.Errorf("%s: %d rules are looked at for %.20s", kind, found, path)
			}
		}
	}
	for _, kind := range hostileKinds {
		patterns, path := hostileRules(kind)
		p := publishedWith(patterns)
		weight := 0
		for _, i := range p.headerIndex.Candidates(path, nil) {
			weight += p.headers[i].Weight(1)
		}
		if weight > store.MaxRuleWeight {
			t.Errorf("%s: rules of weight %d are looked at for %.20s", kind, weight, path)
		}
	}
	if p := publishedWith(manyRules("exact", 10_000)); p.ignored != 0 {
		t.Errorf("%d of 10,000 exact rules are left out", p.ignored)
	}
	if p := publishedWith(manyRules("prefix", 10_000)); p.ignored != 0 {
		t.Errorf("%d of 10,000 prefix rules are left out", p.ignored)
	}
}

// FuzzRuleIndex holds that the index finds each rule that matches.
func FuzzRuleIndex(f *testing.F) {
	f.Add("/old/*\n/old/:x\n/old\n/\n/*\n/o*d/\n/old/a", "/old/a")
	f.Add("/%41/*\n/a//b\n*\n/x/*/*", "/A/")
	f.Fuzz(func(t *testing.T, lines, path string) {
		texts := strings.Split(lines, "\n")
		p := publishedWith(texts)
		if p.ignored > 0 {
			t.Skip()
		}
		found := p.headerIndex.Candidates(path, nil)
		if !slices.IsSorted(found) {
			t.Errorf("not in order: %v", found)
		}
		for i, rule := range p.headers {
			if rule.match(path, nil) && !slices.Contains(found, i) {
				t.Errorf("%q matches %q and is not found", texts[i], path)
			}
		}
	})
}

func BenchmarkRules(b *testing.B) {
	for _, kind := range ruleKinds {
		p := publishedWith(manyRules(kind, 10_000))
		for _, path := range []string{"/blog/7777/post", "/nothing/of/that/kind/" + strings.Repeat("a", 200)} {
			b.Run(kind+path[:5], func(b *testing.B) {
				address := &url.URL{Path: path}
				for b.Loop() {
					p.putHeaders(http.Header{}, path)
					_, _, _ = p.redirectFor(address, false)
				}
			})
		}
	}
}
