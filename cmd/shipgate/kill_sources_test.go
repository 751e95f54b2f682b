package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victim is an app of one source and strategy whose server gets killed in mid-deployment.
type victim struct {
	name    string
	create  []string                          // flags of app create
	files   func(version string) []victimFile // of the commit
	image   bool                              // it is deployed by a tag, not by a push
	running int                               // containers that run when nothing is under way
}

type victimFile struct{ name, content string }

// victims are all sources, each with the strategies it can have.
func victims(registry string, deno, compose bool) []victim {
	static := func(version string) []victimFile {
		return []victimFile{{"public/index.html", version}, {"build.sh", "mkdir out; echo " + version + " > out/index.html"}}
	}
	all := []victim{
		{name: "release", create: []string{"--source", "dockerfile", "--health", "/healthz", "--release-command", "/testapp migrate", "--rollback-warm", "10m"}, files: victimImage, running: 1},
		{name: "image", create: []string{"--image", registry + "/victim:1", "--health", "/healthz"}, image: true, running: 1},
		{name: "image-again", create: []string{"--image", registry + "/victim:1", "--health", "/healthz", "--strategy", "recreate"}, image: true, running: 1},
		{name: "site", create: []string{"--source", "static", "--publish-dir", "public"}, files: static},
		{name: "site-again", create: []string{"--source", "static", "--publish-dir", "public", "--strategy", "recreate"}, files: static},
		{name: "built", create: []string{"--source", "static", "--build-image", "shipgate-test-kill:1", "--build-command", "sh build.sh", "--build-output", "out"}, files: static},
	}
	if deno {
		denoFlags := []string{"--source", "static", "--mode", "deno", "--base-image", "shipgate-test-kill-deno:1", "--health", "/"}
		all = append(all,
			victim{name: "deno", create: denoFlags, files: victimDeno, running: 1},
			victim{name: "deno-again", create: append([]string{"--storage"}, denoFlags...), files: victimDeno, running: 1})
	}
	if compose {
		all = append(all, victim{name: "stack", create: []string{"--source", "compose", "--service", "web", "--health", "/healthz"}, files: victimStack, running: 2})
	}
	return all
}

func victimImage(version string) []victimFile {
	return []victimFile{{"Dockerfile", "FROM scratch\nCOPY testapp /testapp\nENV APP_VERSION=" + version + "\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n"}}
}

func victimDeno(version string) []victimFile {
	return []victimFile{{"main.ts", `Deno.serve({ port: Number(Deno.env.get("PORT")) }, () => new Response("` + version + `"))`}}
}

func victimStack(version string) []victimFile {
	return append(victimImage("built"), victimFile{"compose.yaml", `services:
  web:
    build: .
    environment: {APP_VERSION: ` + version + `}
    expose: ["8080"]
  store:
    build: .
`})
}

// TestKilledServerOfEverySource kills the real server at random moments of real deployments of every source, while clients
// that cannot repeat a request keep asking. No request may be lost, and what is live, what runs and what answers must be one.
func TestKilledServerOfEverySource(t *testing.T) {
	t.Parallel()
	requireEngine(t)
	k := newSourceKilling(t, programs(t))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, v := range victims(k.registry, k.deno, k.compose) {
		t.Run(v.name, func(t *testing.T) { k.killAll(t, v, random) })
	}
}

// killsOfEach is how often the server is killed for each victim.
const killsOfEach = 2

// sourceKilling is the server that gets killed, and what it deploys from.
type sourceKilling struct {
	*killing
	registry      string
	deno, compose bool
}

func newSourceKilling(t *testing.T, bin string) *sourceKilling {
	k := &sourceKilling{deno: hasTool(t, "deno.sh"), compose: hasTool(t, "compose.sh")}
	dir := shortDir(t)
	k.killing = &killing{server: newServer(filepath.Join(dir, "data"), bin), repository: filepath.Join(dir, "repositories")}
	t.Cleanup(k.server.cleanUp)
	if err := k.server.start(); err != nil {
		t.Fatal(err)
	}
	label := "LABEL shipgate-test=" + serverID(k.server.dir)
	if err := importBusybox("shipgate-test-kill:1", label); err != nil {
		t.Fatal(err)
	}
	if k.deno {
		if err := importDeno("shipgate-test-kill-deno:1", label); err != nil {
			t.Fatal(err)
		}
	}
	k.registry = startRegistry(t)
	return k
}

