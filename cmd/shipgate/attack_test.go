package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// TestAttacks runs two apps and hostile ones on one server and one engine. Each attack has to fail, for the reason that the
// table names, and in the end the victims are as they were.
func TestAttacks(t *testing.T) {
	t.Parallel()
	requireEngine(t)
	s := newAttackScene(t)
	t.Run("from", func(t *testing.T) {
		for name, group := range attackGroups {
			if group.stacks && !s.compose {
				t.Logf("NOT TESTED, %s: no Compose plugin is here", name)
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel() // each group has an app of its own
				a := s.attacker(t, group)
				for attack, attempt := range group.attacks {
					if attempt.stack && !s.compose {
						continue
					}
					t.Run(attack, func(t *testing.T) { attempt.mustFail(t, a) })
				}
			})
		}
	})
	s.unharmed(t)
}

// attack tries something on behalf of the attacker. It returns why that failed, or nil when it succeeded.
type attack func(t *testing.T, a *attacker) error

// attempt is an attack and what the error that stops it says. An attack that fails for another reason proves nothing.
type attempt struct {
	try     attack
	stopped string
	stack   bool // the victim is the stack
}

func (p attempt) mustFail(t *testing.T, a *attacker) {
	err := p.try(t, a)
	switch stopped := a.fill.Replace(p.stopped); {
	case err == nil:
		t.Error("the attack succeeded")
	case !strings.Contains(err.Error(), stopped):
		t.Errorf("stopped by %q, want %q", err, stopped)
	}
}

// attackScene is the server, its victims, and what the attackers find out about them. Attackers know more here than they can
// know: names, addresses, ids.
type attackScene struct {
	server  *scriptServer
	admin   string
	compose bool
	canary  *httptest.Server // a service of the host on the loopback address
	asked   atomic.Int64     // requests that the canary got
	fill    *strings.Replacer
}

const (
	victimDockerfile = `FROM scratch
COPY testapp /testapp
COPY secret /secret
RUN --mount=type=cache,id=loot,target=/cache ["/testapp", "attack", "write", "/cache/loot"]
EXPOSE 8080
ENTRYPOINT ["/testapp"]
`
	victimStackFile = `services:
  web:
    build: .
    environment: {APP_VERSION: web of market}
  db:
    build: .
    environment: {PORT: "5432", APP_VERSION: db of market}
    volumes: ["goods:/goods"]
volumes: {goods: {}}
`
)

func newAttackScene(t *testing.T) *attackScene {
	s := &attackScene{compose: hasTool(t, "compose.sh")}
	dir := shortDir(t)
	s.canary = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		fmt.Fprintln(w, "secret of the host")
	}))
	t.Cleanup(s.canary.Close)
	s.server = newServer(filepath.Join(dir, "data"), programs(t))
	t.Cleanup(s.server.cleanUp)
	if err := s.server.launch("--builds", "2"); err != nil { // with no other flags: what operators get
		t.Fatal(err)
	}
	s.admin = must(s.server.token())
	s.fill = strings.NewReplacer("{server}", serverID(s.server.dir)[:8])
	s.shipgate(t, "app", "create", "shop", "--source", "dockerfile", "--host", "shop.localhost", "--volume", "data:/data", "--no-token")
	s.shipgate(t, "env", "shop", "set", "PASSWORD=password-of-shop")
	s.mustPush(t, "shop", s.admin, map[string]string{"Dockerfile": victimDockerfile, "secret": "secret of shop"})
	if status, body := s.visit(t, "shop", http.MethodPut, "/file?path=/data/secret", "data of shop"); status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
	if s.compose {
		s.shipgate(t, "app", "create", "market", "--source", "compose", "--service", "web", "--host", "market.localhost", "--no-token")
		s.mustPush(t, "market", s.admin, map[string]string{"Dockerfile": victimDockerfile, "secret": "secret of market", "compose.yaml": victimStackFile})
	}
	s.know(t)
	return s
}

