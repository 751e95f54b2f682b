package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// post sends a body with a token and gives the status, with the answer in value.
func post(t *testing.T, address, token, kind string, body []byte, value any) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", kind)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_ = json.NewDecoder(response.Body).Decode(value)
	return response.StatusCode
}

// A workflow without any stored secret gets a token for one app, uploads what it has built, and has it deployed: with the real
// server, killed in between. Nobody else gets one, and the trail says why.
func TestKeylessUploadAndDeploy(t *testing.T) {
	dir := shortDir(t)
	var api string
	forge := must(newTestIssuer())
	defer forge.Close()
	issuer := forge.URL
	token := func(number, ref string) string {
		return must(forge.sign(map[string]any{"aud": "https://gate.example.com", "jti": number, "ref": ref, "run_id": "7"}))
	}
	s := startServer(t, dir, nil, "--oidc-issuer", issuer, "--url", "https://gate.example.com")
	s.ready(t)
	env := map[string]string{"SHIPGATE_DATA": dir}
	run := func(args ...string) string {
		t.Helper()
		got := shipgate(t.Context(), env, "", args...)
		if got.code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
		return got.stdout
	}
	where := func() {
		t.Helper()
		found, err := readServerFile(dir)
		if err != nil {
			t.Fatal(err)
		}
		api = found.Local
	}
	where()
	run("app", "create", "site", "--source", "static", "--publish-dir", ".", "--host", "site.localhost", "--no-token")
	run("trust", "site", "--repo", "acme/web", "--repo-id", "11", "--owner-id", "22", "--ref", "refs/heads/main", "--issuer", issuer)
	exchange := func(identity string) (status int, secret string) {
		var got struct {
			Token string `json:"token"`
		}
		body, _ := json.Marshal(map[string]string{"token": identity, "app": "site"})
		return post(t, api+"/api/v1/oidc/exchange", "", "application/json", body, &got), got.Token
	}
	if status, _ := exchange(token("a", "refs/heads/other")); status != http.StatusUnauthorized {
		t.Errorf("another branch: %d", status)
	}
	identity := token("b", "refs/heads/main")
	status, secret := exchange(identity)
	if status != http.StatusOK || secret == "" {
		t.Fatalf("exchanged: %d\n%s", status, run("audit"))
	}
	_ = s.command.Process.Signal(syscall.SIGKILL)
	s.rest()
	_ = s.command.Wait()
	s = startServer(t, dir, nil, "--oidc-issuer", issuer, "--url", "https://gate.example.com")
	s.ready(t)
	where()
	if status, _ := exchange(identity); status != http.StatusUnauthorized {
		t.Errorf("the same again, after a crash: %d", status)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	_ = w.WriteHeader(&tar.Header{Name: "index.html", Size: 5, Mode: 0o644})
	_, _ = w.Write([]byte("built"))
	_ = w.Close()
	var upload store.Upload
	if status := post(t, api+"/api/v1/apps/site/uploads?subject=Run+7", secret, "application/x-tar", packed.Bytes(), &upload); status != http.StatusCreated || upload.Files != 1 {
		t.Fatalf("uploaded: %d %+v", status, upload)
	}
	var d store.Deployment
	if status := post(t, api+"/api/v1/apps/site/deployments", secret, "application/json", []byte(`{"sha":"`+upload.SHA+`"}`), &d); status != http.StatusAccepted {
		t.Fatalf("deployed: %d", status)
	}
	if out := run("logs", "site", "--deployment", "1", "--follow"); !strings.Contains(out, "live") {
		t.Errorf("the deployment ended so:\n%s", out)
	}
	if out := run("show", "1"); !strings.Contains(out, "Run 7") || !strings.Contains(out, "succeeded") {
		t.Errorf("shown:\n%s", out)
	}
	trail := run("audit", "--app", "site")
	for _, want := range []string{"another ref: refs/heads/other", "the token was exchanged before", "identity of acme/web run 7", "uploaded files of site"} {
		if !strings.Contains(trail, want) {
			t.Errorf("%q is not in the trail:\n%s", want, trail)
		}
	}
	if status := post(t, api+"/api/v1/apps", secret, "application/json", []byte(`{"name":"other","source":"static"}`), &d); status != http.StatusForbidden {
		t.Errorf("the token of one app may do more: %d", status)
	}
	if rules := run("trust", "site"); !strings.Contains(rules, "acme/web") || !strings.Contains(rules, "refs/heads/main") {
		t.Errorf("rules:\n%s", rules)
	}
	run("trust", "site", "--remove", "1")
	if rules := run("trust", "site"); strings.Contains(rules, "acme/web") {
		t.Errorf("rules:\n%s", rules)
	}
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func TestLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour, "1d": 24 * time.Hour} {
		var l lifetime
		if err := l.Set(text); err != nil || time.Duration(l) != want {
			t.Errorf("%s: %s, %v", text, time.Duration(l), err)
		}
	}
	for _, text := range []string{"", "d", "0d", "-1d", "3651d", "1.5d", "0s", "-1h", "soon"} {
		var l lifetime
		if err := l.Set(text); err == nil {
			t.Errorf("%q was taken as %s", text, time.Duration(l))
		}
	}
}
