package web

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// open are the routes that ask for nothing, or that check a signature of their own.
var open = []string{
	"GET /healthz", "GET /readyz", "GET /api/v1/openapi.json", "GET /schema/shipgate.json", "POST " + webhookPath, "POST " + exchangePath,
	"GET /login", "POST /login", "POST /logout", "GET /assets/:asset", "GET /setup/github",
}

// worthless is what somebody may hold, make up or put elsewhere, and opens nothing. Each is given a lab with apps and a deployment.
var worthless = map[string]func(l *lab, r *http.Request){
	"nothing":       func(*lab, *http.Request) {},
	"expired token": func(l *lab, r *http.Request) { bearer(r, l.token(adminUntil(time.Now().Add(-time.Second)))) },
	"expired token's session": func(l *lab, r *http.Request) {
		secret := l.token(adminUntil(time.Now().Add(time.Hour)))
		cookie(r, l.session(secret, -time.Second))
	},
	"revoked token":             func(l *lab, r *http.Request) { secret, _ := l.revoked(); bearer(r, secret) },
	"revoked token's session":   func(l *lab, r *http.Request) { _, session := l.revoked(); cookie(r, session) },
	"session as a token":        func(l *lab, r *http.Request) { bearer(r, l.session(l.admin, time.Hour)) },
	"token as a session":        func(l *lab, r *http.Request) { cookie(r, l.admin) },
	"key of the page":           func(l *lab, r *http.Request) { bearer(r, l.store.PageKey(1)) },
	"key of the page in a form": func(l *lab, r *http.Request) { r.URL.RawQuery = "key=" + l.store.PageKey(1) },
	"key as a session":          func(l *lab, r *http.Request) { cookie(r, "1.9999999999."+l.store.PageKey(1)) },
	"token in the address":      func(l *lab, r *http.Request) { r.URL.RawQuery = "token=" + l.admin + "&access_token=" + l.admin },
	"token as the user":         func(l *lab, r *http.Request) { r.URL.User = nil; r.SetBasicAuth(l.admin, "x") },
	"token in another header": func(l *lab, r *http.Request) {
		for _, name := range []string{"X-Api-Key", "X-Auth-Token", "Private-Token", "X-Shipgate-Token", "Proxy-Authorization"} {
			r.Header.Set(name, "Bearer "+l.admin)
		}
	},
	"token after a wrong one": func(l *lab, r *http.Request) { r.Header["Authorization"] = []string{"Bearer x", "Bearer " + l.admin} },
	"token in base64":         func(l *lab, r *http.Request) { bearer(r, base64.StdEncoding.EncodeToString([]byte(l.admin))) },
	"token cut short":         func(l *lab, r *http.Request) { bearer(r, l.admin[:len(l.admin)-1]) },
	"token with a letter":     func(l *lab, r *http.Request) { bearer(r, l.admin+"a") },
	"token with a wildcard":   func(l *lab, r *http.Request) { bearer(r, l.admin[:8]+"%") },
	"token in capitals":       func(l *lab, r *http.Request) { bearer(r, strings.ToUpper(l.admin)) },
	"number of the token":     func(_ *lab, r *http.Request) { bearer(r, "1") },
	"identity token":          func(_ *lab, r *http.Request) { bearer(r, "e30.eyJpc3MiOiJ4In0.c2ln") },
	"SQL":                     func(_ *lab, r *http.Request) { bearer(r, "' OR 1=1 --") },
	"someone else's address": func(_ *lab, r *http.Request) {
		r.Header.Set("X-Forwarded-User", "admin")
		r.Header.Set("X-Real-Ip", "127.0.0.1")
	},
}

func bearer(r *http.Request, secret string) { r.Header.Set("Authorization", "Bearer "+secret) }

func cookie(r *http.Request, value string) {
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: value})
}

func adminUntil(end time.Time) store.Token {
	return store.Token{Rights: store.Rights{store.RightAdmin}, ExpiresAt: end}
}

