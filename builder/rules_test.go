package builder

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/shipgate/shipgate/store"
)

// said gathers what a parser says.
type said []string

func (s *said) say(format string, arguments ...any) {
	*s = append(*s, fmt.Sprintf(format, arguments...))
}

func asJSON(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(text))
}

func TestHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string // rules as JSON
		said       string // lines
	}{
		"empty":             {"", `[]`, ""},
		"comments alone":    {"# a\n  # b\n\n", `[]`, ""},
		"one":               {"/*\n  X-Frame-Options: DENY\n", `[{"path":"/*","set":[["X-Frame-Options","DENY"]]}]`, ""},
		"several":           {"/a\n X-A: 1\n\n X-B: 2\n/b/:id/*\n\tx-c:3", `[{"path":"/a","set":[["X-A","1"],["X-B","2"]]},{"path":"/b/:id/*","set":[["X-C","3"]]}]`, ""},
		"same header twice": {"/a\n Cache-Control: public\n cache-control: max-age=60", `[{"path":"/a","set":[["Cache-Control","public"],["Cache-Control","max-age=60"]]}]`, ""},
		"same path twice":   {"/a\n X-A: 1\n/a\n X-A: 2", `[{"path":"/a","set":[["X-A","1"]]},{"path":"/a","set":[["X-A","2"]]}]`, ""},
		"value with colon":  {"/a\n Link: <https://x.y/z>; rel=preload", `[{"path":"/a","set":[["Link","<https://x.y/z>; rel=preload"]]}]`, ""},
		"value with hash":   {"/a\n X-A: red #fff", `[{"path":"/a","set":[["X-A","red #fff"]]}]`, ""},
		"taken off":         {"/a\n ! X-A\n !x-b", `[{"path":"/a","unset":["X-A","X-B"]}]`, ""},
		"windows":           {"\ufeff/a\r\n X-A: 1\r\n", `[{"path":"/a","set":[["X-A","1"]]}]`, ""},
		"not indented":      {"/a\nX-A: 1", `[{"path":"/a","set":[["X-A","1"]]}]`, ""},
		"star inside":       {"/a*/b\n X-A: 1", `[{"path":"/a*/b","set":[["X-A","1"]]}]`, ""},
		"path alone":        {"/a\n/b\n X-A: 1", `[{"path":"/b","set":[["X-A","1"]]}]`, ""},

		"no path":         {"X-A: 1\n/a\n X-B: 2", `[{"path":"/a","set":[["X-B","2"]]}]`, "_headers:1: left out: there is no path above it"},
		"another host":    {"/a\n X-A: 1\nhttps://x.y/b\n X-B: 2", `[{"path":"/a","set":[["X-A","1"]]}]`, "_headers:3: left out: https://x.y/b does not start with /\n_headers:4: left out: there is no path above it"},
		"bad path":        {"/a b\n X-A: 1", `[]`, "_headers:1: left out: /a b is not a path alone\n_headers:2: left out: there is no path above it"},
		"bad placeholder": {"/:1\n", `[]`, "_headers:1: left out: :1 is not a placeholder: use letters, digits and _"},
		"no colon":        {"/a\n X-A", `[]`, "_headers:2: left out: X-A is neither a path nor Name: value"},
		"no value":        {"/a\n X-A:\n X-B: 1", `[{"path":"/a","set":[["X-B","1"]]}]`, "_headers:2: left out: header X-A has no value"},
		"no name":         {"/a\n : x", `[]`, `_headers:2: left out: "" is not the name of a header`},
		"bad name":        {"/a\n X A: x", `[]`, `_headers:2: left out: "X A" is not the name of a header`},
		"bad unset":       {"/a\n ! X A", `[]`, `_headers:2: left out: "X A" is not the name of a header`},
		"server's own":    {"/a\n content-length: 5\n !Connection", `[]`, "_headers:2: left out: header Content-Length is the server's own\n_headers:3: left out: header Connection is the server's own"},
		"control":         {"/a\n X-A: a\x00b", `[]`, "_headers:2: left out: it has control characters"},
		"lone return":     {"/a\n X-A: a\rSet-Cookie: b", `[]`, "_headers:2: left out: it has control characters"},
		"not UTF-8":       {"/a\n X-A: \xff", `[]`, "_headers:2: left out: it is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			var said said
			rules, err := parseHeaders([]byte(c.text), said.say)
			if err != nil {
				t.Error(err)
			}
			if got := strings.ReplaceAll(asJSON(t, rules), "null", "[]"); got != c.want {
				t.Errorf("rules are %s, want %s", got, c.want)
			}
			if got := strings.Join(said, "\n"); got != c.said {
				t.Errorf("said %q, want %q", got, c.said)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		said       string
	}{
		"empty":          {"\n# nothing\n", ``, ""},
		"moved":          {"/old /new", `/old → /new 301`, ""},
		"status":         {"/a /b 302\n/c /d 303\n/e /f 307\n/g /h 308", "/a → /b 302, /c → /d 303, /e → /f 307, /g → /h 308", ""},
		"force":          {"/a /b 200!", `/a → /b 200 force`, ""},
		"rewrite":        {"/* /index.html 200", `/* → /index.html 200`, ""},
		"not found":      {"/x/* /x/404.html 404\n/y/* /gone.html 410", `/x/* → /x/404.html 404, /y/* → /gone.html 410`, ""},
		"elsewhere":      {"/a https://x.y:8080/b?c=d#e 302", `/a → https://x.y:8080/b?c=d#e 302`, ""},
		"splat":          {"/news/* /blog/:splat", `/news/* → /blog/:splat 301`, ""},
		"placeholders":   {"/n/:year/:month_2/* https://x.y/:year.:month_2?s=:splat", `/n/:year/:month_2/* → https://x.y/:year.:month_2?s=:splat 301`, ""},
		"query":          {"/store id=:id kind=shoe /shoes/:id 302!", `/store id=:id kind=shoe → /shoes/:id 302 force`, ""},
		"empty query":    {"/a k= /b", `/a k= → /b 301`, ""},
		"comment behind": {"/a /b # why\n/c /d 302 #why", `/a → /b 301, /c → /d 302`, ""},
		"fragment":       {"/a /b#c 302", `/a → /b#c 302`, ""},
		"colon in name":  {"/a /wiki/Talk:Page", `/a → /wiki/Talk:Page 301`, ""},
		"windows":        {"\ufeff/a\t/b   302\r\n", `/a → /b 302`, ""},
		"own parameters": {"/a x=1 /a?y=:v", `/a x=1 → /a?y=:v 301`, ""},
		"itself, hidden": {"/a /a 404", `/a → /a 404`, ""},

		"condition":           {"/a /b 302 Country=us,ca", ``, "_redirects:1: left out: Country=us,ca is not understood: after where to there may be a status; conditions are not possible"},
		"condition alone":     {"/a /b Role=admin\n/c /d", `/c → /d 301`, "_redirects:1: left out: Role=admin is not understood: after where to there may be a status; conditions are not possible"},
		"no target":           {"/a\n/b x=1", ``, "_redirects:1: left out: it does not say where to\n_redirects:2: left out: it does not say where to"},
		"bad status":          {"/a /b 204\n/a /b 99999999999999999999", ``, "_redirects:1: left out: status 204 is not possible: use one of 200 301 302 303 307 308 401 403 404 410 451\n_redirects:2: left out: status 99999999999999999999 is not possible: use one of 200 301 302 303 307 308 401 403 404 410 451"},
		"other host":          {"https://a.b/* /c", ``, "_redirects:1: left out: https://a.b/* names a host: an app's hosts are said in its config"},
		"no slash":            {"a /b", ``, "_redirects:1: left out: a does not start with /"},
		"star in between":     {"/a/*/b /c\n/a* /b", ``, "_redirects:1: left out: /a/*/b has a * that is not its last segment\n_redirects:2: left out: /a* has a * that is not its last segment"},
		"two stars":           {"/*/* /c", ``, "_redirects:1: left out: /*/* has a * that is not its last segment"},
		"query in from":       {"/a?b=c /d", ``, "_redirects:1: left out: /a?b=c is not a path alone"},
		"dots":                {"/a/../b /d", ``, "_redirects:1: left out: /a/../b has .. as a segment"},
		"placeholder twice":   {"/:a/:a /d", ``, "_redirects:1: left out: the placeholder :a is there twice"},
		"unknown placeholder": {"/a/:id /b/:name", ``, "_redirects:1: left out: there is no :name in /a/:id to take it from"},
		"splat without star":  {"/a /b/:splat", ``, "_redirects:1: left out: there is no :splat in /a to take it from"},
		"placeholder splat":   {"/:splat/* /b/:splat", ``, "_redirects:1: left out: :splat is what a * matched"},
		"query twice":         {"/a x=1 x=2 /b", ``, "_redirects:1: left out: the parameter x is there twice"},
		"query placeholder":   {"/a x=:1 /b", ``, "_redirects:1: left out: :1 is not a placeholder: use letters, digits and _"},
		"proxy":               {"/api/* https://x.y/:splat 200", ``, "_redirects:1: left out: https://x.y/:splat is elsewhere, and status 200 is for pages of this site"},
		"other scheme":        {"/a javascript:alert(1)", ``, "_redirects:1: left out: javascript:alert(1) is neither a path nor an http URL"},
		"no scheme":           {"/a //x.y/b", ``, "_redirects:1: left out: //x.y/b is neither a path nor an http URL"},
		"slashes":             {"/a ///b", ``, "_redirects:1: left out: ///b is neither a path nor an http URL"},
		"word":                {"/a b", ``, "_redirects:1: left out: b is neither a path nor an http URL"},
		"bad URL":             {"/a https://x.y/%zz", ``, "_redirects:1: left out: https://x.y/%zz is not an URL"},
		"itself":              {"/a /a 302", ``, "_redirects:1: left out: it leads to itself"},
		"not UTF-8":           {"/\xff /a", ``, "_redirects:1: left out: it is not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			var said said
			var got []string
			rules, err := parseRedirects([]byte(c.text), said.say)
			if err != nil {
				t.Error(err)
			}
			for _, r := range rules {
				from := r.From
				for _, name := range slices.Sorted(maps.Keys(r.Query)) {
					from += " " + name + "=" + r.Query[name]
				}
				rule := fmt.Sprintf("%s → %s %d", from, r.To, r.Status)
				if r.Force {
					rule += " force"
				}
				got = append(got, rule)
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("rules are %s, want %s", got, c.want)
			}
			if got := strings.Join(said, "\n"); got != c.said {
				t.Errorf("said %q, want %q", got, c.said)
			}
		})
	}
}

