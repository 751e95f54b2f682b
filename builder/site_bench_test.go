package builder

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

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
