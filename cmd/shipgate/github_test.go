package main

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestGitHubConnect(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, secret, empty := file("key", "-----BEGIN-----\n"), file("secret", " s3cret \n"), file("empty", "\n")
	const path = "/api/v1/github"
	for args, want := range map[string]struct {
		code          int
		asked, prints string
	}{
		"": {0, "POST " + path + `/setup {"account":"","api_url":""}`, "https://gate.example.com/setup/github?state=x"},
		"--organization acme --api-url https://ghe/api/v3": {0, "POST " + path + `/setup {"account":"acme","api_url":"https://ghe/api/v3"}`, "within an hour"},
		"--token-file -": {0, `"token":"from stdin"`, "Secret        made-up"},
		"--token-file - --webhook-secret-file " + secret:      {0, `"webhook_secret":"s3cret"`, "connected with"},
		"--app-id 7 --private-key " + key:                     {0, `"kind":"app"`, "connected with"},
		"--app-id 7":                                          {exitUsage, "", "--app-id and --private-key go together"},
		"--private-key " + key:                                {exitUsage, "", "go together"},
		"--app-id 7 --private-key " + key + " --token-file -": {exitUsage, "", "exclude each other"},
		"--token-file " + empty:                               {exitUsage, "", "holds no secret"},
		"--token-file " + filepath.Join(dir, "none"):          {exitUsage, "", "no such file"},
	} {
		connection := store.ForgeConnection{Kind: "token", WebURL: "https://github.com", WebhookURL: "https://gate/webhooks/github",
			WebhookSecret: "made-up", ConnectedAt: time.Now()}
		f := newFakeServer(t, map[string]http.HandlerFunc{
			"PUT " + path: reply(200, connection), "POST " + path + "/setup": reply(200, map[string]string{"url": "https://gate.example.com/setup/github?state=x"}),
		})
		got := shipgate(t.Context(), f.env(), "from stdin\n", append([]string{"github", "connect"}, strings.Fields(args)...)...)
		asked := strings.Join(f.asked, "\n")
		if got.code != want.code || !strings.Contains(asked, want.asked) || (want.asked == "") != (asked == "") || !strings.Contains(got.stdout+got.stderr, want.prints) {
			t.Errorf("%s: exit %d, asked %s\n%s%s", args, got.code, asked, got.stdout, got.stderr)
		}
	}
}

func TestGitHubShowAndDeliveries(t *testing.T) {
	f := newFakeServer(t, map[string]http.HandlerFunc{
		"GET /api/v1/github": reply(200, store.ForgeConnection{Kind: "app", WebURL: "https://github.com", AppID: 7, AppSlug: "gate",
			InstallURL: "https://github.com/apps/gate/installations/new", WebhookURL: "https://gate/webhooks/github", ConnectedAt: time.Now()}),
		"GET /api/v1/github/deliveries": reply(200, []store.Delivery{
			{GUID: "g-1", Event: "push", ReceivedAt: time.Now(), EndedAt: time.Now(), Outcome: "web: deployment 42"},
			{GUID: "g-2", Event: "push", ReceivedAt: time.Now(), Outcome: "GitHub does not answer"},
		}),
		"DELETE /api/v1/github": reply(204, nil),
	})
	for args, want := range map[string][]string{
		"github show":       {"the App gate (7)", "webhook    https://gate/webhooks/github", "installations/new"},
		"github deliveries": {"g-1", "web: deployment 42", "waits GitHub does not answer"},
		"github disconnect": {"disconnected"},
	} {
		got := shipgate(t.Context(), f.env(), "", strings.Fields(args)...)
		for _, text := range want {
			if got.code != 0 || !strings.Contains(got.stdout+got.stderr, text) {
				t.Errorf("%s: exit %d, no %q in\n%s%s", args, got.code, text, got.stdout, got.stderr)
			}
		}
	}
}

// What an app follows is said in a config that the store takes.
func TestFlagsOfAFollowedRepository(t *testing.T) {
	d := newDesk(t)
	for flags, want := range map[string]string{
		"--paths web/**,shared/** --public-logs":    `"paths":["web/**","shared/**"],"public_logs":true`,
		"--github-deployment --environment staging": `"github_deployment":true,"environment":"staging"`,
		"--manual": `"manual":true`,
		"--paths web/** --paths !web/docs/** --branch dev": `"branch":"dev","paths":["web/**","!web/docs/**"]`,
	} {
		got := d.must(append([]string{"app", "create", "hello", "--repo", "octo/mono"}, strings.Fields(flags)...)...)
		if !strings.Contains(got.stdout, "It follows octo/mono") || !strings.Contains(got.stdout, "shipgate deploy hello") {
			t.Errorf("%s: %s", flags, got.stdout)
		}
		app, err := d.store.App(t.Context(), "hello")
		want = `{"deploy_strategy":"blue-green","repo_owner":"octo","repo_name":"mono",` + want + `}`
		if err != nil || !sameJSON(t, string(app.Config), want) {
			t.Errorf("%s: %s, want %s, %v", flags, app.Config, want, err)
		}
		d.must("app", "destroy", "hello", "--yes")
	}
}

func TestLogIsMasked(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := logger(&out, format, func(text string) string { return strings.ReplaceAll(text, "s3cret", "****") })
		log.Error("ask s3cret", "url", "http://s3cret@host", "error", errors.New("401 for s3cret"), "count", 3)
		if strings.Contains(out.String(), "s3cret") || strings.Count(out.String(), "****") != 3 || !strings.Contains(out.String(), "3") {
			t.Errorf("%s: %s", format, &out)
		}
	}
}
