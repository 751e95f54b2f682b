package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/shipgate/shipgate/store"
)

// TestIdentitiesAgainstTheServer is the table of what can be wrong with an identity, against the real server: each is refused
// with the very same answer, and the trail alone says why.
func TestIdentitiesAgainstTheServer(t *testing.T) {
	const audience, workflow = "https://gate.example.com", "acme/web/.github/workflows/deploy.yml@refs/heads/main"
	forge := must(newTestIssuer())
	defer forge.Close()
	dir := shortDir(t)
	s := startServer(t, dir, nil, "--oidc-issuer", forge.URL, "--url", audience, "--trusted-proxies", "127.0.0.1")
	s.ready(t)
	run := func(args ...string) string {
		t.Helper()
		got := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": dir}, "", args...)
		if got.code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got.stdout
	}
	run("app", "create", "site", "--source", "static", "--publish-dir", ".", "--host", "site.localhost", "--no-token")
	run("trust", "site", "--repo", "acme/web", "--repo-id", "11", "--owner-id", "22", "--ref", "refs/heads/main", "--environment", "production", "--workflow", workflow)
	found := must(readServerFile(dir))
	asked := 0
	exchange := func(token string) (status int, answer string) {
		t.Helper()
		asked++
		body := must(json.Marshal(map[string]string{"token": token, "app": "site"}))
		request := must(http.NewRequestWithContext(t.Context(), http.MethodPost, found.Local+"/api/v1/oidc/exchange", bytes.NewReader(body)))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", asked)) // as many runners, or the limit would hold them up
		response := must(http.DefaultClient.Do(request))
		defer response.Body.Close()
		return response.StatusCode, string(must(io.ReadAll(response.Body)))
	}
	good := func(differs map[string]any) map[string]any {
		claims := map[string]any{"aud": audience, "environment": "production", "job_workflow_ref": workflow}
		for name, value := range differs {
			claims[name] = value
		}
		return claims
	}
	signed := func(name string, value any) string { return must(forge.sign(good(map[string]any{name: value}))) }
	stranger := must(rsa.GenerateKey(rand.Reader, 2048))
	used := must(forge.sign(good(nil)))
	if status, answer := exchange(used); status != http.StatusOK || !strings.Contains(answer, `"token":"sg_`) {
		t.Fatalf("a good one: %d %s\n%s", status, answer, run("audit"))
	}
	unsigned := func() string {
		parts := strings.Split(must(forge.sign(good(nil))), ".")
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	}
	answers := map[string][]string{}
	for _, test := range []struct{ what, token, reason string }{
		{"replayed jti", used, "the token was exchanged before"},
		{"another issuer", signed("iss", "https://issuer.example.com"), "the issuer is not trusted: https://issuer.example.com"},
		{"no issuer", signed("iss", nil), "the issuer is not trusted: "},
		{"the default audience", signed("aud", "https://github.com/acme"), `the token is for another audience: "https://github.com/acme"`},
		{"two audiences", signed("aud", []string{audience, "https://x.example.com"}), "the token is for another audience: "},
		{"expired", signed("exp", time.Now().Add(-time.Minute).Unix()), "the token has expired"},
		{"no expiry", signed("exp", nil), "the token has expired"},
		{"not valid yet", signed("nbf", time.Now().Add(time.Minute).Unix()), "the token is not valid yet"},
		{"no jti", signed("jti", nil), "the token has no number"},
		{"another repository", must(forge.sign(good(map[string]any{"repository": "evil/web", "repository_id": "66"}))), "another repository: evil/web"},
		{"another of the same name", signed("repository_id", "12"), "another repository: acme/web"},
		{"no repository", signed("repository_id", nil), "the token does not say which repository it is of"},
		{"another owner", signed("repository_owner_id", "23"), "another owner of the repository: acme/web"},
		{"no owner", signed("repository_owner_id", nil), "the token does not say which repository it is of"},
		{"another ref", signed("ref", "refs/heads/other"), "another ref: refs/heads/other"},
		{"a tag called main", signed("ref", "refs/tags/main"), "another ref: refs/tags/main"},
		{"no ref", signed("ref", nil), "another ref: "},
		{"another environment", signed("environment", "staging"), "another environment: staging"},
		{"no environment", signed("environment", nil), "another environment: "},
		{"another workflow", signed("job_workflow_ref", "acme/web/.github/workflows/x.yml@refs/heads/main"), "another workflow: acme/web/.github/workflows/x.yml@refs/heads/main"},
		{"pull_request", signed("event_name", "pull_request"), "another event: pull_request"},
		{"pull_request_target", signed("event_name", "pull_request_target"), "another event: pull_request_target"},
		{"no event", signed("event_name", nil), "another event: "},
		{"another key", must(forge.signWith(stranger, "one", good(nil))), "the token's signature is not the issuer's"},
		{"an unknown kid", must(forge.signWith(stranger, "two", good(nil))), "the token's signature is not the issuer's"},
		{"no signature", unsigned(), "the token's signature cannot be read"},
		{"no token", "nothing", "the token has not three parts"},
	} {
		status, answer := exchange(test.token)
		if status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", test.what, status, answer)
		}
		answers[answer] = append(answers[answer], test.what)
		var trail []store.AuditEntry
		if err := json.Unmarshal([]byte(run("audit", "--app", "site", "--limit", "1", "--json")), &trail); err != nil {
			t.Fatal(err)
		}
		if e := trail[0]; e.Outcome != store.AuditRefused || !strings.HasPrefix(e.Reason, test.reason) || e.Action != "exchange identity" || e.Remote != fmt.Sprintf("198.51.100.%d", asked) {
			t.Errorf("%s: the trail says %+v, want %q", test.what, e, test.reason)
		}
	}
	if len(answers) != 1 {
		t.Errorf("the answers tell the reasons apart: %v", answers)
	}
	if status, _ := exchange(signed("sub", "whatever")); status != http.StatusOK {
		t.Errorf("the subject counts: %d", status)
	}
	var tokens []store.Token
	if err := json.Unmarshal([]byte(run("token", "list", "--json")), &tokens); err != nil {
		t.Fatal(err)
	}
	mine := slices.DeleteFunc(tokens, func(token store.Token) bool { return !strings.HasPrefix(token.Name, "identity of ") })
	if len(mine) != 2 || mine[0].Rights.String() != "read,deploy" || mine[0].App != "site" || mine[0].Environment != "production" || time.Until(mine[0].ExpiresAt) > 15*time.Minute {
		t.Errorf("tokens %+v", mine)
	}
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

