package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/gitserver/github/githubtest"
)

// engineBack is how long what is live may take to run again on a busy machine. The goal is 2 s; the log has what it took.
const engineBack = 30 * time.Second

// engineMoment is when the engine is killed: at the first line of a push that begins so, or with nothing under way.
type engineMoment struct {
	strategy, line string
	busy           bool // the old version has a request that takes longer than the deployment: there is something to drain
	forward        bool // the deployment can only roll forward by then
}

// engineMoments are all steps of both strategies.
var engineMoments = []engineMoment{
	{strategy: "blue-green"},
	{strategy: "blue-green", line: "plan"},
	{strategy: "blue-green", line: "build   #"},
	{strategy: "blue-green", line: "build   done"},
	{strategy: "blue-green", line: "start"},
	{strategy: "blue-green", line: "gate"},
	{strategy: "blue-green", line: "route", forward: true},
	{strategy: "blue-green", line: "live", busy: true, forward: true},
	{strategy: "recreate", line: "build   done", busy: true},
	{strategy: "recreate", line: "stop"},
	{strategy: "recreate", line: "start"},
	{strategy: "recreate", line: "gate"},
	{strategy: "recreate", line: "route", forward: true},
	{strategy: "recreate", line: "live", forward: true},
}

// ownNetwork is set for the process that has a network namespace of its own; it says where the programs are.
const ownNetwork = "SHIPGATE_TEST_OWN_NETWORK"

// TestKilledEngine kills the Docker engine under the real server and its proxy, with nothing under way and at each step of
// both strategies, and starts it again. Then all that is live has to run again and what was stopped on purpose has not, the
// push, the API and GitHub have to be told one verdict, nothing may be left over, and the next push has to work.
func TestKilledEngine(t *testing.T) {
	bin := os.Getenv(ownNetwork)
	if bin == "" {
		t.Parallel()
		inOwnNetwork(t)
		return
	}
	k := newEngineKilling(t, bin)
	for n, moment := range engineMoments {
		if testing.Short() && n%4 != 0 {
			continue
		}
		t.Run(strings.TrimSpace(moment.strategy+" "+moment.line), func(t *testing.T) { k.round(t, n, moment) })
	}
	k.killing.push(t, "last", true)
	k.check(t, len(engineMoments))
	if wrong := k.github.Violations(); len(wrong) > 0 {
		t.Errorf("GitHub was sent what it does not take:\n%s", strings.Join(wrong, "\n"))
	}
	t.Logf("longest time from the engine's return until everything live answered: %s", k.slowest.Round(time.Millisecond))
}

// inOwnNetwork runs this test in a process whose network namespace the engine may take over.
func inOwnNetwork(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: a network namespace of its own needs root")
	}
	command := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout=15m", fmt.Sprintf("-test.short=%t", testing.Short()))
	command.Env = append(os.Environ(), ownNetwork+"="+programs(t))
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	t.Log(output.String())
	switch {
	case err != nil:
		t.Error(err)
	case strings.Contains(output.String(), "NOT TESTED"):
		t.Skip("NOT TESTED: see above")
	}
}

// engineKilling is a server on an engine that gets killed. Its app victim is deployed meanwhile, bystander is live all the
// time, and sleeper is stopped on purpose.
type engineKilling struct {
	*killing
	own     *enginetest.OwnEngine
	github  *githubtest.Fake
	forge   *githubtest.Repository
	slowest time.Duration
}

func newEngineKilling(t *testing.T, bin string) *engineKilling {
	k := &engineKilling{own: enginetest.StartOwnEngine(t)}
	t.Setenv("DOCKER_HOST", "unix://"+k.own.Socket())
	k.killing = newKilling(t, bin)
	k.github = k.server.connectGitHub(t, shortDir(t))
	k.github.Lose(true) // the webhook of a commit would deploy it, too
	var err error
	if k.forge, err = k.github.Repository("octo", "victim"); err != nil {
		t.Fatal(err)
	}
	k.must(t, "app", "update", "victim", "--repo", "octo/victim", "--health-timeout", "20s")
	k.commit(t, "first", true)
	for _, app := range []string{"bystander", "sleeper", "victim"} {
		if app != "victim" {
			k.must(t, "app", "create", app, "--source", "dockerfile", "--host", app+".localhost", "--health", "/healthz")
		}
		if output, err := k.pushTo(t, app).CombinedOutput(); err != nil {
			t.Fatalf("push to %s: %v\n%s", app, err, output)
		}
	}
	k.must(t, "app", "stop", "sleeper")
	k.awaitWhole(t)
	return k
}

func (k *engineKilling) pushTo(t *testing.T, app string) *exec.Cmd {
	t.Helper()
	token, err := k.server.token()
	if err != nil {
		t.Fatal(err)
	}
	return k.gitCommand("push", "--force", "http://x:"+token+"@"+k.server.api+"/"+app+".git", "main")
}

// round kills the engine at a moment, starts it again and looks at what came of it.
func (k *engineKilling) round(t *testing.T, n int, moment engineMoment) {
	if moment.line == "" {
		k.restartEngine(t)
		k.awaitWhole(t)
		k.check(t, n)
		return
	}
	k.must(t, "app", "update", "victim", "--strategy", moment.strategy)
	k.commit(t, fmt.Sprintf("version-%d", n), true)
	sha, _, err := k.github.Take(k.forge, "pushed", k.repository) // not main: there it would be deployed once more
	if err != nil {
		t.Fatal(err)
	}
	if moment.busy {
		k.beBusy(t)
	}
	push := k.startPush(t, "remote: "+moment.line)
	<-push.reached
	k.restartEngine(t)
	began := time.Now()
	<-push.ended
	k.checkVerdict(t, moment, sha, push, time.Since(began))
	k.awaitWhole(t)
	k.check(t, n)
}

