package proxy

import (
	"errors"
	"fmt"
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

// Larger files stay open for the next request: one reader each, from the beginning, and not too many.
func TestLargeFilesStayOpen(t *testing.T) {
	large := strings.Repeat("x", smallFile) + "end"
	files := map[string]string{}
	for n := range idleFiles + 1 {
		files[fmt.Sprintf("%02d.bin", n)] = large
	}
	tree := writeTree(t, files, nil)
	c, err := openContents(tree)
	if err != nil {
		t.Fatal(err)
	}
	open := func(n int) *lentFile {
		t.Helper()
		opened, err := c.open(form{path: fmt.Sprintf("files/%02d.bin", n), size: int64(len(large))})
		if err != nil {
			t.Fatal(err)
		}
		return opened.(*lentFile)
	}
	closeAll := func(opened ...*lentFile) {
		for _, file := range opened {
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	first, second := open(0), open(0)
	if first.File == second.File {
		t.Fatal("two readers have one file")
	}
	if _, err := io.CopyN(io.Discard, first, 100); err != nil {
		t.Fatal(err)
	}
	closeAll(first)
	if err := os.RemoveAll(filepath.Join(tree, "files")); err != nil { // as it happens to a release that nothing needs any more
		t.Fatal(err)
	}
	again := open(0)
	if text, err := io.ReadAll(again); again.File != first.File || string(text) != large || err != nil {
		t.Errorf("opened anew, or read on where it was left: %d bytes, %v", len(text), err)
	}
	closeAll(again, second)
	if len(c.idle) != 2 {
		t.Errorf("%d are idle", len(c.idle))
	}
	if _, err := c.open(form{path: "files/01.bin", size: int64(len(large))}); err == nil {
		t.Error("a file that is not there was opened")
	}
}

func TestNotTooManyFilesStayOpen(t *testing.T) {
	large := strings.Repeat("x", smallFile+1)
	tree := writeTree(t, map[string]string{"a.bin": large, "b.bin": large}, nil)
	c, err := openContents(tree)
	if err != nil {
		t.Fatal(err)
	}
	var opened []*lentFile
	for range idleFiles + 3 {
		file, err := c.open(form{path: "files/a.bin", size: int64(len(large))})
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, file.(*lentFile))
	}
	for _, file := range opened {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(c.idle) != idleFiles {
		t.Errorf("%d are idle", len(c.idle))
	}
	if _, err := opened[2].Stat(); err == nil {
		t.Error("the third is still open")
	}
	if _, err := opened[3].Stat(); err != nil {
		t.Errorf("the fourth is closed: %v", err)
	}
	other, err := c.open(form{path: "files/b.bin", size: int64(len(large))})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil || c.idle[idleFiles-1] != other {
		t.Errorf("what was asked for last is not kept: %v", err)
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
	for _, idle := range s.contents.idle {
		_ = idle.File.Close()
	}
	s.contents.idle = nil
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
