package proxy

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// wire is one connection of a client that sends what it is told, letter by letter.
type wire struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

func (r *rig) dial() *wire {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &wire{r.t, conn, bufio.NewReader(conn)}
}

// ask sends a request to s.test and reads the answer to its end.
func (w *wire) ask(method, target string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	_ = w.conn.SetDeadline(time.Now().Add(20 * time.Second))
	lines := append([]string{method + " " + target + " HTTP/1.1", "Host: s.test"}, headers...)
	if _, err := io.WriteString(w.conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.ReadResponse(w.reader, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%s %.80s: %v", method, target, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatalf("%s %.80s: %v", method, target, err)
	}
	return answer, string(body)
}

func (r *rig) serveSite(generation int64, wanted store.Target) {
	r.t.Helper()
	wanted.Deployment = generation
	route := store.Route{App: "s", Hosts: []string{"s.test"}, Generation: generation, Target: wanted}
	if err := r.client.Apply(r.t.Context(), route); err != nil {
		r.t.Fatal(err)
	}
}

const probeRules = `{
	"headers":[{"path":"/*","set":[["X-Rule","yes"],["Content-Type","text/x-own"],["x-two","1"],["X-Two","2"],["Vary","Origin"]]},{"path":"/about.html","unset":["Vary","Content-Type"]},
		{"path":"/app.js","unset":["Vary","Content-Type","Content-Encoding","Content-Length"]}],
	"redirects":[
		{"from":"/moved/*","to":"/new/:splat","status":301},
		{"from":"/route","to":"/#/route","status":302},
		{"from":"/place/:id","to":"/p?id=:id#at-:id","status":302},
		{"from":"/f%C3%BCr/*","to":"/für/:splat","status":302},
		{"from":"/talk/A:b","to":"/talk","status":302},
		{"from":"/as","query":{"u":":user"},"to":"https://x:user@other.test/:user","status":302},
		{"from":"/:Page/leads/on","to":"/a","status":302},{"from":"/start/*","to":"/wiki/Talk:Page","status":302},
		{"from":"/flag","query":{"on":""},"to":"/wiki/Talk:Page","status":302},
		{"from":"/slash","to":"/\\evil.test","status":302},
		{"from":"/odd","to":"/with%20space%20&%20%C3%BC.txt?x#y","status":200},
		{"from":"/latest.js","to":"/main.3f9c2ab1.js","status":200},
		{"from":"/into","to":"/docs","status":200},
		{"from":"/neat","to":"/about","status":200},
		{"from":"/order","to":"/one","status":302},
		{"from":"/order","to":"/two","status":302,"force":true},
		{"from":"/app/*","to":"/about.html","status":200},
		{"from":"/closed/*","to":"/about.html","status":410,"force":true},
		{"from":"/none/*","to":"/nowhere","status":403}]}`

func probeTree(t *testing.T) string {
	tree := writeTree(t, map[string]string{
		"index.html": "home", "about.html": "about", "docs/index.html": "docs", "data.bin": "0123456789", "empty.txt": "", "404.html": "not here",
		"app.js": "script as it is", "main.3f9c2ab1.js": "main", "with space & ü.txt": "odd", "large.bin": strings.Repeat("x", 3*smallFile),
	}, map[string]string{"app.js.gz": "gz-form", "app.js.br": "br-fo", "about.html.gz": "gz-ab"})
	return writeRules(t, tree, probeRules)
}

func TestSiteOverHTTP(t *testing.T) {
	const tag = `"` + blob + `"`
	r := startRig(t)
	r.serveSite(1, store.Target{Site: probeTree(t), CleanURLs: true})
	for name, test := range map[string]struct {
		ask     string // method, target and headers, a line each
		status  int
		body    string
		headers string // name: value; nothing behind the colon for absent
	}{
		"a list of tags":                      {"GET /data.bin\nIf-None-Match: \"a\", W/" + tag, 304, "", "Etag: " + tag + "\nX-Rule: yes\nContent-Type:"},
		"the usual question":                  {"GET /data.bin\nIf-None-Match: " + tag, 304, "", "Etag: " + tag + "\nX-Rule: yes\nContent-Type:"},
		"the usual question of an encoding":   {"GET /app.js\nAccept-Encoding: br\nIf-None-Match: \"" + blob + "-br\"", 304, "", "Content-Encoding:\nVary: Accept-Encoding"},
		"any tag":                             {"GET /data.bin\nIf-None-Match: *", 304, "", "Etag: " + tag},
		"two conditions":                      {"GET /data.bin\nIf-Match: \"a\"\nIf-None-Match: " + tag, 412, "", "Content-Length: 0"},
		"a condition that fails":              {"GET /data.bin\nIf-Match: \"a\"", 412, "", "Content-Length: 0"},
		"the same, encoded":                   {"GET /app.js\nAccept-Encoding: br\nIf-Match: \"a\"", 412, "", ""},
		"a condition that holds":              {"GET /data.bin\nIf-Match: " + tag, 200, "0123456789", "Content-Length: 10"},
		"a weak tag is no ground for a range": {"GET /data.bin\nRange: bytes=1-2\nIf-Range: W/" + tag, 200, "0123456789", ""},
		"a range of the same":                 {"GET /data.bin\nRange: bytes=1-2\nIf-Range: " + tag, 206, "12", "Content-Range: bytes 1-2/10"},
		"a range of an encoding":              {"GET /app.js\nAccept-Encoding: gzip\nRange: bytes=0-1\nIf-Range: \"" + blob + "-gzip\"", 206, "gz", "Content-Encoding: gzip\nContent-Range: bytes 0-1/7"},
		"a range of another encoding":         {"GET /app.js\nAccept-Encoding: gzip\nRange: bytes=0-1\nIf-Range: " + tag, 200, "gz-form", "Content-Length: 7"},
		"ranges that are more than the file":  {"GET /data.bin\nRange: bytes=0-9,0-9", 200, "0123456789", ""},
		"a range of nothing":                  {"GET /empty.txt\nRange: bytes=0-1", 200, "", "Content-Length: 0"},
		"a range past the end, encoded":       {"GET /app.js\nAccept-Encoding: br\nRange: bytes=90-", 416, "invalid range: failed to overlap\n", "Content-Encoding:\nCache-Control:\nEtag:"},
		"a range in the middle":               {"GET /large.bin\nRange: bytes=49000-", 206, strings.Repeat("x", 152), "Content-Range: bytes 49000-49151/49152"},
		"an encoding refused":                 {"GET /app.js\nAccept-Encoding: gzip;q=0, br;q=0.0", 200, "script as it is", "Content-Encoding:\nVary: Accept-Encoding"},
		"identity refused":                    {"GET /app.js\nAccept-Encoding: identity;q=0, gzip;q=0.001", 200, "gz-form", "Content-Encoding: gzip"},
		"anything":                            {"GET /app.js\nAccept-Encoding: *", 200, "br-fo", "Content-Encoding: br"},
		"nothing":                             {"GET /app.js\nAccept-Encoding: *;q=0", 200, "script as it is", "Content-Encoding:"},
		"encodings in two lines":              {"GET /app.js\nAccept-Encoding: deflate\nAccept-Encoding: GZIP", 200, "gz-form", "Content-Encoding: gzip"},
		"how it is sent is not taken away":    {"GET /app.js\nAccept-Encoding: br", 200, "br-fo", "Vary: Accept-Encoding\nContent-Type: text/x-own"},
		"a post":                              {"POST /data.bin\nContent-Length: 0", 405, "", "Allow: GET, HEAD\nCache-Control: no-store"},
		"a post to a rule":                    {"POST /moved/a\nContent-Length: 0", 405, "", "Allow: GET, HEAD"},
		"another method":                      {"DELETE /nowhere", 405, "", "Allow: GET, HEAD"},
		"a rule takes parameters along":       {"GET /moved/a?x=1&y=%0d%0a", 301, "", "Location: /new/a?x=1&y=%0d%0a\nCache-Control: " + siteCaching},
		"parameters go before a fragment":     {"GET /route?x=1", 302, "", "Location: /?x=1#/route"},
		"parameters of the rule's own":        {"GET /place/a%26b%20?x=1", 302, "", "Location: /p?id=a%26b+#at-a&b%20"},
		"a path in other letters":             {"GET /f%c3%bcr/x", 302, "", "Location: /f%C3%BCr/x"},
		"a colon that is no placeholder":      {"GET /talk/A:b", 302, "", "Location: /talk"},
		"the same, something else":            {"GET /talk/Abc", 404, "not here", ""},
		"nobody gets into the host":           {"GET /as?u=@evil.test/", 302, "", "Location: https://x:user@other.test/@evil.test/?u=@evil.test/"},
		"what a rule that failed had taken":   {"GET /start/leads/off", 302, "", "Location: /wiki/Talk:Page"},
		"a liking that is no number":          {"GET /app.js\nAccept-Encoding: gzip;q=0.5, br;q=7", 200, "gz-form", ""},
		"the same, no number at all":          {"GET /app.js\nAccept-Encoding: gzip;q=0.5, br;q=nan", 200, "gz-form", ""},
		"in capitals":                         {"GET /app.js\nAccept-Encoding: gzip ; Q=0", 200, "script as it is", ""},
		"a parameter without a value":         {"GET /flag?on", 302, "", "Location: /wiki/Talk:Page?on"},
		"a parameter that is not there":       {"GET /flag?off", 404, "not here", ""},
		"a parameter with a value":            {"GET /flag?on=1", 404, "not here", ""},
		"a rule that looks like a host":       {"GET /slash", 302, "", "Location: /evil.test"},
		"a splat that begins with a slash":    {"GET /moved///evil.test/", 301, "", "Location: /new///evil.test/"},
		"a rewrite to an escaped name":        {"GET /odd", 200, "odd", ""},
		"a rewrite to a name with a hash":     {"GET /latest.js", 200, "main", "Cache-Control: " + siteCaching},
		"the name with the hash":              {"GET /main.3f9c2ab1.js", 200, "main", "Cache-Control: " + immutableCaching},
		"a rewrite to a directory":            {"GET /into", 200, "docs", "Location:"},
		"a rewrite to a clean URL":            {"GET /neat", 200, "about", "Location:"},
		"a rewrite to a page":                 {"GET /app/a/b", 200, "about", "Location:"},
		"a refusal with a page":               {"GET /closed/a", 410, "about", "Etag:\nX-Rule: yes"},
		"a refusal with a page, encoded":      {"GET /closed/a\nAccept-Encoding: gzip\nRange: bytes=0-1", 410, "gz-ab", "Content-Encoding: gzip\nVary: Accept-Encoding"},
		"a refusal without one":               {"GET /none/a", 403, "403 Forbidden: a rule of this site says so\n", "Cache-Control: no-store"},
		"the first rule counts":               {"GET /order", 302, "", "Location: /one"},
		"a path as an URL":                    {"GET http://s.test", 200, "home", ""},
		"the longest path":                    {"GET /" + strings.Repeat("a", maxPath-1), 404, "not here", ""},
		"a longer one":                        {"GET /" + strings.Repeat("a", maxPath), 414, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := (&rig{t: t, public: r.public}).dial()
			lines := strings.Split(test.ask, "\n")
			method, target, _ := strings.Cut(lines[0], " ")
			answer, body := w.ask(method, target, lines[1:]...)
			if answer.StatusCode != test.status {
				t.Errorf("status %d, want %d", answer.StatusCode, test.status)
			}
			if (test.body != "" || test.status < 400) && body != test.body {
				t.Errorf("body %q, want %q", body, test.body)
			}
			if test.status == 200 || test.status == 206 {
				if got := answer.Header.Values("Vary"); got[len(got)-1] != "Origin" {
					t.Errorf("Vary: %q", got)
				}
			}
			for line := range strings.Lines(test.headers) {
				name, want, _ := strings.Cut(strings.TrimSpace(line), ":")
				if got := answer.Header.Get(name); got != strings.TrimSpace(want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if answer, body := w.ask("GET", "/"); answer.StatusCode != 200 || body != "home" {
				t.Errorf("the next answer on the connection is %d %q", answer.StatusCode, body)
			}
		})
	}
}

func TestTwoRangesOfASite(t *testing.T) {
	r := startRig(t)
	r.serveSite(1, store.Target{Site: probeTree(t)})
	answer, body := r.dial().ask("GET", "/data.bin", "Range: bytes=0-1,-2")
	if got := answer.Header.Values("X-Two"); len(got) != 2 {
		t.Errorf("a header that a rule sets twice: %q", got)
	}
	if answer.StatusCode != 206 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "multipart/byteranges; boundary=") || answer.ContentLength != int64(len(body)) {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	for _, want := range []string{"bytes 0-1/10", "\r\n\r\n01\r\n", "bytes 8-9/10", "\r\n\r\n89\r\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %q", want, body)
		}
	}
}