// revoked returns a token that was, and the session that it had.
func (l *lab) revoked() (secret, session string) {
	l.t.Helper()
	secret = l.token(store.Token{Rights: store.Rights{store.RightAdmin}})
	session = l.session(secret, time.Hour)
	token, err := l.store.Authenticate(l.t.Context(), secret)
	if err == nil {
		err = l.store.RevokeToken(l.t.Context(), token.ID)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return secret, session
}

// Every route there is, the pages among them, refuses whatever is no credential of its own kind.
func TestEveryRouteRefusesWorthlessCredentials(t *testing.T) {
	for name, give := range worthless {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.createApp("hello")
			l.advance(l.enqueue("hello"), store.StepDone)
			for i, asked := range everyRoute(l) {
				if slices.Contains(open, asked) {
					continue
				}
				method, path, _ := strings.Cut(asked, " ")
				r := l.request(method, regexp.MustCompile(`:\w+`).ReplaceAllStringFunc(path, example), "")
				r.Header.Del("Authorization")
				r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i)) // or so many wrong ones would be told to wait
				give(l, r)
				got := l.raw(r)
				if got.status != http.StatusUnauthorized {
					t.Errorf("%s: status %d", asked, got.status)
				}
				if strings.Contains(got.body, "hello") {
					t.Errorf("%s tells: %s", asked, got.body)
				}
			}
		})
	}
}

// Every route that changes something refuses what a page of another site makes a browser send, whatever the browser adds to it.
// Deliveries are trusted by their signature alone.
func TestEveryRouteRefusesPagesOfOtherSites(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	for _, asked := range everyRoute(l) {
		method, path, _ := strings.Cut(asked, " ")
		if method == http.MethodGet || path == webhookPath {
			continue
		}
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			r := l.request(method, regexp.MustCompile(`:\w+`).ReplaceAllStringFunc(path, example), "")
			cookie(r, l.session(l.admin, time.Hour))
			r.Header.Set(name, value)
			if got := l.raw(r); got.status != http.StatusForbidden || got.header.Get("Set-Cookie") != "" {
				t.Errorf("%s with %s %s: status %d", asked, name, value, got.status)
			}
		}
	}
	if d, err := l.store.Deployment(t.Context(), d.ID); err != nil || d.CancelAsked {
		t.Errorf("the deployment: %+v, %v", d, err)
	}
}

// What others wrote is text on every page: names of branches, subjects, reasons, logs, and addresses that are asked for.
func TestEveryPageEscapes(t *testing.T) {
	const raw = `"><img src=x onerror=alert(1)><script>alert(2)</script>`
	l := newLab(t)
	l.createApp("hello")
	d, err := l.store.Enqueue(t.Context(), store.NewDeployment{App: "hello", Trigger: store.TriggerPush, SHA: firstCommit, Subject: raw, Ref: "refs/heads/" + raw})
	if err == nil {
		d, _, err = l.store.Claim(t.Context(), "hello")
	}
	for _, step := range []store.Step{store.StepUndoing, store.StepUndone} {
		if err == nil {
			d, err = l.store.Advance(t.Context(), d, step, store.Change{Verdict: store.Failed, Reason: raw, Events: []store.Event{{Kind: "failed", Text: raw}, {Kind: "hint", Text: raw}, {Kind: "log", Text: raw}}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprintf("/deployments/%d", d.ID)
	asked := "?next=/" + url.QueryEscape(raw) + "&key=" + url.QueryEscape(raw) + "&state=" + url.QueryEscape(raw) + "&code=" + url.QueryEscape(raw)
	for _, path := range []string{"/", "/login", page, page + "/summary", "/deployments/9", "/nothing/" + url.PathEscape(raw), "/setup/github"} {
		for _, signedIn := range []string{l.session(l.admin, time.Hour), ""} {
			got := l.browser(signedIn).get(path + asked)
			if strings.Contains(got.body, "<img") || strings.Contains(got.body, "<script>") {
				t.Errorf("%s: %s", path, got.body)
			}
		}
	}
	if got := l.browser(l.session(l.admin, time.Hour)).get(page); !strings.Contains(got.body, "&lt;img src=x") {
		t.Errorf("nothing of it is shown: %s", got.body)
	}
}

// everyRoute lists the routes of the server itself, so that none can be forgotten.
func everyRoute(l *lab) (all []string) {
	for _, route := range (&server{Options{Store: l.store, GitHub: l.github}}).router().Routes() {
		if !strings.HasPrefix(route.Method, "echo_") {
			all = append(all, route.Method+" "+route.Path)
		}
	}
	slices.Sort(all)
	return all
}

func example(parameter string) string {
	if parameter == ":app" {
		return "hello"
	}
	return "1"
}

// raw sends a request without comparing it with the document, which knows no pages.
func (l *lab) raw(r *http.Request) answer {
	l.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 1<<16)
	n, _ := response.Body.Read(body)
	return answer{response.StatusCode, response.Header, string(body[:n])}
}