// know fills in what attacks name in braces.
func (s *attackScene) know(t *testing.T) {
	host, port, _ := strings.Cut(strings.TrimPrefix(s.canary.URL, "http://"), ":")
	id := serverID(s.server.dir)
	shop := s.container(t, "shop", "")
	known := []string{
		"{canary}", host + ":" + port, "{canary port}", port, "{api port}", s.server.api[strings.LastIndex(s.server.api, ":")+1:],
		"{data}", s.server.dir, "{network}", store.NetworkName(id), "{server}", id[:8], "{server id}", id, "{gateway}", shop[3],
		"{shop}", shop[1], "{shop name}", shop[0], "{shop image}", store.ImageRepository(id, "shop") + ":1",
		"{shop id}", shop[2], "{shop hex}", strings.TrimPrefix(shop[2], "sha256:"), "{shop short}", strings.TrimPrefix(shop[2], "sha256:")[:12],
		"{shop volume}", store.VolumeName(id, "shop", "data"), "{shop cache}", store.CacheID(id, "shop", "loot"),
		"{market project}", store.ProjectName(id, "market"),
	}
	if s.compose {
		web, db := s.container(t, "market", "web"), s.container(t, "market", "db")
		known = append(known, "{web}", web[1], "{web name}", web[0], "{db}", db[1], "{db name}", db[0],
			"{market image}", strings.TrimSpace(string(must(exec.Command("docker", "image", "inspect", "--format", "{{index .RepoTags 0}}", db[2]).Output()))))
	}
	s.fill = strings.NewReplacer(known...)
}

// container returns the name, address, image and gateway of an app's container.
func (s *attackScene) container(t *testing.T, app, service string) []string {
	t.Helper()
	args := []string{"ps", "-q", "--filter", "label=dev.shipgate.data=" + serverID(s.server.dir), "--filter", "label=dev.shipgate.app=" + app}
	if service != "" {
		args = append(args, "--filter", "label=com.docker.compose.service="+service)
	}
	id := strings.TrimSpace(string(must(exec.Command("docker", args...).Output())))
	format := `{{slice .Name 1}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{$.Image}} {{.Gateway}} {{end}}`
	output, err := exec.Command("docker", "inspect", "--format", format, id).Output()
	fields := strings.Fields(string(output))
	if err != nil || len(fields) < 4 {
		t.Fatalf("containers %q of %s %s: %q, %v", id, app, service, fields, err)
	}
	return fields
}

func (s *attackScene) shipgate(t *testing.T, args ...string) {
	t.Helper()
	if got := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": s.server.dir}, "", args...); got.code != exitDone {
		t.Fatalf("shipgate %v: exit %d: %s", args, got.code, got.stderr)
	}
}

// unharmed checks that the victims are as they were, and that nobody asked what listens on the loopback address.
func (s *attackScene) unharmed(t *testing.T) {
	for path, want := range map[string]string{"/env?name=PASSWORD": "password-of-shop\n", "/file?path=/data/secret": "data of shop"} {
		if status, body := s.visit(t, "shop", http.MethodGet, path, ""); status != http.StatusOK || body != want {
			t.Errorf("shop: %s answers %d %q", path, status, body)
		}
	}
	if s.compose {
		for path, want := range map[string]string{"/": "web of market\n", "/fetch?url=" + url.QueryEscape("http://db:5432/"): "db of market\n"} {
			if status, body := s.visit(t, "market", http.MethodGet, path, ""); status != http.StatusOK || body != want {
				t.Errorf("market: %s answers %d %q", path, status, body)
			}
		}
	}
	if asked := s.asked.Load(); asked != 0 {
		t.Errorf("the service on the host's loopback address got %d requests", asked)
	}
}

// visit sends a request to an app through the proxy.
func (s *attackScene) visit(t *testing.T, app, method, path, body string, headers ...string) (status int, answer string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), method, "http://"+s.server.public+path, strings.NewReader(body)))
	request.Host = app + ".localhost"
	return send(t, request, headers...)
}

func send(t *testing.T, request *http.Request, headers ...string) (status int, answer string) {
	t.Helper()
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// push commits files to a new repository and pushes it. It returns what git says when that is refused.
func (s *attackScene) push(t *testing.T, app, token string, files map[string]string) error {
	t.Helper()
	repository := t.TempDir()
	if strings.Contains(files["Dockerfile"], "testapp") { // without it a push is faster
		if err := os.Link(filepath.Join(s.server.bin, "testapp"), filepath.Join(repository, "testapp")); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(repository, name), []byte(s.fill.Replace(content)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	script := `git init -q -b main && git add -A && git commit -q -m attack && exec git push -q --force "$1" main`
	command := exec.Command("sh", "-ec", script, "sh", "http://x:"+token+"@"+s.server.api+"/"+app+".git")
	command.Dir = repository
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@localhost")
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Run(); err != nil {
		return errors.New(strings.ReplaceAll(said.String(), "\nremote:         ", " ")) // long lines are folded
	}
	return nil
}

func (s *attackScene) mustPush(t *testing.T, app, token string, files map[string]string) {
	t.Helper()
	if err := s.push(t, app, token, files); err != nil {
		t.Fatalf("push %s: %v\n%s", app, err, s.server.log.text())
	}
}