// What HEAD says is what GET would say.
func TestSiteHeadIsAsGet(t *testing.T) {
	r := startRig(t)
	r.serveSite(1, store.Target{Site: probeTree(t), CleanURLs: true})
	for _, target := range []string{"/", "/about", "/about.html", "/docs", "/docs/", "/app.js", "/nothing", "/moved/a", "/app/a", "/closed/a", "/none/a", "/large.bin", "/" + strings.Repeat("a", maxPath)} {
		for _, header := range []string{"X-None: 1", "Accept-Encoding: gzip", "Range: bytes=1-2", "If-None-Match: *", `If-Match: "a"`} {
			w := r.dial()
			got, body := w.ask("HEAD", target, header)
			want, _ := w.ask("GET", target, header)
			for _, answer := range []*http.Response{got, want} {
				answer.Header.Del("Date")
			}
			if want.StatusCode == 301 || want.StatusCode == 416 || want.StatusCode == 412 { // net/http leaves the length out or not
				got.Header.Del("Content-Length")
				want.Header.Del("Content-Length")
			}
			if body != "" || got.StatusCode != want.StatusCode || fmt.Sprint(got.Header) != fmt.Sprint(want.Header) {
				t.Errorf("%.20s with %s: HEAD says %d %v, GET %d %v", target, header, got.StatusCode, got.Header, want.StatusCode, want.Header)
			}
		}
	}
}