// A site whose rules pass a limit is refused, by file, line and limit: nobody would notice that a rule does nothing.
func TestRulesBeyondALimitAreRefused(t *testing.T) {
	lines := func(format string, n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, format+"\n", i)
		}
		return text.String()
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"headers":              {"_headers", lines("/%d\n X-A: 1", maxRules), ""},
		"too many":             {"_headers", lines("/%d\n X-A: 1", maxRules+1), "_headers:4001: there are more than 2000 rules, or headers set by them"},
		"too many headers":     {"_headers", "/*\n" + lines("X-%d: 1", maxRules+1), "_headers:2002: there are more than 2000 rules, or headers set by them"},
		"long line":            {"_headers", "/a\n X-A: " + strings.Repeat("a", maxRuleLine), "_headers:2: the line is longer than 8192 bytes"},
		"headers of all":       {"_headers", "/*\n" + lines("X-%d: 1", 400), ""},
		"too many of all":      {"_headers", "/*\n" + lines("X-%d: 1", 401), "_headers:1: too many rules may match one path, this one among them: their weights may be 400 together, 50 for one path without placeholders"},
		"one path":             {"_headers", strings.Repeat("/a\n X-A: 1\n", 51), "_headers:101: too many rules may match one path, this one among them"},
		"endings":              {"_headers", lines("/*.x%d\n X-A: 1", 400), ""},
		"too many endings":     {"_headers", lines("/*.x%d\n X-A: 1", 401), "_headers:801: too many rules may match one path, this one among them"},
		"stars":                {"_headers", lines("/*/a%d/*\n X-A: 1", 2), ""},
		"too many stars":       {"_headers", lines("/*/a%d/*\n X-A: 1", 3), "_headers:5: too many rules may match one path, this one among them"},
		"stars apart":          {"_headers", lines("/%d/*/a/*\n X-A: 1", 100), ""},
		"star and names":       {"_headers", "/*/:a/:b/:c/d\n X-A: 1", "_headers:1: too many rules may match one path, this one among them"},
		"redirects":            {"_redirects", lines("/%d /", maxRules), ""},
		"too many redirects":   {"_redirects", lines("/%d /", maxRules+1), "_redirects:2001: there are more than 2000 rules"},
		"placeholders":         {"_redirects", lines("/:a/%d /", 400), ""},
		"too many of these":    {"_redirects", lines("/:a/%d /", 401), "_redirects:401: too many rules may match one path, this one among them"},
		"fallback after these": {"_redirects", lines("/:a/%d /", 400) + "/* /index.html 200", "_redirects:400: too many rules may match one path, this one among them"},
	} {
		var said said
		var err error
		if c.file == headersFile {
			_, err = parseHeaders([]byte(c.text), said.say)
		} else {
			_, err = parseRedirects([]byte(c.text), said.say)
		}
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(got, c.want) || len(said) > 0 {
			t.Errorf("%s: %v, %q; want %q", name, err, said, c.want)
		}
		if err != nil && store.CodeOf(err) != store.CodeFailed {
			t.Errorf("%s: code %s", name, store.CodeOf(err))
		}
	}
	var said said
	_, _ = parseRedirects([]byte(strings.Repeat("bad\n", 50)), said.say)
	if len(said) != maxComplaints+1 || said[maxComplaints] != "_redirects: 30 more lines are left out" {
		t.Errorf("of 50 bad lines is said %q", said)
	}
}

