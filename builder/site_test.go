package builder

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// manyPages is a site of generated pages of half a kilobyte to four, as a documentation generator makes them.
func manyPages(n int) commit {
	words := strings.Fields("the gate holds requests while a new release starts and lets them go once it answers healthy proxy route table drain verdict push branch commit image layer cache secret volume address port")
	random := rand.New(rand.NewPCG(1, 2))
	pages := commit{"index.html": "<title>start</title>"}
	for i := range n - 1 {
		var page strings.Builder
		fmt.Fprintf(&page, "<!doctype html><title>page %d</title>", i)
		for length := 500 + random.IntN(4000); page.Len() < length; {
			fmt.Fprintf(&page, "<p class=%q>%s %s %d</p>", words[random.IntN(len(words))], words[random.IntN(len(words))], words[random.IntN(len(words))], random.IntN(1000))
		}
		pages[fmt.Sprintf("section-%d/part-%d/page-%d.html", i%20, i%200, i)] = page.String()
	}
	return pages
}

// listed is a Snapshot whose entries are known, as those of a repository are.
type listed struct {
	commit
	entries []store.TreeEntry
}

func (l listed) Entries() ([]store.TreeEntry, error) { return l.entries, nil }

func list(c commit) listed {
	entries, _ := c.Entries()
	return listed{c, entries}
}

func BenchmarkSiteFirst(b *testing.B) {
	pages := list(manyPages(20_000))
	for b.Loop() {
		l := newLab(b, Limits{})
		l.must(b, pages, &store.StaticConfig{})
	}
}

func BenchmarkSiteOneChanged(b *testing.B) {
	pages := manyPages(20_000)
	l := newLab(b, Limits{})
	l.must(b, list(pages), &store.StaticConfig{})
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		changed := list(pages.with(commit{"section-0/part-0/page-0.html": strings.Repeat(fmt.Sprint("changed ", i), 200)}))
		b.StartTimer()
		l.must(b, changed, &store.StaticConfig{})
	}
}
