package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// newTree makes a release tree of n files as the builder does.
func newTree(t testing.TB, n int) string {
	t.Helper()
	dir, names := t.TempDir(), strings.Builder{}
	manifest := map[string]map[string]any{"files": {}}
	for i := range n {
		name := fmt.Sprintf("assets/page-%d/index-%08x.js", i, i*7919)
		names.WriteString(name + "\x00")
		manifest["files"][name] = map[string]any{"blob": strings.Repeat("0123456789", 4), "size": 1000 + i, "encodings": map[string]int{"gzip": 500, "br": 400}}
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"names": names.String(), "manifest.json": string(text)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The list of names says what the manifest says, whose place it takes where it is, and of an empty site nothing.
func TestFilesOfATree(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		tree := newTree(t, n)
		listed := sorted(filesOf(tree))
		if !slices.Equal(listed, sorted(manifestFiles(tree))) || len(listed) != n {
			t.Errorf("%d files: the list has %d, the manifest %d", n, len(listed), len(manifestFiles(tree)))
		}
		if err := os.WriteFile(filepath.Join(tree, "manifest.json"), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(listed, sorted(filesOf(tree))) {
			t.Error("the manifest is read although there is a list of names")
		}
	}
	older := newTree(t, 3)
	if err := os.Remove(filepath.Join(older, "names")); err != nil {
		t.Fatal(err)
	}
	if len(filesOf(older)) != 3 {
		t.Error("a tree of an earlier version has no files")
	}
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

func BenchmarkFilesOf(b *testing.B) {
	tree := newTree(b, 20_000)
	b.Run("names", func(b *testing.B) {
		for b.Loop() {
			filesOf(tree)
		}
	})
	b.Run("manifest", func(b *testing.B) {
		for b.Loop() {
			manifestFiles(tree)
		}
	})
}
