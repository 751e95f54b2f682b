package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

const blob = "0123456789abcdef0123456789abcdef01234567"

// writeTree makes a release tree as the builder does. Names ending in .br, .zst or .gz under encoded/ become variants.
func writeTree(t testing.TB, files, encoded map[string]string) string {
	t.Helper()
	tree := t.TempDir()
	read := manifest{Version: 1, Files: map[string]manifestFile{}}
	for name, content := range files {
		write(t, filepath.Join(tree, "files", name), content)
		file := manifestFile{Blob: blob, Size: int64(len(content))}
		file.Encodings.Gzip = int64(len(encoded[name+".gz"]))
		file.Encodings.Br = int64(len(encoded[name+".br"]))
		file.Encodings.Zstd = int64(len(encoded[name+".zst"]))
		read.Files[name] = file
	}
	for name, content := range encoded {
		write(t, filepath.Join(tree, "encoded", name), content)
	}
	data, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "manifest.json"), string(data))
	return tree
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exampleTree(t testing.TB) string {
	tree := writeTree(t, map[string]string{
		"index.html":               "home",
		"about.html":               "about",
		"docs/index.html":          "docs",
		"app.js":                   "script as it is",
		"data.bin":                 "0123456789",
		"404.html":                 "not here",
		".env":                     "secret",
		"docs/.git/config":         "secret",
		".well-known/security.txt": "contact",
		"with space & ü.txt":       "odd",
	}, map[string]string{"app.js.gz": "gz-form", "app.js.br": "br-fo", "app.js.zst": "zst-form", "404.html.gz": "gz404"})
	write(t, filepath.Join(tree, "files", "unlisted.txt"), "secret")
	write(t, filepath.Join(filepath.Dir(tree), "outside.txt"), "secret")
	return tree
}