// A GitHub Enterprise server signs below a path of its own, and one that cannot be asked may have its keys in a file.
func TestOtherIssuers(t *testing.T) {
	for name, pinned := range map[string]bool{"asked": false, "with its keys in a file": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forge := must(newTestIssuer())
			defer forge.Close()
			const below = "/_services/token"
			forge.Config.Handler = http.StripPrefix(below, forge.Config.Handler)
			forge.URL += below
			dir := shortDir(t)
			options := []string{"--oidc-issuer", forge.URL, "--url", "https://gate.example.com"}
			if pinned {
				keys := must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: forge.key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}}))
				file := filepath.Join(t.TempDir(), "jwks.json")
				if err := os.WriteFile(file, keys, 0o644); err != nil {
					t.Fatal(err)
				}
				options = append(options, "--oidc-jwks", file)
				forge.Close()
			}
			s := startServer(t, dir, nil, options...)
			s.ready(t)
			for _, args := range [][]string{
				{"app", "create", "site", "--source", "static", "--publish-dir", ".", "--host", "site.localhost", "--no-token"},
				{"trust", "site", "--repo", "acme/web", "--repo-id", "11", "--owner-id", "22", "--ref", "refs/heads/main"},
			} {
				if got := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": dir}, "", args...); got.code != 0 {
					t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
				}
			}
			stranger := must(rsa.GenerateKey(rand.Reader, 2048))
			claims := map[string]any{"aud": "https://gate.example.com"}
			for token, want := range map[string]int{must(forge.sign(claims)): http.StatusOK, must(forge.signWith(stranger, "one", claims)): http.StatusUnauthorized} {
				body := must(json.Marshal(map[string]string{"token": token, "app": "site"}))
				response := must(http.Post(must(readServerFile(dir)).Local+"/api/v1/oidc/exchange", "application/json", bytes.NewReader(body)))
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("status %d, want %d", response.StatusCode, want)
				}
			}
			if code, said := s.end(syscall.SIGTERM); code != exitDone {
				t.Errorf("exit %d:\n%s", code, said)
			}
		})
	}
}
