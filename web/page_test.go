package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// browser keeps cookies and follows nothing, so that each answer can be looked at.
type browser struct {
	l      *lab
	cookie string
	header http.Header
}

func (l *lab) browser(cookie string) *browser {
	return &browser{l: l, cookie: cookie, header: http.Header{"Accept": {"text/html"}, "Sec-Fetch-Site": {"same-origin"}}}
}

// session makes the cookie of a token, as signing in would.
func (l *lab) session(secret string, valid time.Duration) string {
	l.t.Helper()
	token, err := l.store.Authenticate(l.t.Context(), secret)
	if err != nil {
		l.t.Fatal(err)
	}
	return (&server{Options{Store: l.store}}).sealSession(token, time.Now().Add(valid))
}

func (b *browser) do(method, path string, form url.Values) answer {
	b.l.t.Helper()
	ctx, cancel := context.WithTimeout(b.l.t.Context(), deadline)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, b.l.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.l.t.Fatal(err)
	}
	request.Header = b.header.Clone()
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if b.cookie != "" {
		request.AddCookie(&http.Cookie{Name: sessionCookie, Value: b.cookie})
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		b.l.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.l.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

// status asks for what may be a stream.
func (b *browser) status(path string) int {
	b.l.t.Helper()
	request, err := http.NewRequestWithContext(b.l.t.Context(), "GET", b.l.url+path, nil)
	if err != nil {
		b.l.t.Fatal(err)
	}
	request.AddCookie(&http.Cookie{Name: sessionCookie, Value: b.cookie})
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.l.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

func (b *browser) get(path string) answer { return b.do("GET", path, nil) }

func (b *browser) post(path string, fields ...string) answer {
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do("POST", path, form)
}

func (l *lab) publish(app string, public bool) {
	l.t.Helper()
	l.ask("PATCH", "/api/v1/apps/"+app, fmt.Sprintf(`{"config":{"public_logs":%v}}`, public)).must(l.t, http.StatusOK)
}

// Who may see and do what on the page of a deployment of hello, which runs.
func TestWhoSeesAPage(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	d := l.enqueue("hello")
	page, key := fmt.Sprintf("/deployments/%d", d.ID), l.store.PageKey(d.ID)
	session := func(right store.Right, app string) string {
		return l.session(l.token(store.Token{Rights: store.Rights{right}, App: app}), time.Hour)
	}
	revoked := l.token(store.Token{Rights: store.Rights{store.RightAdmin}})
	revokedSession := l.session(revoked, time.Hour)
	gone, _ := l.store.Authenticate(t.Context(), revoked)
	if err := l.store.RevokeToken(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	admin := session("admin", "")
	parts := strings.Split(admin, ".")
	for name, test := range map[string]struct {
		cookie, query       string
		public              bool
		see, act, elsewhere int // the page, its buttons, and a deployment that is not there
	}{
		"nobody":                  {see: 401, act: 401, elsewhere: 401},
		"read":                    {cookie: session("read", ""), see: 200, act: 403, elsewhere: 404},
		"read of the app":         {cookie: session("read", "hello"), see: 200, act: 403, elsewhere: 404},
		"deploy of the app":       {cookie: session("deploy", "hello"), see: 200, act: 303, elsewhere: 404},
		"admin":                   {cookie: admin, see: 200, act: 303, elsewhere: 404},
		"admin of another":        {cookie: session("admin", "other"), see: 404, act: 404, elsewhere: 404},
		"revoked":                 {cookie: revokedSession, see: 401, act: 401, elsewhere: 401},
		"expired":                 {cookie: l.session(l.admin, -time.Second), see: 401, act: 401, elsewhere: 401},
		"forged mark":             {cookie: parts[0] + "." + parts[1] + "." + l.store.Sign("page", parts[0]+"."+parts[1]), see: 401, act: 401, elsewhere: 401},
		"longer than signed":      {cookie: parts[0] + ".9999999999." + parts[2], see: 401, act: 401, elsewhere: 401},
		"no mark":                 {cookie: parts[0] + "." + parts[1] + ".", see: 401, act: 401, elsewhere: 401},
		"a token as the cookie":   {cookie: l.admin, see: 401, act: 401, elsewhere: 401},
		"key of a private app":    {query: "?key=" + key, see: 401, act: 401, elsewhere: 401},
		"key":                     {query: "?key=" + key, public: true, see: 200, act: 403, elsewhere: 401},
		"wrong key":               {query: "?key=" + key[1:], public: true, see: 401, act: 401, elsewhere: 401},
		"empty key":               {query: "?key=", public: true, see: 401, act: 401, elsewhere: 401},
		"key of another page":     {query: "?key=" + l.store.PageKey(d.ID+1), public: true, see: 401, act: 401, elsewhere: 401},
		"public without key":      {public: true, see: 401, act: 401, elsewhere: 401},
		"of another, with a key":  {cookie: session("read", "other"), query: "?key=" + key, public: true, see: 200, act: 403, elsewhere: 404},
		"signed in, with the key": {cookie: admin, query: "?key=" + key, public: true, see: 303, act: 303, elsewhere: 404},
	} {
		l.publish("hello", test.public)
		b := l.browser(test.cookie)
		got := b.get(page + test.query)
		if got.status != test.see {
			t.Errorf("%s: the page answers %d, want %d", name, got.status, test.see)
		}
		part := test.see
		if part == 303 {
			part = 200
		}
		if status := b.get(page + "/summary" + test.query).status; status != part {
			t.Errorf("%s: the summary answers %d, want %d", name, status, part)
		}
		if status := b.get(page + "/log" + test.query).status; status != part {
			t.Errorf("%s: the log answers %d, want %d", name, status, part)
		}
		if test.see != 200 && test.see != 303 {
			if status := b.status(page + "/events" + test.query); status != test.see {
				t.Errorf("%s: the events answer %d, want %d", name, status, test.see)
			}
			if strings.Contains(got.body, "One") || strings.Contains(got.body, "hello") {
				t.Errorf("%s: the answer tells: %s", name, got.body)
			}
		}
		if buttons := strings.Contains(got.body, "/cancel"); buttons && !(test.see == 200 && test.act == 303) {
			t.Errorf("%s: buttons: %v", name, buttons)
		}
		missing := b.get("/deployments/99" + test.query)
		if missing.status != test.elsewhere {
			t.Errorf("%s: a page that is not there answers %d, want %d", name, missing.status, test.elsewhere)
		}
		if test.see == 401 && strings.ReplaceAll(missing.body, "/99", fmt.Sprintf("/%d", d.ID)) != got.body {
			t.Errorf("%s: the answers differ where there is no page", name)
		}
		for _, form := range []string{"/cancel", "/rollback"} {
			want := test.act
			if form == "/rollback" && want == 303 {
				want = 400 // it goes nowhere: this one has not succeeded
			}
			if status := b.post(page+form+test.query, "to", "77").status; status != want {
				t.Errorf("%s: %s answers %d, want %d", name, form, status, want)
			}
		}
		if status := b.get("/api/v1/deployments/1").status; status != 401 {
			t.Errorf("%s: the API answers %d to a cookie", name, status)
		}
		if status := b.get("/api/v1/deployments/1/events").status; status != 401 {
			t.Errorf("%s: the events of the API answer %d to a cookie", name, status)
		}
	}
}

// A page takes no token, and the other way round.
func TestPagesTakeSessionsOnly(t *testing.T) {
	l := newLab(t)
	b := l.browser("")
	b.header.Set("Authorization", "Bearer "+l.admin)
	b.get("/").must(t, 401)
	if got := b.get("/deployments/1"); got.status != 401 || got.header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

func TestSignIn(t *testing.T) {
	l := newLab(t)
	b := l.browser("")
	if got := b.get("/login?next=/deployments/7"); !strings.Contains(got.body, `name="next" value="/deployments/7"`) || !strings.Contains(got.body, `autocomplete="current-password"`) {
		t.Errorf("the form: %s", got.body)
	}
	wrong := b.post("/login", "token", "sg_wrong", "next", "/deployments/7").must(t, 401)
	if !strings.Contains(wrong.body, "This token is not valid.") || strings.Contains(wrong.body, "sg_wrong") || wrong.header.Get("Set-Cookie") != "" {
		t.Errorf("a wrong token: %s %v", wrong.body, wrong.header)
	}
	expired := l.token(store.Token{Rights: store.Rights{store.RightAdmin}, ExpiresAt: time.Now().Add(-time.Minute)})
	if got := b.post("/login", "token", expired, "next", "/deployments/7"); got.body != wrong.body {
		t.Errorf("an expired token is answered otherwise: %s", got.body)
	}
	b.do("POST", "/login?token="+l.admin, url.Values{}).must(t, 401) // addresses end up in logs

	right := b.post("/login", "token", " "+l.admin+"\n", "next", "/deployments/7").must(t, 303)
	cookie := cookieOf(t, right)
	if right.header.Get("Location") != "/deployments/7" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Secure || cookie.MaxAge != 30*24*3600 {
		t.Errorf("%s: %+v", right.header.Get("Location"), cookie)
	}
	if strings.Contains(cookie.Value, l.admin) {
		t.Error("the cookie holds the token")
	}
	b.cookie = cookie.Value
	if got := b.get("/").must(t, 200); !strings.Contains(got.body, "Sign out") {
		t.Errorf("signed in: %s", got.body)
	}
	out := b.post("/logout").must(t, 303)
	if cookie := cookieOf(t, out); cookie.MaxAge >= 0 || cookie.Value != "" {
		t.Errorf("signed out: %+v", cookie)
	}
}

func cookieOf(t *testing.T, got answer) *http.Cookie {
	t.Helper()
	for _, cookie := range (&http.Response{Header: got.header}).Cookies() {
		if cookie.Name == store.SessionCookie || cookie.Name == store.SecureSessionCookie {
			return cookie
		}
	}
	t.Fatalf("no cookie: %v", got.header)
	return nil
}

func TestCookieIsSecureOverTLS(t *testing.T) {
	l := newLab(t)
	b := l.browser("")
	b.header.Set("X-Forwarded-Proto", "https")
	if !cookieOf(t, b.post("/login", "token", l.admin)).Secure {
		t.Error("behind a proxy with TLS the cookie is sent without")
	}
	b.header.Del("X-Forwarded-Proto")
	l.base = "https://shipgate.example.com"
	cookie := cookieOf(t, b.post("/login", "token", l.admin))
	if !cookie.Secure || cookie.Name != "__Host-shipgate_session" || cookie.Domain != "" || cookie.Path != "/" {
		t.Errorf("at an address with TLS the cookie is %+v", cookie)
	}
	request := l.request("GET", "/", "")
	request.Header.Del("Authorization")
	request.AddCookie(cookie)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the cookie opens no page: %s", response.Status)
	}
}

func TestSignInStaysHere(t *testing.T) {
	for next, want := range map[string]string{
		"/deployments/7": "/deployments/7", "/?a=b": "/?a=b", "": "/", "https://evil.example": "/", "//evil.example": "/",
		`/\evil.example`: "/", `\\evil.example`: "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "evil.example": "/",
		"/%": "/", "///evil.example": "/", "/\n/evil.example": "/", "http:/evil.example": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
	l := newLab(t)
	if got := l.browser("").post("/login", "token", l.admin, "next", "//evil.example"); got.header.Get("Location") != "/" {
		t.Errorf("it leads to %q", got.header.Get("Location"))
	}
}

// What a page of another site makes the browser send does nothing, in the form of a page.
func TestFormsOfOtherSites(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	for name, headers := range map[string]http.Header{
		"by fetch metadata": {"Sec-Fetch-Site": {"cross-site"}},
		"by its origin":     {"Origin": {"https://evil.example"}},
		"hidden origin":     {"Origin": {"null"}},
	} {
		b := l.browser(l.session(l.admin, time.Hour))
		b.header = headers
		b.header.Set("Accept", "text/html")
		for _, path := range []string{fmt.Sprintf("/deployments/%d/cancel", d.ID), "/login", "/logout"} {
			got := b.post(path, "token", l.admin).must(t, 403)
			if !strings.Contains(got.header.Get("Content-Type"), "text/html") || got.header.Get("Set-Cookie") != "" {
				t.Errorf("%s, %s: %v", name, path, got.header)
			}
		}
	}
	if d, _ = l.store.Deployment(t.Context(), d.ID); d.CancelAsked {
		t.Error("it was cancelled")
	}
}

func TestPageHeaders(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	l.publish("hello", true)
	signedIn := l.browser(l.session(l.admin, time.Hour))
	page := fmt.Sprintf("/deployments/%d", d.ID)
	for _, got := range []answer{
		signedIn.get("/"), signedIn.get(page), signedIn.get("/deployments/99"), signedIn.get("/nothing"), signedIn.get("/login"),
		signedIn.get("/setup/github"), l.browser("").get(page), l.browser("").get(page + "?key=" + l.store.PageKey(d.ID)),
	} {
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"X-Content-Type-Options":  "nosniff", "Cache-Control": "no-store", "Content-Type": "text/html; charset=UTF-8",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%d: %s is %q, want %q", got.status, name, got.header.Get(name), want)
			}
		}
		if inline := regexp.MustCompile(`(?i)<style|\sstyle=|<script>|\son\w+=`).FindString(got.body); inline != "" {
			t.Errorf("%q stands against the policy", inline)
		}
	}
	byKey := l.browser("").get(page+"?key="+l.store.PageKey(d.ID)).must(t, 200)
	if byKey.header.Get("Referrer-Policy") != "no-referrer" || byKey.header.Get("X-Robots-Tag") != "noindex" {
		t.Errorf("a page with a key: %v", byKey.header)
	}
	if strings.Contains(byKey.body, "<form") {
		t.Error("a reader has forms")
	}
}

func TestAssets(t *testing.T) {
	l := newLab(t)
	b := l.browser("")
	for _, name := range []string{"style.css", "follow.js", "icon.svg"} {
		got := b.get(assetPath(name)).must(t, 200)
		if got.header.Get("Cache-Control") != "public, max-age=31536000, immutable" || got.header.Get("Content-Type") == "" {
			t.Errorf("%s: %v", name, got.header)
		}
		b.get("/assets/"+name).must(t, 404)
	}
	b.get("/assets/..%2fpages%2flogin.html").must(t, 404)
}