// The rules go into the manifest, as the proxy reads it, and their files nowhere.
func TestRulesOfASite(t *testing.T) {
	l := newLab(t, Limits{})
	site := commit{
		"public/index.html": "x", "public/docs/_headers": "x", "public/rules": "/a /b 302!\nbad", "public/_redirects": file{store.ModeSymlink, "rules"},
		"public/_headers": "/*\n X-A: 1\n ! X-B\n",
	}
	artefact, log, err := l.build(t, site, &store.StaticConfig{PublishDir: "public"})
	if err != nil {
		t.Fatal(err)
	}
	m, published := l.published(t, artefact)
	if got, want := slices.Sorted(maps.Keys(published)), []string{"docs/_headers", "index.html", "rules"}; !slices.Equal(got, want) {
		t.Errorf("published %q, want %q", got, want)
	}
	m.Files = nil
	const want = `{"version":2,"files":null,"headers":[{"path":"/*","set":[["X-A","1"]],"unset":["X-B"]}],"redirects":[{"from":"/a","to":"/b","status":302,"force":true}]}`
	if got := asJSON(t, m); got != want {
		t.Errorf("manifest is %s, want %s", got, want)
	}
	for _, said := range []string{"_redirects:2: left out: it does not say where to", "1 header rules, 1 redirects"} {
		if !strings.Contains(log, said) {
			t.Errorf("log does not say %q:\n%s", said, log)
		}
	}

	artefact, _, err = l.build(t, commit{"_redirects": "/* https://x.y/:splat"}, &store.StaticConfig{})
	if err != nil {
		t.Fatalf("a site of redirects alone: %v", err)
	}
	if m, _ := l.published(t, artefact); len(m.Redirects) != 1 || m.Files == nil {
		t.Errorf("a site of redirects alone has manifest %+v", m)
	}

	large := commit{"index.html": "x", "_headers": "/*\n X-A: 1\n" + strings.Repeat("#\n", maxRuleFile/2)}
	if _, _, err = l.build(t, large, &store.StaticConfig{}); err == nil || !strings.Contains(err.Error(), "_headers has 1 MiB, and 1 MiB are possible") {
		t.Errorf("a large file: %v", err)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte("# x\n/*\n  X-Frame-Options: DENY\n  ! X-A\n/a/:b\n cache-control: no-cache\n"))
	f.Add([]byte("\ufeff/a\r\nX: y\rz\n\x00:\n!\n/::\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var said said
		rules, _ := parseHeaders(text, said.say)
		fields := 0
		for _, rule := range rules {
			checkText(t, rule.Path)
			fields += len(rule.Set) + len(rule.Unset)
			for _, set := range rule.Set {
				checkText(t, set[0])
				checkText(t, set[1])
				if strings.ContainsAny(set[0], ": \t") || slices.Contains(reservedHeaders, set[0]) {
					t.Errorf("header %q is set", set[0])
				}
			}
		}
		if len(rules) > maxRules || fields > maxRules || len(said) > maxComplaints+1 {
			t.Errorf("%d rules with %d fields, %d complaints", len(rules), fields, len(said))
		}
		checkRoundTrip(t, rules)
	})
}

