package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func (l *lab) entries(query string) (entries []store.AuditEntry) {
	l.t.Helper()
	l.ask("GET", "/api/v1/audit"+query, "").must(l.t, http.StatusOK).into(l.t, &entries)
	return entries
}

func TestTrustOverTheAPI(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	var rules []store.Trust
	l.ask("GET", "/api/v1/apps/hello/trust", "").must(t, 200).into(t, &rules)
	if rules == nil || len(rules) != 0 {
		t.Errorf("rules %v", rules)
	}
	var first, second store.Trust
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/web","ref":"refs/heads/main"}`).must(t, 201).into(t, &first)
	if first.RepositoryID != "11" || first.OwnerID != "22" || first.Issuer != store.GitHubIssuer || first.App != "hello" {
		t.Errorf("added %+v", first)
	}
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/other","repository_id":"5","repository_owner_id":"6","environment":"production","events":["push"]}`).must(t, 201).into(t, &second)
	l.ask("GET", "/api/v1/apps/hello/trust", "").must(t, 200).into(t, &rules)
	if len(rules) != 2 || rules[1].RepositoryID != "5" {
		t.Errorf("rules %+v", rules)
	}
	for body, status := range map[string]int{
		`{"repository":"acme","ref":"refs/heads/main"}`: 400, `{"repository":"a/b/c","ref":"refs/heads/main"}`: 400, `{"repository":"acme/web"}`: 400,
		`{"repository":"acme/unknown","ref":"refs/heads/main"}`: 500, `{"repository":"acme/web","ref":"refs/heads/main","sub":"x"}`: 400,
	} {
		l.ask("POST", "/api/v1/apps/hello/trust", body).must(t, status)
	}
	l.ask("DELETE", fmt.Sprintf("/api/v1/apps/hello/trust/%d", first.ID), "").must(t, 204)
	l.ask("DELETE", fmt.Sprintf("/api/v1/apps/hello/trust/%d", first.ID), "").must(t, 404)
	l.ask("DELETE", "/api/v1/apps/hello/trust/x", "").must(t, 400)
	l.ask("GET", "/api/v1/apps/nobody/trust", "").must(t, 404)
	deploys := l.request("GET", "/api/v1/apps/hello/trust", "")
	deploys.Header.Set("Authorization", "Bearer "+l.token(store.Token{App: "hello", Rights: store.Rights{store.RightDeploy}}))
	l.send(deploys).must(t, 403)
}

// Whatever is wrong, the answer is the same; the reason is in the trail.
func TestExchange(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("closed")
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/web","ref":"refs/heads/main"}`).must(t, 201)
	var got struct {
		Token string `json:"token"`
	}
	l.ask("POST", "/api/v1/oidc/exchange", `{"token":"11/one","app":"hello"}`).must(t, 200).into(t, &got)
	deploy := l.request("GET", "/api/v1/apps/hello", "")
	deploy.Header.Set("Authorization", "Bearer "+got.Token)
	l.send(deploy).must(t, 200)
	other := l.request("GET", "/api/v1/apps/closed", "")
	other.Header.Set("Authorization", "Bearer "+got.Token)
	l.send(other).must(t, 403)
	verified := l.identities.verified.Load()
	answers := map[string]bool{}
	for _, test := range []struct {
		body, app, reason string
		asks              bool
	}{
		{`{"token":"11/one","app":"hello"}`, "hello", "the token was exchanged before", true},
		{`{"token":"12/two","app":"hello"}`, "hello", "another repository: acme/web", false},
		{`{"token":"11/forged","app":"hello"}`, "hello", "the token's signature is not the issuer's", true},
		{`{"token":"11/three","app":"closed"}`, "closed", "nobody is trusted to deploy the app", false},
		{`{"token":"11/three","app":"nobody"}`, "", "nobody is trusted to deploy the app", false},
		{`{"token":"nothing","app":"hello"}`, "hello", "the token has not three parts", false},
	} {
		answers[l.ask("POST", "/api/v1/oidc/exchange", test.body).must(t, 401).body] = true
		if !contains(l.entries(""), test.reason, test.app) {
			t.Errorf("%s: %q is not in the trail", test.body, test.reason)
		}
		if now := l.identities.verified.Load(); (now > verified) != test.asks {
			t.Errorf("%s: asked for keys %t", test.body, now > verified)
		} else {
			verified = now
		}
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %v", answers)
	}
	l.ask("POST", "/api/v1/oidc/exchange", `{"token":"11/away","app":"hello"}`).must(t, http.StatusGatewayTimeout)
	if !contains(l.entries(""), "the issuer cannot be asked for its keys", "hello") {
		t.Errorf("an issuer that is away is not in the trail: %+v", l.entries(""))
	}
	l.ask("POST", "/api/v1/oidc/exchange", `{"token":7}`).must(t, 400)
	if !slices.ContainsFunc(l.entries(""), func(e store.AuditEntry) bool { return strings.HasPrefix(e.Reason, "the request cannot be read") }) {
		t.Error("what cannot be read is not in the trail")
	}
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/api","repository_id":"5","repository_owner_id":"6","ref":"refs/heads/main"}`).must(t, 201)
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/web","repository_id":"12","repository_owner_id":"22","ref":"refs/tags/v*"}`).must(t, 201)
	l.ask("POST", "/api/v1/oidc/exchange", `{"token":"12/four","app":"hello"}`).must(t, 401)
	if reason := "another repository: acme/web; another ref: refs/heads/main"; !contains(l.entries(""), reason, "hello") {
		t.Errorf("%q is not in the trail: %+v", reason, l.entries(""))
	}
}

