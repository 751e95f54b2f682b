package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestSmallFilesAreReadOnceAndWithinBounds(t *testing.T) {
	large := strings.Repeat("x", smallFile+1)
	tree := writeTree(t, map[string]string{"a.txt": "first", "large.txt": large}, nil)
	c, err := openContents(tree)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, size int) string {
		t.Helper()
		content, err := c.open(form{path: "files/" + name, size: int64(size)})
		if err != nil {
			return err.Error()
		}
		defer content.Close()
		text, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	read("a.txt", 5)
	read("large.txt", len(large))
	if c.room != smallFiles-5 {
		t.Errorf("%d bytes are held, want 5", smallFiles-c.room)
	}
	if err := os.Remove(filepath.Join(tree, "files", "a.txt")); err != nil {
		t.Fatal(err)
	}
	if got := read("a.txt", 5); got != "first" {
		t.Errorf("a small file was opened again: %q", got)
	}
	if c.hold("files/a.txt", []byte("first")); c.room != smallFiles-5 {
		t.Errorf("what is held already was counted again: %d bytes are held", smallFiles-c.room)
	}
	c.room = 3
	c.hold("b", []byte("four"))
	if _, held := c.small["b"]; held || c.room != 3 {
		t.Error("more is held than there is room for")
	}
}

func TestContentOfAnotherSizeIsRefused(t *testing.T) {
	tree := writeTree(t, map[string]string{"a.txt": "first"}, nil)
	s := mustOpen(t, store.Target{Site: tree})
	write(t, filepath.Join(tree, "files", "a.txt"), "changed")
	if answer := get(t, s, "/a.txt"); answer.Code != 500 || strings.Contains(answer.Body.String(), "changed") {
		t.Errorf("%d %q", answer.Code, answer.Body)
	}
}

func TestTreesOutOfUseAreClosed(t *testing.T) {
	root := func() *os.Root {
		c, err := openContents(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return c.root
	}()
	eventually(t, "the tree's directory is closed", func() bool {
		runtime.GC()
		_, err := root.Stat(".")
		return errors.Is(err, os.ErrClosed)
	})
}

func TestTreesOutOfUseAreForgotten(t *testing.T) {
	books := newShelf()
	if _, err := books.open(exampleTree(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one tree alone is on the shelf", func() bool {
		runtime.GC()
		_, err := books.open(exampleTree(t))
		return err != nil || len(books.read) == 1
	})
}

func TestSiteWithoutFiles(t *testing.T) {
	for name, spoil := range map[string]func(files string) error{
		"missing": func(string) error { return nil },
		"a file":  func(files string) error { return os.WriteFile(files, nil, 0o600) },
	} {
		tree := writeTree(t, nil, nil)
		if err := spoil(filepath.Join(tree, "files")); err != nil {
			t.Fatal(err)
		}
		if _, err := openSite(store.Target{Site: tree}, newShelf(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no files directory") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSiteSPAWithoutIndex(t *testing.T) {
	s := mustOpen(t, store.Target{Site: writeTree(t, map[string]string{"a.txt": "a"}, nil), SPA: true})
	if answer := get(t, s, "/route"); answer.Code != 404 {
		t.Errorf("%d %q", answer.Code, answer.Body)
	}
}

func TestUnchangedFileIsNotOpened(t *testing.T) {
	tree := writeTree(t, map[string]string{"app.3f9c2ab1.js": strings.Repeat("x", smallFile+1)}, nil)
	s := mustOpen(t, store.Target{Site: tree})
	tag := get(t, s, "/app.3f9c2ab1.js").Header().Get("Etag")
	if err := os.Remove(filepath.Join(tree, "files", "app.3f9c2ab1.js")); err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodGet, "/app.3f9c2ab1.js", nil)
	request.Header.Set("If-None-Match", tag)
	answer := httptest.NewRecorder()
	if err := s.serve(answer, request); err != nil {
		t.Fatal(err)
	}
	if answer.Code != 304 || answer.Header().Get("Etag") != tag || answer.Header().Get("Content-Length")+answer.Header().Get("Content-Type") != "" || answer.Header().Get("Cache-Control") != immutableCaching {
		t.Errorf("%d %v", answer.Code, answer.Header())
	}
	request.Header.Set("If-None-Match", `"another"`)
	answer = httptest.NewRecorder()
	if err := s.serve(answer, request); err != nil {
		t.Fatal(err)
	}
	if answer.Code != 500 {
		t.Errorf("a file that is gone: %d", answer.Code)
	}
}