func FuzzRedirects(f *testing.F) {
	f.Add([]byte("# x\n/old/:id/* k=:v a=b https://x.y/new/:id/:splat?k=:v 301! # why\n/* /index.html 200\n"))
	f.Add([]byte("/a /b 302 Country=us\n\ufeff/\r\n/* /:splat\n/%zz /%zz\n= = =\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var said said
		rules, _ := parseRedirects(text, said.say)
		for _, rule := range rules {
			checkText(t, rule.From)
			checkText(t, rule.To)
			if !strings.HasPrefix(rule.From, "/") || !slices.Contains(redirectStatuses, rule.Status) {
				t.Errorf("rule is %+v", rule)
			}
			if local := strings.HasPrefix(rule.To, "/") && !strings.HasPrefix(rule.To, "//"); !local && !strings.HasPrefix(strings.ToLower(rule.To), "http") {
				t.Errorf("rule leads to %q", rule.To)
			}
		}
		if len(rules) > maxRules || len(said) > maxComplaints+1 {
			t.Errorf("%d rules, %d complaints", len(rules), len(said))
		}
		checkRoundTrip(t, rules)
	})
}

// checkText refuses what is no part of a header line.
func checkText(t *testing.T, text string) {
	t.Helper()
	if text == "" || len(text) > maxRuleLine || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n\x00") {
		t.Errorf("%q is part of a rule", text)
	}
}

// checkRoundTrip sees that the proxy gets what was parsed.
func checkRoundTrip[T any](t *testing.T, rules []T) {
	t.Helper()
	var read []T
	if err := json.Unmarshal([]byte(asJSON(t, rules)), &read); err != nil || asJSON(t, read) != asJSON(t, rules) {
		t.Errorf("%+v is read as %+v (%v)", rules, read, err)
	}
}