func TestNoWayOutOfASite(t *testing.T) {
	r := startRig(t)
	now, before := exampleTree(t), writeTree(t, map[string]string{".env": "secret", ".git/config": "secret", "old.3f9c2ab1.js": "old"}, nil)
	write(t, filepath.Join(before, "files", "unlisted.txt"), "secret")
	paths := []string{"/.env", "/%2eenv", "/docs/.git/config", "/.git/config", "/unlisted.txt", "/files/unlisted.txt", "/../outside.txt", "/%2e%2e/outside.txt",
		"/..%2foutside.txt", "/docs/..%2f..%2foutside.txt", "/..%5coutside.txt", "/docs%5c..%5cunlisted.txt", "/..;/outside.txt", "/.%00/unlisted.txt",
		"/unlisted.txt%00.js", "//unlisted.txt", "/./unlisted.txt", "/docs//../unlisted.txt", "/%c0%ae%c0%ae/outside.txt", "/.well-known/../unlisted.txt",
		"/.well-known/%2e%2e/.env", "/old.3f9c2ab1.js/../unlisted.txt", "/../manifest.json", "/../encoded/app.js.gz"}
	for generation, wanted := range []store.Target{{}, {SPA: true}, {CleanURLs: true}, {SPA: true, CleanURLs: true}} {
		wanted.Site, wanted.Earlier = now, []store.EarlierSite{{Site: before, Until: time.Now().Add(time.Hour)}}
		r.serveSite(int64(generation+1), wanted)
		w := r.dial()
		if answer, body := w.ask("GET", "/old.3f9c2ab1.js"); answer.StatusCode != 200 || body != "old" || answer.Header.Get("Cache-Control") != immutableCaching {
			t.Errorf("a file of the earlier release: %d %q %v", answer.StatusCode, body, answer.Header)
		}
		for _, path := range paths {
			answer, body := w.ask("GET", path)
			if strings.Contains(body, "secret") || answer.StatusCode >= 500 || answer.StatusCode == 200 && body != "home" {
				t.Errorf("%s: %d %q", path, answer.StatusCode, body)
			}
			if to := answer.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.Contains(to, "\\") {
				t.Errorf("%s leads to %q", path, to)
			}
		}
	}
}

