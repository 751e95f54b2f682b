package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// Each change is logged with its object, and no secret value is.
func TestAuditLogNamesObjectsAndResults(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"hello","source":"dockerfile"}`).must(t, 201)
	l.ask("PATCH", "/api/v1/apps/hello", `{"hosts":["hello.localhost"],"config":{"port":8081}}`).must(t, 200)
	l.ask("PATCH", "/api/v1/apps/hello/env", `{"set":{"DATABASE_URL":"the-secret-value"},"unset":["OLD"]}`).must(t, 200)
	l.ask("GET", "/api/v1/apps/hello/env?reveal=true", "").must(t, 200)
	l.ask("POST", "/api/v1/tokens", `{"name":"ci","app":"hello","rights":["deploy"]}`).must(t, 201)
	l.ask("DELETE", "/api/v1/tokens/2", "").must(t, 204)
	l.ask("PUT", "/api/v1/registries/ghcr.io", `{"username":"me","password":"the-secret-value"}`).must(t, 204)
	l.ask("PUT", "/api/v1/registries/quay.io?app=hello", `{"username":"me","password":"the-secret-value"}`).must(t, 204)
	l.ask("DELETE", "/api/v1/registries/quay.io?app=hello", "").must(t, 204)
	l.ask("POST", "/api/v1/apps/hello/trust", `{"repository":"acme/web","ref":"refs/heads/main"}`).must(t, 201)
	l.ask("POST", "/api/v1/apps/hello/deployments", `{"ref":"main"}`).must(t, 202)
	for _, path := range []string{"/metrics", "/api/v1/apps", "/api/v1/apps/hello/env", "/api/v1/doctor"} {
		l.ask("GET", path, "").must(t, 200)
	}
	var got []string
	for _, e := range slices.Backward(l.entries("")) {
		got = append(got, e.Sentence())
		if strings.Contains(fmt.Sprint(e), "the-secret-value") {
			t.Errorf("a secret is in the audit log: %+v", e)
		}
	}
	want := []string{
		"created app hello", "changed app hello: hosts, port", "changed env of hello: set DATABASE_URL; removed OLD", "revealed env of hello",
		"created token: ci (2) with read,deploy for hello", "revoked token: ci (2)", "stored registry login: ghcr.io for all apps",
		"stored registry login of hello: quay.io", "removed registry login of hello: quay.io",
		"added trust of hello: rule 1, acme/web at refs/heads/main", "deployed hello (deployment 1)",
	}
	for i := range want {
		want[i] += " by token test (1)"
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// However many wrong tokens come, and from however many addresses, few rows are written and valid tokens work.
func TestWrongTokensCostMemoryOnly(t *testing.T) {
	l := newLab(t)
	const requests = 1500
	refused := map[int]int{}
	for n := range requests {
		request := l.request("GET", fmt.Sprintf("/api/v1/apps/made-up-%d", n), "")
		request.Header.Set("Authorization", fmt.Sprintf("Bearer sg_%d", n))
		request.Header.Set("X-Forwarded-For", fmt.Sprintf("10.9.%d.%d, 198.51.%d.%d", n%250, n%250, n%300/250, n%300%250))
		refused[l.send(request).status]++
	}
	if refused[http.StatusUnauthorized] == 0 || refused[http.StatusTooManyRequests] == 0 || refused[http.StatusUnauthorized]+refused[http.StatusTooManyRequests] != requests {
		t.Errorf("answers %v", refused)
	}
	l.ask("GET", "/api/v1/apps", "").must(t, 200)
	entries := l.entries("?limit=1000")
	if len(entries) == 0 || len(entries) > 220 {
		t.Errorf("%d entries", len(entries))
	}
	for _, e := range entries {
		if e.Action != "use a token" || e.App != "" || strings.HasPrefix(e.Remote, "10.9.") {
			t.Errorf("entry %+v", e)
		}
	}
	request := l.request("GET", "/api/v1/apps", "") // git and browsers ask without credentials first
	request.Header.Del("Authorization")
	l.send(request).must(t, 401)
	if again := l.entries("?limit=1000"); len(again) != len(entries) {
		t.Error("a request without a token was logged")
	}
}

func TestAuditSentences(t *testing.T) {
	for want, e := range map[string]store.AuditEntry{
		"deployed hello (deployment 41) by token ci (19)":                     {Action: "deploy", App: "hello", Deployment: 41, Token: 19, Who: "ci", Outcome: store.AuditDone},
		"rolled back hello (deployment 5): back to deployment 3 by token 2":   {Action: "roll back", App: "hello", Deployment: 5, Detail: "back to deployment 3", Token: 2, Outcome: store.AuditDone},
		"refused: deploy hello by token ci (19); the token does not allow it": {Action: "deploy", App: "hello", Token: 19, Who: "ci", Outcome: store.AuditRefused, Reason: "the token does not allow it"},
		"pushed hello: refs/heads/main by token 2":                            {Action: "push", App: "hello", Detail: "refs/heads/main", Token: 2, Outcome: store.AuditDone},
	} {
		if got := e.Sentence(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
