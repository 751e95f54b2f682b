package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledServer kills the real server at random moments of real deployments, of both strategies and of good and bad
// versions, while clients that cannot repeat a request keep asking. No request may be lost, every deployment must get
// its verdict from the next server, and what is live, what runs, what answers and what the branch says must be one.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	requireEngine(t)
	k := newKilling(t, programs(t))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	k.push(t, "first", true)
	k.span = time.Since(began)
	k.newestID = k.newest(t).ID
	load := startLoad("http://"+k.server.public+"/", "victim.localhost", http.MethodPost)
	defer load.stop()
	for round := 0; k.killed < deployments; round++ {
		if round == 2*deployments {
			t.Fatalf("only %d of %d rounds met a deployment", k.killed, round)
		}
		if round == deployments/2 {
			k.must(t, "app", "update", "victim", "--strategy", "recreate")
		}
		k.round(t, round, random)
	}
	if report := load.stop(); !strings.HasSuffix(report, " failed=0") {
		t.Error(report)
	} else {
		t.Log(report)
	}
	t.Logf("%d deployments were met; longest time from a restart to ready, with every deployment taken up: %s; to the verdict: %s", k.killed, k.slowestStart, k.longest)
}

// deployments is how many must have been met by a kill; a kill before a push was taken does not count.
const deployments = 20

// killing is the server that gets killed, and the repository that is pushed to it.
type killing struct {
	server     *scriptServer
	repository string
	span       time.Duration // that a deployment takes here: the server is killed within it
	longest    time.Duration // from a restart to the verdict: taking the deployment up, and what it needs itself

	slowestStart time.Duration // of that, until every deployment was taken up: ready is said after it
	killed       int
	newestID     int64
}

