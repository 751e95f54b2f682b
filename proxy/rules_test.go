package proxy

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// writeRules gives a tree the rules as the builder writes them.
func writeRules(t testing.TB, tree, rules string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tree, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(rules), &fields); err != nil {
		t.Fatal(err)
	}
	fields["version"] = json.RawMessage("2")
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "manifest.json"), string(data))
	return tree
}

func mustOpen(t testing.TB, wanted store.Target) *site {
	t.Helper()
	s, err := openSite(wanted, newShelf(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t testing.TB, s *site, target string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	if err := s.serve(answer, httptest.NewRequest(http.MethodGet, target, nil)); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestRedirectRules(t *testing.T) {
	tree := writeRules(t, exampleTree(t), `{"redirects":[
		{"from":"/old/:id/*","to":"/new/:id/:splat","status":301},
		{"from":"/shop","query":{"id":":id","kind":"a"},"to":"/goods/:id?from=:id","status":302},
		{"from":"/about.html","to":"/index.html","status":200},
		{"from":"/docs/*","to":"/gone","status":410,"force":true},
		{"from":"/forced","to":"/about.html","status":200,"force":true},
		{"from":"/first","to":"/one","status":307},
		{"from":"/first","to":"/two","status":308},
		{"from":"/away/*","to":"https://other.test/:splat","status":301},
		{"from":"/up/*","to":"/:splat","status":301},
		{"from":"/secret/*","to":"/about.html","status":404},
		{"from":"/neat","to":"/about","status":200},
		{"from":"/hidden/*","to":"/:splat","status":200}]}`)
	s := mustOpen(t, store.Target{Site: tree})
	for target, want := range map[string]struct {
		status         int
		location, body string
	}{
		"/old/7/a/b":              {301, "/new/7/a/b", ""},
		"/old/7":                  {301, "/new/7/", ""},
		"/old/7/?q=1":             {301, "/new/7/?q=1", ""},
		"/old/a%2Fb/c%20d":        {301, "/new/a/b/c%20d", ""},
		"/shop?kind=a&id=9%261":   {302, "/goods/9&1?from=9%261", ""},
		"/shop?kind=b&id=9":       {404, "", ""},
		"/shop?kind=a":            {404, "", ""},
		"/about.html":             {200, "", "about"}, // a file counts more
		"/docs/":                  {410, "", "410"},
		"/forced":                 {200, "", "about"},
		"/first":                  {307, "/one", ""},
		"/first/":                 {307, "/one", ""},
		"/away/x":                 {301, "https://other.test/x", ""},
		"/up//evil.test/x":        {301, "/evil.test/x", ""},
		"/up/%5Cevil.test":        {301, "/%5Cevil.test", ""},
		"/up/a%0d%0aSet-Cookie:x": {301, "/a%0D%0ASet-Cookie:x", ""},
		"/secret/x":               {404, "", "about"},
		"/hidden/.env":            {404, "", ""},
		"/hidden/about.html":      {200, "", "about"},
		"/oldies/7":               {404, "", ""},
		"/neat":                   {404, "", ""}, // there are no clean URLs
	} {
		answer := get(t, s, target)
		if answer.Code != want.status || answer.Header().Get("Location") != want.location || !strings.Contains(answer.Body.String(), want.body) {
			t.Errorf("%s: %d to %q, %q; want %d to %q, %q", target, answer.Code, answer.Header().Get("Location"), answer.Body, want.status, want.location, want.body)
		}
		if strings.Contains(answer.Body.String(), "secret") {
			t.Errorf("%s gives what nobody may see", target)
		}
	}
}

func TestHeaderRules(t *testing.T) {
	tree := writeRules(t, exampleTree(t), `{"headers":[
		{"path":"/*","set":[["X-Frame-Options","DENY"],["Cache-Control","no-cache"],["Link","</a.css>; rel=preload"]]},
		{"path":"/docs/*","set":[["Link","</b.css>; rel=preload"],["Content-Length","1"],["Transfer-Encoding","chunked"],["X-Bad","a\nb"]],"unset":["X-Frame-Options"]},
		{"path":"/:page","set":[["X-Page","yes"]]}]}`)
	s := mustOpen(t, store.Target{Site: tree})
	home := get(t, s, "/").Header()
	if home.Get("X-Frame-Options") != "DENY" || home.Get("Cache-Control") != "no-cache" || len(home.Values("Cache-Control")) != 1 {
		t.Errorf("of the home page: %v", home)
	}
	docs := get(t, s, "/docs/").Header()
	if docs.Get("X-Frame-Options") != "" || len(docs.Values("Link")) != 2 || docs.Get("Transfer-Encoding") != "" || docs.Get("X-Bad") != "" {
		t.Errorf("of a page with several rules: %v", docs)
	}
	if docs.Get("Content-Length") == "1" {
		t.Error("a rule says how long the answer is")
	}
	if page := get(t, s, "/about.html").Header(); page.Get("X-Page") != "yes" {
		t.Errorf("of a page with a placeholder: %v", page)
	}
	if missing := get(t, s, "/nothing"); missing.Code == 404 && missing.Header().Get("X-Frame-Options") == "" && strings.Contains(missing.Body.String(), "site") {
		t.Errorf("the site's own 404 page goes without its headers: %v", missing.Header())
	}
}

func TestImmutableNames(t *testing.T) {
	for name, want := range map[string]bool{
		"assets/index-BxY3k9aZ.js": true, "assets/index-DiwrgTda.css": false, "assets/logo-C4bJ_x2-.svg": true,
		"main.3f9c2ab1.js": true, "main.3f9c2ab1d0e4f5a6b7c8.chunk.css": true, "3f9c2ab1d0e4.js": true,
		"_next/static/chunks/pages/app-0a1b2c3d4e5f6a7b.js": true, "static/media/logo.5d5d9eefa31e5e13a6610d9fa7a283bb.svg": true,
		"_astro/hoisted.81170750.css": false, "_astro/page.CDGfc0hd.js": true, "app-ABCDE234.js": false, "app-AB2DE3FG.js": true, "app-ABC2DEFG.js": true, "app-ABCDEFGH.js": false, "release-v1-2-3-4.zip": false, "main.3f9c2ab1.js.map": true,
		"photo-20240101.jpg": false, "jquery-3.7.1.min.js": false, "report.20241231.pdf": false, "index.html": false,
		"page-3f9c2ab1.html": false, "page-3f9c2ab1.htm": false, "page-3f9c2ab1.xhtml": false, "download.js": false, "my-Download.js": false, "fonts/Inter-SemiBold.woff2": false,
		"camelCase.js": false, "a-deadbeef.js": false, "LICENSE": false, "a.b": false, "icon-512x512.png": false,
		"bootstrap.bundle.min.js": false, "fonts/OpenSans-Regular.ttf": false, "img/IMG-12345678.jpg": false, "README-DRAFTTWO.txt": false,
		"holiday-IMG_0001.jpg": false, "logo-Version2.png": false, "guide-HowToRun.pdf": false, "my-iPhone14.png": false, "banner-1280X720.png": false,
		"report-1Jan2024.pdf": false, "menu-12dec2024.pdf": false, "menu-cafe2024.pdf": false, "01feb2024.jpg": false, "main.12dec204f.js": true, "LICENSE-3f9c2ab1": false,
	} {
		if got := store.HasHashedName(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestImmutableCaching(t *testing.T) {
	s := mustOpen(t, store.Target{Site: writeTree(t, map[string]string{"app.3f9c2ab1.js": "x", "app.js": "x"}, nil)})
	if got := get(t, s, "/app.3f9c2ab1.js").Header().Get("Cache-Control"); got != immutableCaching {
		t.Errorf("a hashed name: %q", got)
	}
	if got := get(t, s, "/app.js").Header().Get("Cache-Control"); got != siteCaching {
		t.Errorf("another name: %q", got)
	}
}

func TestFilesOfEarlierReleases(t *testing.T) {
	now := writeTree(t, map[string]string{"index.html": "new", "app.js": "new"}, nil)
	before := writeTree(t, map[string]string{"index.html": "old", "app.js": "old", "chunk-1.3f9c2ab1.js": "one", "about.html": "old page", "dump.sql": "leaked", "photo-2024.jpg": "removed"}, nil)
	long := writeTree(t, map[string]string{"chunk-1.3f9c2ab1.js": "older", "chunk-0.3f9c2ab1.js": "zero"}, nil)
	s := mustOpen(t, store.Target{Site: now, SPA: true, Earlier: []store.EarlierSite{
		{Site: before, Until: time.Now().Add(time.Hour)}, {Site: long, Until: time.Now().Add(time.Hour)},
		{Site: filepath.Join(now, "nowhere"), Until: time.Now().Add(time.Hour)}, {Site: long, Until: time.Now().Add(-time.Second)},
	}})
	for target, want := range map[string]string{
		"/app.js": "200 new", "/chunk-1.3f9c2ab1.js": "200 one", "/chunk-0.3f9c2ab1.js": "200 zero", "/chunk-9.3f9c2ab1.js": "404 ", "/about.html": "404 ", "/dump.sql": "404 ", "/photo-2024.jpg": "404 ", "/": "200 new", "/about": "200 new",
	} {
		answer := get(t, s, target)
		status, body, _ := strings.Cut(want, " ")
		if http.StatusText(answer.Code) == "" || !strings.HasPrefix(status, string('0'+rune(answer.Code/100))) || !strings.Contains(answer.Body.String(), body) {
			t.Errorf("%s: %d %q, want %s", target, answer.Code, answer.Body, want)
		}
	}
	if len(s.earlier) != 2 {
		t.Errorf("%d earlier releases are open", len(s.earlier))
	}
	s.earlier[0].Until = time.Now().Add(-time.Second)
	if answer := get(t, s, "/chunk-1.3f9c2ab1.js"); answer.Body.String() != "older" {
		t.Errorf("out of its time an earlier release still answers: %q", answer.Body)
	}
}

func TestTreesAreReadOnce(t *testing.T) {
	tree := exampleTree(t)
	books := newShelf()
	first, err := books.open(tree)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "manifest.json"), "{")
	second, err := books.open(tree)
	if err != nil || first != second {
		t.Errorf("a tree in use was read again: %v", err)
	}
}

// FuzzRules holds that no rule and no path make an answer that leads elsewhere or breaks its headers.
func FuzzRules(f *testing.F) {
	f.Add("/old/*", "/new/:splat", "X", "y", "/old/a", 301)
	f.Add("/:a/:b", "/:b?x=:a", "Cache-Control", "no-store", "/%2f/%5c", 302)
	f.Fuzz(func(t *testing.T, from, to, name, value, path string, status int) {
		if !strings.HasPrefix(from, "/") || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.HasPrefix(to, "/\\") || status < 300 || status > 308 || status == 304 || status == 306 {
			t.Skip()
		}
		compiled := compile(from)
		p := &published{
			headers:   []headerRule{{compiled, [][2]string{{name, value}}, nil}},
			redirects: []redirectRule{{pattern: compiled, to: to, status: status}},
		}
		p.indexRules()
		request := httptest.NewRequest(http.MethodGet, "http://a.test/", nil)
		request.URL.Path = path
		answer := httptest.NewRecorder()
		if err := (&site{published: p}).serve(answer, request); err != nil {
			t.Fatal(err)
		}
		p.putHeaders(answer.Header(), path)
		var sent bytes.Buffer
		if err := answer.Header().Write(&sent); err != nil {
			t.Fatal(err)
		}
		if where := answer.Header().Get("Location"); answer.Code == status && (!strings.HasPrefix(where, "/") || strings.HasPrefix(where, "//") || strings.HasPrefix(where, "/\\")) {
			t.Errorf("%q with %q → %q leads to %q", path, from, to, where)
		}
	})
}