// A rule for all that is missing must not hide the files that pages of an earlier release still ask for.
func TestEarlierFilesBeforeFallbackRules(t *testing.T) {
	before := writeTree(t, map[string]string{"old.3f9c2ab1.js": "old", "old.3f9c2ab1.css": "css", "gone.3f9c2ab1.js": "gone", "moved.3f9c2ab1.js": "moved", "lost.3f9c2ab1.js": "lost", "page.xhtml": "<p>", "shut.3f9c2ab1.js": "shut"}, nil)
	now := map[string]string{"index.html": "home", "404.html": "not here", "new.js": "new"}
	r := startRig(t)
	for generation, rules := range []string{
		`{"from":"/*","to":"/index.html","status":200}`,
		`{"from":"/*","to":"/404.html","status":404}`,
		`{"from":"/*","to":"/nowhere","status":404}`,
	} {
		tree := writeRules(t, writeTree(t, now, nil), `{"redirects":[{"from":"/gone.3f9c2ab1.js","to":"/404.html","status":410},{"from":"/moved.3f9c2ab1.js","to":"/new.js","status":301},
			{"from":"/lost.3f9c2ab1.js","to":"/new.js","status":200},{"from":"/shut.3f9c2ab1.js","to":"/404.html","status":404,"force":true},`+rules+`]}`)
		r.serveSite(int64(generation+1), store.Target{Site: tree, Earlier: []store.EarlierSite{{Site: before, Until: time.Now().Add(time.Hour)}}})
		w := r.dial()
		for path, want := range map[string]string{
			"/old.3f9c2ab1.js": "200 old", "/old.3f9c2ab1.css": "200 css", "/gone.3f9c2ab1.js": "410 not here", "/moved.3f9c2ab1.js": "301 ", "/lost.3f9c2ab1.js": "200 new", "/shut.3f9c2ab1.js": "404 not here",
		} {
			if answer, body := w.ask("GET", path); fmt.Sprintf("%d %s", answer.StatusCode, body) != want {
				t.Errorf("%s with %s: %d %q, want %s", path, rules, answer.StatusCode, body, want)
			}
		}
		if _, body := w.ask("GET", "/page.xhtml"); body == "<p>" {
			t.Errorf("a page of an earlier release is still there with %s", rules)
		}
	}
}