// Numbers that are given have to be those of the repository, and those that are not are asked for.
func TestNumbersOfATrust(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for body, status := range map[string]int{
		`{"repository":"acme/web","ref":"refs/heads/main","repository_id":"11"}`:       201,
		`{"repository":"acme/web","ref":"refs/heads/main","repository_owner_id":"22"}`: 201,
		`{"repository":"acme/web","ref":"refs/heads/main","repository_id":"12"}`:       400,
		`{"repository":"acme/web","ref":"refs/heads/main","repository_owner_id":"11"}`: 400,
	} {
		var rule store.Trust
		got := l.ask("POST", "/api/v1/apps/hello/trust", body).must(t, status)
		if status != 201 {
			continue
		}
		if got.into(t, &rule); rule.RepositoryID != "11" || rule.OwnerID != "22" {
			t.Errorf("%s gives %+v", body, rule)
		}
	}
}

func contains(entries []store.AuditEntry, reason, app string) bool {
	for _, entry := range entries {
		if entry.Reason == reason && entry.App == app && entry.Outcome == store.AuditRefused && entry.Action == "exchange identity" {
			return true
		}
	}
	return false
}

func TestExchangesAreLimited(t *testing.T) {
	l := newLab(t)
	var last answer
	for range exchangeBurst + 2 {
		last = l.ask("POST", "/api/v1/oidc/exchange", `{"token":"11/x","app":"hello"}`)
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Errorf("the last answer is %d %s", last.status, last.body)
	}
	tooMany := 0
	for _, entry := range l.entries("") {
		if entry.Reason == "too many exchanges at once" && entry.Outcome == store.AuditRefused {
			tooMany++
		}
	}
	if tooMany != 1 {
		t.Errorf("the trail says %d times that there are too many", tooMany)
	}
}

// However many addresses ask, all of them together are limited, too.
func TestAllExchangesAreLimited(t *testing.T) {
	l := newLab(t)
	for n := range 2 * totalBurst {
		request := l.request("POST", "/api/v1/oidc/exchange", `{"token":"11/x","app":"hello"}`)
		request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", n/250, n%250)) // of a proxy in front
		if l.send(request).status == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("all were answered")
}

func TestAuditOverTheAPI(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	var d struct {
		ID int64 `json:"id"`
	}
	deploys := l.request("POST", "/api/v1/apps/hello/deployments", `{"ref":"main"}`)
	deploys.Header.Set("Authorization", "Bearer "+l.token(store.Token{Name: "ci", App: "hello", Rights: store.Rights{store.RightDeploy}}))
	l.send(deploys).must(t, 202).into(t, &d)
	l.ask("POST", fmt.Sprintf("/api/v1/deployments/%d/cancel", d.ID), "").must(t, 202)
	l.ask("POST", "/api/v1/apps/hello/deployments", `{"ref":"nowhere"}`).must(t, 404)
	wrong := l.request("DELETE", "/api/v1/apps/hello", "")
	wrong.Header.Set("Authorization", "Bearer sg_wrong")
	for range 3 {
		l.send(wrong).must(t, 401)
	}
	for range 3 {
		l.ask("GET", "/api/v1/apps/hello", "").must(t, 200)
	}
	var got []string
	for _, e := range l.entries("?app=hello") {
		got = append(got, fmt.Sprintf("%s %s %d %s %s", e.Who, e.Action, e.Deployment, e.Outcome, e.Reason))
	}
	want := []string{
		`test deploy 0 refused hello has no branch, tag or commit "nowhere"`,
		fmt.Sprintf("test cancel %d done ", d.ID),
		fmt.Sprintf("ci deploy %d done ", d.ID),
		"test create app 0 done ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if e := l.entries("?app=hello&limit=1"); len(e) != 1 || e[0].Remote != "127.0.0.1" {
		t.Errorf("entries %+v", e)
	}
	l.ask("GET", "/api/v1/audit?limit=1001", "").must(t, 400)
	made := l.request("DELETE", "/api/v1/apps/made-up", "")
	made.Header.Set("Authorization", "Bearer sg_wrong")
	l.send(made).must(t, 401)
	if len(l.entries("?app=made-up")) != 0 {
		t.Error("an app that somebody made up is in the trail")
	}
}

// Who tries other apps' deployments gets one answer, and is seen to do so.
func TestAuditOfProbing(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	var d struct {
		ID int64 `json:"id"`
	}
	l.ask("POST", "/api/v1/apps/hello/deployments", `{"ref":"main"}`).must(t, 202).into(t, &d)
	token := l.token(store.Token{Name: "leaked", App: "other", Rights: store.Rights{store.RightDeploy}})
	answers := map[string]bool{}
	for _, number := range []int64{d.ID, d.ID + 100} {
		cancel := l.request("POST", fmt.Sprintf("/api/v1/deployments/%d/cancel", number), "")
		cancel.Header.Set("Authorization", "Bearer "+token)
		answers[strings.ReplaceAll(l.send(cancel).must(t, 404).body, fmt.Sprint(number), "N")] = true
	}
	if len(answers) != 1 {
		t.Errorf("answers differ: %v", answers)
	}
	for _, app := range []string{"hello", ""} {
		if !slices.ContainsFunc(l.entries(""), func(e store.AuditEntry) bool {
			return e.Who == "leaked" && e.App == app && e.Outcome == store.AuditRefused && e.Action == "cancel"
		}) {
			t.Errorf("probing of %q is not in the trail: %+v", app, l.entries(""))
		}
	}
}