func (k *sourceKilling) killAll(t *testing.T, v victim, random *rand.Rand) {
	k.must(t, append([]string{"app", "create", v.name, "--host", v.name + ".localhost"}, v.create...)...)
	if !v.image {
		k.makeRepository(t, v)
	}
	began := time.Now()
	if output, err := k.begin(t, v, "first").CombinedOutput(); err != nil {
		t.Fatalf("first deployment: %v\n%s", err, output)
	}
	k.span = time.Since(began)
	method := http.MethodPost
	if v.running == 0 {
		method = http.MethodGet
	}
	load := startLoad("http://"+k.server.public+"/", v.name+".localhost", method)
	defer load.stop()
	for round := range killsOfEach {
		k.kill(t, v, fmt.Sprintf("round-%d", round), random)
	}
	if report := load.stop(); !strings.HasSuffix(report, " failed=0") {
		t.Errorf("%s\n%s", report, k.server.log.text())
	} else {
		t.Log(report)
	}
	k.must(t, "app", "destroy", v.name, "--yes", "--with-data")
	if left, err := k.server.containers(v.name); err != nil || left != "" {
		t.Errorf("after its end the app has %q (%v)", left, err)
	}
}

// kill deploys a version, kills the server at some moment of it, starts it again and looks at what came of it.
func (k *sourceKilling) kill(t *testing.T, v victim, version string, random *rand.Rand) {
	t.Helper()
	command := k.begin(t, v, version)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	delay := time.Duration(random.Int64N(int64(k.span * 2 / 3)))
	time.Sleep(delay)
	if err := k.server.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !v.image { // a command that follows goes on with the next server
		_ = command.Wait()
	}
	restarted := time.Now()
	if err := k.server.start(); err != nil {
		t.Fatal(err)
	}
	newest := k.history(t, v)[0]
	if err := k.server.await(fmt.Sprint(newest.ID), "done", "undone"); err != nil {
		t.Fatalf("%s killed after %s: %v", version, delay, err)
	}
	ended := k.history(t, v)[0]
	t.Logf("%s killed after %4d ms: deployment %d %s, %s after the restart", version, delay.Milliseconds(), ended.ID, ended.Verdict,
		ended.FinishedAt.Sub(restarted).Round(time.Millisecond))
	if ended.Verdict != "succeeded" {
		t.Errorf("%s: deployment %d is %q: %s\n%s", version, ended.ID, ended.Verdict, ended.Reason, k.must(t, "show", fmt.Sprint(ended.ID)))
	}
	k.compare(t, v, ended)
	if v.image {
		_ = command.Wait() // its end is not what is tested here
	}
}

// compare holds what answers and what runs against what is live.
func (k *sourceKilling) compare(t *testing.T, v victim, live sourceDeployment) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+k.server.public+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = v.name + ".localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	if got := strings.TrimSpace(string(answer)); got != live.version() {
		t.Errorf("%q answers, deployment %d is live with %q", got, live.ID, live.version())
	}
	states, err := k.server.containers(v.name)
	if err != nil {
		t.Fatal(err)
	}
	if running := strings.Count(states, " running\n"); running != v.running {
		t.Errorf("%d containers run, want %d:\n%s", running, v.running, states)
	}
	if kept := strings.Count(states, " exited\n") + strings.Count(states, " created\n"); kept > 0 && v.name != "release" || kept > 1 {
		t.Errorf("containers are left over:\n%s", states)
	}
}

// sourceDeployment is what the test needs of `shipgate deployments --json`.
type sourceDeployment struct {
	killedDeployment
	Image string `json:"image"`
}

// version is what the deployment's app answers: the commit's subject, or the tag.
func (d sourceDeployment) version() string {
	if d.Image != "" {
		return d.Image[strings.LastIndex(d.Image, ":")+1:]
	}
	return d.Subject
}

func (k *sourceKilling) history(t *testing.T, v victim) []sourceDeployment {
	t.Helper()
	var list []sourceDeployment
	if err := json.Unmarshal([]byte(k.must(t, "deployments", v.name, "--json")), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func (k *sourceKilling) makeRepository(t *testing.T, v victim) {
	t.Helper()
	directory := filepath.Join(k.repository, v.name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	app, err := os.ReadFile(filepath.Join(k.server.bin, "testapp"))
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, "testapp"), app, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.in(v).git(t, "init", "-q", "-b", "main")
}

// in is the killing with the victim's repository.
func (k *sourceKilling) in(v victim) *killing {
	return &killing{server: k.server, repository: filepath.Join(k.repository, v.name)}
}

// begin gives the command that deploys a version.
func (k *sourceKilling) begin(t *testing.T, v victim, version string) *exec.Cmd {
	t.Helper()
	if v.image {
		reference := k.registry + "/victim:" + version
		if err := pushTestapp(reference, filepath.Join(k.server.bin, "testapp"), version); err != nil {
			t.Fatal(err)
		}
		return exec.Command(filepath.Join(k.server.bin, "shipgate"), "deploy", v.name, "--image", reference, "--data", k.server.dir)
	}
	repository := k.in(v)
	for _, file := range v.files(version) {
		name := filepath.Join(repository.repository, file.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(file.content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	repository.git(t, "add", "-A")
	repository.git(t, "commit", "-q", "-m", version)
	token, err := k.server.token()
	if err != nil {
		t.Fatal(err)
	}
	return repository.gitCommand("push", "--force", "http://x:"+token+"@"+k.server.api+"/"+v.name+".git", "main")
}