// What a collection took away is missing, and not a fault, when it was only kept for late visitors.
func TestEarlierTreeThatWasRemoved(t *testing.T) {
	now := writeTree(t, map[string]string{"index.html": "home"}, nil)
	before, long := map[string]string{"a.3f9c2ab1.js": "newer", "b.3f9c2ab1.js": "only"}, map[string]string{"a.3f9c2ab1.js": "older"}
	s := mustOpen(t, store.Target{Site: now, Earlier: []store.EarlierSite{
		{Site: writeTree(t, before, nil), Until: time.Now().Add(time.Hour)}, {Site: writeTree(t, long, nil), Until: time.Now().Add(time.Hour)},
	}})
	for name := range maps.Keys(before) {
		if err := s.earlier[0].root.Remove("files/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if answer := get(t, s, "/a.3f9c2ab1.js"); answer.Code != 200 || answer.Body.String() != "older" {
		t.Errorf("%d %q", answer.Code, answer.Body)
	}
	if answer := get(t, s, "/b.3f9c2ab1.js"); answer.Code != 404 || answer.Header().Get("Etag") != "" {
		t.Errorf("%d %v", answer.Code, answer.Header())
	}
}

// A switch in the middle of an answer leaves the answer what it was.
func TestSiteIsSwitchedDuringAnAnswer(t *testing.T) {
	const size = 16 << 20
	r := startRig(t)
	r.serveSite(1, store.Target{Site: writeTree(t, map[string]string{"large.bin": strings.Repeat("1", size)}, nil)})
	answer, err := r.http.Do(r.request(http.MethodGet, "s.test", "/large.bin", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	first := make([]byte, 10)
	if _, err := io.ReadFull(answer.Body, first); err != nil {
		t.Fatal(err)
	}
	r.serveSite(2, store.Target{Site: writeTree(t, map[string]string{"large.bin": strings.Repeat("2", size)}, nil)})
	rest, err := io.ReadAll(answer.Body)
	if err != nil || len(rest) != size-len(first) || strings.Trim(string(rest), "1") != "" {
		t.Errorf("%d bytes of one version, %v", len(rest), err)
	}
	if status, body := r.get("s.test", "/large.bin"); status != 200 || strings.Trim(body, "2") != "" {
		t.Errorf("after the switch: %d and other content", status)
	}
}

func TestLongestPathIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/static-sites.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("A path longer than %d KiB is answered with 414", maxPath>>10); !strings.Contains(string(text), want) {
		t.Errorf("docs/static-sites.md does not say %q", want)
	}
}