// restartEngine kills the engine and starts it again, and waits until the app answers that no deployment touches.
func (k *engineKilling) restartEngine(t *testing.T) {
	t.Helper()
	k.own.Kill()
	k.own.Start(t)
	back := time.Now()
	for !k.answers("bystander", http.StatusOK) {
		if time.Since(back) > engineBack {
			t.Fatalf("bystander does not answer %s after the engine's return:\n%s", engineBack, k.server.log.text())
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(back)
	k.slowest = max(k.slowest, took)
	runs := k.startedAt(t, "bystander").Sub(back)
	t.Logf("bystander was started %s after the engine's return, and answers after %s", runs.Round(time.Millisecond), took.Round(time.Millisecond))
}

func (k *engineKilling) startedAt(t *testing.T, app string) time.Time {
	t.Helper()
	shown, err := k.server.shownApp(app)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command("docker", "inspect", "--format", "{{.State.StartedAt}}", shown.Live.Container).Output()
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(output)))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (k *engineKilling) answers(app string, status int) bool {
	client := http.Client{Timeout: 500 * time.Millisecond} // short: a request to a container that is gone may take until then
	request, err := http.NewRequest(http.MethodGet, "http://"+k.server.public+"/", nil)
	if err != nil {
		return false
	}
	request.Host = app + ".localhost"
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == status
}

// beBusy has the old version work on a request. What becomes of that is not tested: its container ends with the engine.
func (k *engineKilling) beBusy(t *testing.T) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+k.server.public+"/slow?ms=4000", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "victim.localhost"
	done := make(chan struct{})
	go func() {
		defer close(done)
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	}()
	t.Cleanup(func() { <-done })
}

// enginePush is a push whose output is followed.
type enginePush struct {
	reached, ended chan struct{}
	output         string // once it has ended
	err            error
}

// startPush begins a push. Reached is closed at its first line that begins so, or at its end.
func (k *engineKilling) startPush(t *testing.T, line string) *enginePush {
	t.Helper()
	push := &enginePush{reached: make(chan struct{}), ended: make(chan struct{})}
	command := k.pushCommand(t)
	stderr, err := command.StderrPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(push.ended)
		met := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			push.output += lines.Text() + "\n"
			if !met && strings.HasPrefix(lines.Text(), line) {
				met = true
				close(push.reached)
			}
		}
		push.err = command.Wait()
		if !met {
			push.output += "NO LINE BEGINS WITH " + line + "\n"
			close(push.reached)
		}
	}()
	return push
}

// checkVerdict wants all who are told of the deployment told the same.
func (k *engineKilling) checkVerdict(t *testing.T, moment engineMoment, sha string, push *enginePush, took time.Duration) {
	t.Helper()
	if strings.Contains(push.output, "NO LINE BEGINS") {
		t.Errorf("the push did not come to the moment:\n%s", push.output)
	}
	d := k.newest(t)
	if err := k.server.await(strconv.FormatInt(d.ID, 10), "done", "undone"); err != nil {
		t.Fatalf("%v\nthe push said:\n%s", err, push.output)
	}
	d = k.newest(t)
	t.Logf("deployment %d %s %s; the push ended %s after the engine's return", d.ID, d.Verdict, d.Reason, took.Round(time.Millisecond))
	if d.SHA != sha || (d.Verdict == "succeeded") != (push.err == nil) || moment.forward && d.Verdict != "succeeded" {
		t.Errorf("deployment %d of %s %s, the push of %s says %v:\n%s", d.ID, d.SHA, d.Verdict, sha, push.err, push.output)
	}
	want := map[string]string{"succeeded": "success", "failed": "failure", "errored": "error"}[d.Verdict]
	var told []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if told = k.told(sha); len(told) > 0 && told[len(told)-1] != "pending" {
			break
		}
	}
	if !slices.Equal(told, []string{"pending", want}) && !slices.Equal(told, []string{want}) {
		t.Errorf("GitHub was told %q of a deployment that %s", told, d.Verdict)
	}
}

func (k *engineKilling) told(sha string) (states []string) {
	for _, status := range k.github.Statuses(k.forge) {
		if status.SHA == sha {
			states = append(states, status.State)
		}
	}
	return states
}

// awaitWhole waits until the engine has the live containers running, the one of the stopped app at rest, and no other ones.
func (k *engineKilling) awaitWhole(t *testing.T) {
	t.Helper()
	began, want, got := time.Now(), "", ""
	for ; time.Since(began) < engineBack; time.Sleep(20 * time.Millisecond) {
		var lines []string
		for app, state := range map[string]string{"victim": "running", "bystander": "running", "sleeper": "exited"} {
			shown, err := k.server.shownApp(app)
			if err != nil || shown.Live == nil {
				t.Fatalf("%s: %v", app, err)
			}
			lines = append(lines, shown.Live.Container+" "+state)
		}
		slices.Sort(lines)
		want = strings.Join(lines, "\n")
		output, _ := exec.Command("docker", "ps", "-a", "--format", "{{.Names}} {{.State}}").Output()
		lines = strings.Split(strings.TrimSpace(string(output)), "\n")
		slices.Sort(lines)
		if got = strings.Join(lines, "\n"); got == want && k.answers("victim", http.StatusOK) && k.answers("sleeper", http.StatusServiceUnavailable) {
			return
		}
	}
	t.Fatalf("after %s the engine has\n%s\nwant\n%s\n%s", engineBack, got, want, k.server.log.text())
}