func newKilling(t *testing.T, bin string) *killing {
	dir := shortDir(t)
	k := &killing{server: newServer(filepath.Join(dir, "data"), bin), repository: filepath.Join(dir, "repository")}
	t.Cleanup(k.server.cleanUp)
	if err := k.server.start(); err != nil {
		t.Fatal(err)
	}
	k.must(t, "app", "create", "victim", "--source", "dockerfile", "--host", "victim.localhost", "--health", "/healthz", "--health-timeout", "4s")
	app, err := os.ReadFile(filepath.Join(bin, "testapp"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(k.repository, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.repository, "testapp"), app, 0o755); err != nil {
		t.Fatal(err)
	}
	k.git(t, "init", "-q", "-b", "main")
	return k
}

// round pushes a version, kills the server at some moment of it, starts it again and looks at what came of it.
func (k *killing) round(t *testing.T, round int, random *rand.Rand) {
	t.Helper()
	version := fmt.Sprintf("version-%d", round)
	good := round%4 != 3
	k.commit(t, version, good)
	push := k.pushCommand(t)
	var output bytes.Buffer
	push.Stdout, push.Stderr = &output, &output
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	delay := time.Duration(random.Int64N(int64(k.span * 2 / 3)))
	time.Sleep(delay)
	if err := k.server.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = push.Wait()
	restarted := time.Now()
	if err := k.server.start(); err != nil {
		t.Fatal(err)
	}
	k.slowestStart = max(k.slowestStart, time.Since(restarted))
	newest := k.newest(t)
	if err := k.server.await(strconv.FormatInt(newest.ID, 10), "done", "undone"); err != nil {
		t.Fatalf("round %d, killed after %s: %v\nthe push said:\n%s", round, delay, err, output.String())
	}
	ended := k.newest(t)
	if ended.ID > k.newestID {
		k.killed, k.newestID = k.killed+1, ended.ID
	}
	if ended.FinishedAt.After(restarted) {
		k.longest = max(k.longest, ended.FinishedAt.Sub(restarted))
	}
	t.Logf("round %2d killed after %4d ms: deployment %d %s", round, delay.Milliseconds(), ended.ID, ended.Verdict)
	if ended.Verdict == "" || (ended.Verdict == "succeeded") != k.good(ended) {
		t.Errorf("round %d: deployment %d of %q is %q: %s", round, ended.ID, ended.Subject, ended.Verdict, ended.Reason)
	}
	k.check(t, round)
}

// killedDeployment is what the test needs of `shipgate deployments --json`.
type killedDeployment struct {
	ID         int64     `json:"id"`
	SHA        string    `json:"sha"`
	Subject    string    `json:"subject"`
	Verdict    string    `json:"verdict"`
	Reason     string    `json:"reason"`
	FinishedAt time.Time `json:"finished_at"`
}

func (k *killing) good(d killedDeployment) bool { return !strings.HasSuffix(d.Subject, " bad") }

func (k *killing) newest(t *testing.T) killedDeployment {
	t.Helper()
	var list []killedDeployment
	if err := json.Unmarshal([]byte(k.must(t, "deployments", "victim", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// check compares what is live with what runs, what answers, and what the branch says.
func (k *killing) check(t *testing.T, round int) {
	t.Helper()
	var app struct {
		Live struct {
			Deployment int64  `json:"deployment"`
			SHA        string `json:"sha"`
			Container  string `json:"container"`
		} `json:"live"`
	}
	if err := json.Unmarshal([]byte(k.must(t, "app", "show", "victim", "--json")), &app); err != nil {
		t.Fatal(err)
	}
	running, err := k.server.containers("victim")
	if err != nil {
		t.Fatal(err)
	}
	if want := app.Live.Container + " running\n"; running != want {
		t.Errorf("round %d: containers %q, want %q", round, running, want)
	}
	branch, err := os.ReadFile(filepath.Join(k.server.dir, "repos", "victim.git", "refs", "heads", "main"))
	if err != nil || strings.TrimSpace(string(branch)) != app.Live.SHA {
		t.Errorf("round %d: the branch says %q, live is %s (%v)", round, branch, app.Live.SHA, err)
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+k.server.public+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "victim.localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	subject := k.git(t, "show", "-s", "--format=%s", app.Live.SHA)
	if strings.TrimSpace(string(answer)) != strings.TrimSpace(subject) {
		t.Errorf("round %d: %q answers, live is %q", round, answer, subject)
	}
}

func (k *killing) push(t *testing.T, version string, good bool) {
	t.Helper()
	k.commit(t, version, good)
	if output, err := k.pushCommand(t).CombinedOutput(); err != nil {
		t.Fatalf("push: %v\n%s", err, output)
	}
}

func (k *killing) commit(t *testing.T, version string, good bool) {
	t.Helper()
	status, subject := 200, version
	if !good {
		status, subject = 503, version+" bad"
	}
	dockerfile := fmt.Sprintf("FROM scratch\nCOPY testapp /testapp\nENV APP_VERSION=%s HEALTH_STATUS=%d\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n", version, status)
	if err := os.WriteFile(filepath.Join(k.repository, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	k.git(t, "add", "-A")
	k.git(t, "commit", "-q", "-m", subject)
}

func (k *killing) pushCommand(t *testing.T) *exec.Cmd {
	t.Helper()
	token, err := k.server.token()
	if err != nil {
		t.Fatal(err)
	}
	return k.gitCommand("push", "--force", "http://x:"+token+"@"+k.server.api+"/victim.git", "main")
}

func (k *killing) gitCommand(args ...string) *exec.Cmd {
	command := exec.Command("git", args...)
	command.Dir = k.repository
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@localhost")
	return command
}

func (k *killing) git(t *testing.T, args ...string) string {
	t.Helper()
	output, err := k.gitCommand(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, output)
	}
	return string(output)
}

func (k *killing) must(t *testing.T, args ...string) string {
	t.Helper()
	output, err := k.server.shipgate(args...)
	if err != nil {
		t.Fatalf("shipgate %v: %v\n%s", args, err, k.server.log.text())
	}
	return output
}