func TestSite(t *testing.T) {
	tests := []struct {
		name   string
		method string
		path   string
		header map[string]string
		spa    bool
		clean  bool
		status int
		body   string
		want   map[string]string // header: value, "" for absent
	}{
		{name: "index", path: "/", status: 200, body: "home", want: map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Etag": `"` + blob + `"`, "Cache-Control": siteCaching, "Content-Length": "4", "Vary": ""}},
		{name: "index by name", path: "/index.html", status: 200, body: "home"},
		{name: "directory", path: "/docs/", status: 200, body: "docs"},
		{name: "directory without slash", path: "/docs?a=b;c", status: 301, want: map[string]string{"Location": "/docs/?a=b;c", "Cache-Control": siteCaching}},
		{name: "head", method: "HEAD", path: "/", status: 200, want: map[string]string{"Content-Length": "4"}},
		{name: "post", method: "POST", path: "/", status: 405, want: map[string]string{"Allow": "GET, HEAD"}},
		{name: "not modified", path: "/", header: map[string]string{"If-None-Match": `"` + blob + `"`}, status: 304, want: map[string]string{"Etag": `"` + blob + `"`}},
		{name: "not modified, weak", path: "/", header: map[string]string{"If-None-Match": `W/"` + blob + `", "x"`}, status: 304},
		{name: "modified", path: "/", header: map[string]string{"If-None-Match": `"other"`}, status: 200, body: "home"},
		{name: "precondition", path: "/", header: map[string]string{"If-Match": `"other"`}, status: 412},
		{name: "range", path: "/data.bin", header: map[string]string{"Range": "bytes=2-4"}, status: 206, body: "234", want: map[string]string{
			"Content-Range": "bytes 2-4/10", "Content-Type": "application/octet-stream", "Content-Length": "3"}},
		{name: "range at the end", path: "/data.bin", header: map[string]string{"Range": "bytes=-2"}, status: 206, body: "89"},
		{name: "range of another version", path: "/data.bin", header: map[string]string{"Range": "bytes=2-4", "If-Range": `"other"`}, status: 200, body: "0123456789"},
		{name: "range too far", path: "/data.bin", header: map[string]string{"Range": "bytes=20-"}, status: 416, want: map[string]string{"Content-Range": "bytes */10"}},
		{name: "smallest form", path: "/app.js", header: map[string]string{"Accept-Encoding": "gzip, br, zstd"}, status: 200, body: "br-fo", want: map[string]string{
			"Content-Encoding": "br", "Etag": `"` + blob + `-br"`, "Vary": "Accept-Encoding", "Content-Length": "5", "Content-Type": "text/javascript; charset=utf-8"}},
		{name: "gzip only", path: "/app.js", header: map[string]string{"Accept-Encoding": "gzip"}, status: 200, body: "gz-form", want: map[string]string{"Etag": `"` + blob + `-gzip"`}},
		{name: "liked most", path: "/app.js", header: map[string]string{"Accept-Encoding": "br;q=0.1, zstd;q=0.9, gzip;q=0"}, status: 200, body: "zst-form"},
		{name: "anything but br", path: "/app.js", header: map[string]string{"Accept-Encoding": "*, br;q=0"}, status: 200, body: "gz-form"},
		{name: "as it is", path: "/app.js", header: map[string]string{"Accept-Encoding": "identity, gzip;q=0.5"}, status: 200, body: "script as it is", want: map[string]string{
			"Content-Encoding": "", "Vary": "Accept-Encoding"}},
		{name: "no encoding accepted", path: "/app.js", status: 200, body: "script as it is", want: map[string]string{"Vary": "Accept-Encoding"}},
		{name: "variant not modified", path: "/app.js", header: map[string]string{"Accept-Encoding": "gzip", "If-None-Match": `"` + blob + `-gzip"`}, status: 304, want: map[string]string{"Vary": "Accept-Encoding"}},
		{name: "etag of another form", path: "/app.js", header: map[string]string{"Accept-Encoding": "gzip", "If-None-Match": `"` + blob + `"`}, status: 200, body: "gz-form"},
		{name: "missing", path: "/nothing", status: 404, body: "not here", want: map[string]string{"Content-Type": "text/html; charset=utf-8", "Etag": ""}},
		{name: "missing, compressed page", path: "/nothing", header: map[string]string{"Accept-Encoding": "gzip"}, status: 404, body: "gz404", want: map[string]string{"Content-Encoding": "gzip"}},
		{name: "missing, with range and etag", path: "/nothing", header: map[string]string{"Range": "bytes=0-1", "If-None-Match": "*"}, status: 404, body: "not here"},
		{name: "missing, with the page's own etag", path: "/nothing", header: map[string]string{"If-None-Match": `"` + blob + `"`}, status: 404, body: "not here"},
		{name: "missing, head", method: "HEAD", path: "/nothing", status: 404, want: map[string]string{"Content-Length": "8"}},
		{name: "file as directory", path: "/app.js/", status: 404, body: "not here"},
		{name: "dotfile", path: "/.env", status: 404, body: "not here"},
		{name: "dot directory", path: "/docs/.git/config", status: 404, body: "not here"},
		{name: "dotfile in spa", path: "/.env", spa: true, status: 404, body: "not here"},
		{name: "dot directory in spa", path: "/.git/config", spa: true, header: map[string]string{"Accept": "text/html"}, status: 404, body: "not here"},
		{name: "well-known", path: "/.well-known/security.txt", status: 200, body: "contact", want: map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{name: "unlisted", path: "/unlisted.txt", status: 404, body: "not here"},
		{name: "manifest", path: "/../manifest.json", status: 404, body: "not here"},
		{name: "variant by name", path: "/../encoded/app.js.gz", status: 404, body: "not here"},
		{name: "traversal", path: "/../outside.txt", status: 404, body: "not here"},
		{name: "traversal, escaped", path: "/%2e%2e/outside.txt", status: 404, body: "not here"},
		{name: "traversal, escaped slash", path: "/docs%2f..%2f..%2foutside.txt", status: 404, body: "not here"},
		{name: "traversal to what exists", path: "/docs/../index.html", status: 404, body: "not here"},
		{name: "double slash", path: "//docs", status: 404, body: "not here"},
		{name: "no redirect to another host", path: "//docs/..", status: 404, body: "not here"},
		{name: "nul", path: "/index.html%00.txt", status: 404, body: "not here"},
		{name: "backslash", path: `/docs%5cindex.html`, status: 404, body: "not here"},
		{name: "odd name", path: "/with%20space%20&%20%C3%BC.txt", status: 200, body: "odd"},
		{name: "no clean url unasked", path: "/about", status: 404, body: "not here"},
		{name: "no clean url unasked, with slash", path: "/about/", status: 404, body: "not here"},
		{name: "clean url", path: "/about", clean: true, status: 200, body: "about"},
		{name: "clean url, with ending", path: "/about.html?q", clean: true, status: 301, want: map[string]string{"Location": "/about?q"}},
		{name: "clean url, with slash", path: "/about/", clean: true, status: 301, want: map[string]string{"Location": "/about"}},
		{name: "clean url, index", path: "/docs/index.html", clean: true, status: 301, want: map[string]string{"Location": "/docs/"}},
		{name: "clean url, home", path: "/index.html", clean: true, status: 301, want: map[string]string{"Location": "/"}},
		{name: "clean url, directory", path: "/docs/", clean: true, status: 200, body: "docs"},
		{name: "spa route", path: "/users/7", spa: true, status: 200, body: "home"},
		{name: "spa route with a dot", path: "/users/j.doe", spa: true, header: map[string]string{"Accept": "text/html,*/*"}, status: 200, body: "home"},
		{name: "spa asset that is missing", path: "/old.js", spa: true, header: map[string]string{"Accept": "*/*"}, status: 404, body: "not here"},
		{name: "spa file", path: "/app.js", spa: true, status: 200, body: "script as it is"},
	}
	tree := exampleTree(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := openSite(store.Target{Site: tree, SPA: test.spa, CleanURLs: test.clean}, newShelf(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			request := httptest.NewRequest(test.method, "http://a.test/", nil)
			if request.URL, err = url.ParseRequestURI(test.path); err != nil {
				t.Fatal(err)
			}
			for name, value := range test.header {
				request.Header.Set(name, value)
			}
			answer := httptest.NewRecorder()
			if err := s.serve(answer, request); err != nil {
				t.Fatal(err)
			}
			if answer.Code != test.status {
				t.Errorf("status %d, want %d", answer.Code, test.status)
			}
			if test.body != "" && answer.Body.String() != test.body {
				t.Errorf("body %q, want %q", answer.Body, test.body)
			}
			if (test.method == "HEAD" || test.status == 304) && answer.Body.Len() > 0 {
				t.Errorf("body %q, want none", answer.Body)
			}
			if strings.Contains(answer.Body.String(), "secret") {
				t.Errorf("a secret was published")
			}
			for name, want := range test.want {
				if got := answer.Header().Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestSiteDoesNotFollowLinksOut(t *testing.T) {
	tree := writeTree(t, map[string]string{"index.html": "home", "link.txt": "secret", "dir/file.txt": "secret"}, nil)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file.txt"), "secret")
	for link, to := range map[string]string{"link.txt": filepath.Join(outside, "file.txt"), "dir": outside} {
		name := filepath.Join(tree, "files", link)
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openSite(store.Target{Site: tree}, newShelf(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/link.txt", "/dir/file.txt"} {
		answer := httptest.NewRecorder()
		_ = s.serve(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != 500 || strings.Contains(answer.Body.String(), "secret") {
			t.Errorf("%s: %d %q", path, answer.Code, answer.Body)
		}
	}
}

func TestSiteManifestsThatAreRefused(t *testing.T) {
	r := startRig(t)
	for name, content := range map[string]string{
		"torn":      `{"version":1,"files":{"a":`,
		"none":      `{"files":{}}`,
		"version":   `{"version":3,"files":{}}`,
		"traversal": `{"version":1,"files":{"../a":{"blob":"00","size":1}}}`,
		"absolute":  `{"version":1,"files":{"/a":{"blob":"00","size":1}}}`,
		"blob":      `{"version":1,"files":{"a":{"blob":"\"00","size":1}}}`,
		"no blob":   `{"version":1,"files":{"a":{"size":1}}}`,
		"size":      `{"version":1,"files":{"a":{"blob":"00","size":-1}}}`,
		"missing":   "",
	} {
		t.Run(name, func(t *testing.T) {
			tree := t.TempDir()
			if content != "" {
				write(t, filepath.Join(tree, "manifest.json"), content)
			}
			err := r.client.Apply(t.Context(), store.Route{App: "s", Hosts: []string{"s.test"}, Generation: 1, Target: store.Target{Deployment: 1, Site: tree}})
			if err == nil || !strings.Contains(err.Error(), "manifest") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestTypesOfASite(t *testing.T) {
	for name, want := range map[string]string{"a.JS": "text/javascript; charset=utf-8", "b.bin": "application/own", "b.ico": "image/x-icon", "B.ICO": "image/x-icon", "c.nobody-knows": "application/octet-stream", "d": "application/octet-stream"} {
		stated := ""
		if name == "b.bin" {
			stated = want
		}
		if got := typeOf(name, stated); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestSiteThroughTheProxy(t *testing.T) {
	r := startRig(t)
	tree := exampleTree(t)
	route := store.Route{App: "s", Hosts: []string{"s.test"}, Generation: 1, Target: store.Target{Deployment: 1, Site: tree}}
	if err := r.client.Apply(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	if status, body := r.get("s.test", "/docs/"); status != 200 || body != "docs" {
		t.Errorf("answer %d %q", status, body)
	}
	route.Generation, route.Target = 2, store.Target{Deployment: 2, Site: writeTree(t, map[string]string{"index.html": "two"}, nil)}
	if err := r.client.Apply(t.Context(), route); err != nil {
		t.Fatal(err)
	}
	if status, body := r.get("s.test", "/"); status != 200 || body != "two" {
		t.Errorf("answer %d %q", status, body)
	}
	if status, body := r.get("s.test", "/docs/"); status != 404 || !strings.Contains(body, "no such page") {
		t.Errorf("answer %d %q", status, body)
	}
}

func TestLargeManifestIsSmallInMemory(t *testing.T) {
	tree := largeTree(t, 20_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	loaded, err := loadManifest(tree)
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	files := loaded.files
	t.Logf("%d files in %v and %d KiB", len(files), took, used>>10)
	if len(files) != 20_000 || used > 16<<20 {
		t.Errorf("%d files use %d KiB", len(files), used>>10)
	}
}

func largeTree(t testing.TB, count int) string {
	tree := t.TempDir()
	var text strings.Builder
	text.WriteString(`{"version":1,"files":{`)
	for i := range count {
		if i > 0 {
			text.WriteString(",")
		}
		fmt.Fprintf(&text, `"section-%d/page-%d/index.html":{"blob":"%040x","size":%d,"type":"","encodings":{"gzip":%d,"br":%d,"zstd":%d}}`, i%97, i, i, 5000+i, 900, 800, 850)
	}
	text.WriteString("}}")
	write(t, filepath.Join(tree, "manifest.json"), text.String())
	return tree
}

func BenchmarkLoadManifest(b *testing.B) {
	tree := largeTree(b, 20_000)
	for b.Loop() {
		if _, err := loadManifest(tree); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzSitePath holds that no path leads to anything but a published file.
func FuzzSitePath(f *testing.F) {
	for _, path := range []string{"/", "/docs", "/docs/", "/../outside.txt", "//a", "/.env", "/.well-known/security.txt", "/about/", "/a%2e", "\x00", "index.html/", "/./index.html"} {
		f.Add(path, "gzip, br;q=0.5, *;q=0", true, true)
		f.Add(path, "", false, false)
	}
	tree := exampleTree(f)
	f.Fuzz(func(t *testing.T, path, accept string, spa, clean bool) {
		s, err := openSite(store.Target{Site: tree, SPA: spa, CleanURLs: clean}, newShelf(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodGet, "http://a.test/", nil)
		request.URL.Path = path
		request.Header.Set("Accept-Encoding", accept)
		answer := httptest.NewRecorder()
		if err := s.serve(answer, request); err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		if strings.Contains(string(body), "secret") || answer.Code >= 500 {
			t.Errorf("%q: %d %q", path, answer.Code, body)
		}
		if to := answer.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%q leads to %q", path, to)
		}
	})
}
