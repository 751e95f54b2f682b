package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// attackGroup is attacks by the developer or the code of one hostile app.
type attackGroup struct {
	app     string
	create  []string          // flags of app create
	files   map[string]string // pushed at first, and accepted; nil: it has nothing live
	stacks  bool              // it needs Compose
	attacks map[string]attempt
}

// attacker is the hostile app's developer, with a deploy token for that app only.
type attacker struct {
	*attackScene
	app, token string
}

func (s *attackScene) attacker(t *testing.T, group attackGroup) *attacker {
	t.Helper()
	s.shipgate(t, append([]string{"app", "create", group.app, "--host", group.app + ".localhost", "--no-token"}, group.create...)...)
	made := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": s.server.dir}, "", "token", "create", "--rights", "deploy", "--app", group.app)
	if made.code != exitDone {
		t.Fatal(made.stderr)
	}
	a := &attacker{attackScene: s, app: group.app, token: strings.TrimSpace(made.stdout)}
	if group.files != nil {
		s.mustPush(t, a.app, a.token, group.files)
	}
	return a
}

// probe has the running container try something: an attack of the testapp.
func probe(kind, target string) attack {
	return func(t *testing.T, a *attacker) error {
		status, body := a.visit(t, a.app, http.MethodGet, "/attack?kind="+kind+"&target="+url.QueryEscape(a.fill.Replace(target)), "")
		switch status {
		case http.StatusOK:
			return nil
		case http.StatusForbidden:
			return errors.New(body)
		}
		t.Fatalf("%s %s answers %d %s", kind, target, status, body)
		return nil
	}
}

// pushDockerfile pushes a Dockerfile that has the testapp and these lines.
func pushDockerfile(lines string) attack {
	return pushFiles(map[string]string{"Dockerfile": lines + "\nEXPOSE 8080\n"})
}

// runInBuild pushes a Dockerfile with a RUN of an attack of the testapp.
func runInBuild(flags, words string) attack {
	command := must(json.Marshal(append([]string{"/testapp", "attack"}, strings.Fields(words)...)))
	return pushDockerfile("FROM scratch\nCOPY testapp /testapp\nRUN " + flags + " " + string(command))
}

func pushCompose(text string) attack { return pushFiles(map[string]string{"compose.yaml": text}) }

// pushService pushes a stack whose routed service has these fields as well.
func pushService(fields string) attack {
	return pushCompose("services: {db: {build: ., " + fields + "}}\n")
}

// pushShared pushes a stack of one service with a volume v, and these lines at the top.
func pushShared(top string) attack {
	return pushCompose("services: {db: {build: ., volumes: ['v:/v']}}\n" + top + "\n")
}

func pushRepoFile(text string) attack { return pushFiles(map[string]string{"shipgate.yaml": text}) }

func pushFiles(files map[string]string) attack {
	return func(t *testing.T, a *attacker) error {
		all := map[string]string{"index.html": "x"}
		maps.Copy(all, files)
		return a.push(t, a.app, a.token, all)
	}
}

// pushTo pushes to the repository of another app, and reports whether it learned if there is one.
func pushTo(app string) attack {
	return func(t *testing.T, a *attacker) error {
		return a.push(t, app, a.token, map[string]string{"index.html": "x"})
	}
}

// cloneOf reads the repository of another app.
func cloneOf(app string) attack {
	return func(t *testing.T, a *attacker) error {
		output, err := exec.Command("git", "clone", "-q", "http://x:"+a.token+"@"+a.server.api+"/"+app+".git", t.TempDir()).CombinedOutput()
		if err != nil {
			return errors.New(string(output))
		}
		return nil
	}
}

// ask sends a request to the API with the attacker's token.
func ask(method, path, body string) attack {
	return func(t *testing.T, a *attacker) error {
		status, answer := a.ask(t, method, path, body)
		if status < http.StatusBadRequest {
			return nil
		}
		return fmt.Errorf("%d %s", status, answer)
	}
}

func (a *attacker) ask(t *testing.T, method, path, body string, headers ...string) (status int, answer string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), method, "http://"+a.server.api+path, strings.NewReader(body)))
	if len(headers) == 0 {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	return send(t, request, headers...)
}

// tellApart asks for something of the victim, and for the same of an app that is not there. Equal answers tell nothing.
func tellApart(method, path, victim, missing string) attack {
	return func(t *testing.T, a *attacker) error {
		status, answer := a.ask(t, method, strings.ReplaceAll(path, "NAME", victim), "{}")
		otherStatus, other := a.ask(t, method, strings.ReplaceAll(path, "NAME", missing), "{}")
		if status < http.StatusBadRequest || status != otherStatus || answer != strings.ReplaceAll(other, missing, victim) {
			t.Logf("%d %s\n%d %s", status, answer, otherStatus, other)
			return nil
		}
		return fmt.Errorf("both answer %d", status)
	}
}

// listApps looks for other apps in the list of all.
func listApps(t *testing.T, a *attacker) error {
	if status, answer := a.ask(t, http.MethodGet, "/api/v1/apps", ""); status != http.StatusOK || strings.Contains(answer, "shop") {
		t.Logf("%d %s", status, answer)
		return nil
	}
	return errors.New("only its own app is listed")
}

// deployImage deploys an image with the API.
func deployImage(reference string) attack {
	return func(t *testing.T, a *attacker) error {
		env := map[string]string{"SHIPGATE_URL": "http://" + a.server.api, "SHIPGATE_TOKEN": a.token}
		got := shipgate(t.Context(), env, "", "deploy", a.app, "--image", a.fill.Replace(reference))
		if got.code == exitDone {
			return nil
		}
		return errors.New(got.stdout + got.stderr)
	}
}

// openPage opens the page of the victim's deployment with a session: one that is made up, or the attacker's own.
func openPage(forged string) attack {
	return func(t *testing.T, a *attacker) error {
		cookie := forged
		if forged == "" {
			cookie = a.signIn(t)
		}
		status, _ := a.ask(t, http.MethodGet, "/deployments/1", "", "Cookie", store.SessionCookie+"="+cookie, "Accept", "text/html")
		if status == http.StatusOK {
			return nil
		}
		return fmt.Errorf("%d", status)
	}
}

// useSession uses the attacker's own session for the API, which takes tokens only.
func useSession(t *testing.T, a *attacker) error {
	status, answer := a.ask(t, http.MethodPost, "/api/v1/apps/"+a.app+"/stop", "", "Cookie", store.SessionCookie+"="+a.signIn(t))
	if status < http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("%d %s", status, answer)
}

func (a *attacker) signIn(t *testing.T) (cookie string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.server.api+"/login", strings.NewReader(url.Values{"token": {a.token}}.Encode())))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for _, set := range response.Cookies() {
		if set.Name == store.SessionCookie {
			return set.Value
		}
	}
	t.Fatalf("signing in answers %s", response.Status)
	return ""
}

// stealCookie waits for an operator whose browser has a session to visit the hostile app on the server's host.
func stealCookie(t *testing.T, a *attacker) error {
	status, got := a.visit(t, a.app, http.MethodGet, "/header", "", "Cookie", "first=1; "+store.SessionCookie+"=stolen; last=1")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, got)
	}
	if strings.Contains(got, "stolen") {
		return nil
	}
	return errors.New(got)
}

// raiseLimits looks at what the container got of the limits that shipgate.yaml asks for.
func raiseLimits(t *testing.T, a *attacker) error {
	t.Helper()
	name := a.container(t, a.app, "")[0]
	format := "memory {{.HostConfig.Memory}} cpus {{.HostConfig.NanoCpus}} pids {{.HostConfig.PidsLimit}}"
	return errors.New(strings.TrimSpace(string(must(exec.Command("docker", "inspect", "--format", format, name).Output()))))
}

// takeTraffic looks at who answers the victim's service web when it calls its db.
func takeTraffic(t *testing.T, a *attacker) error {
	for range 20 {
		status, got := a.visit(t, "market", http.MethodGet, "/fetch?url="+url.QueryEscape("http://db:5432/"), "")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, got)
		}
		if got != "db of market\n" {
			return nil
		}
	}
	return errors.New("the victim's own service answers")
}
