package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/proxy"
)

// patience is how long any one thing may take before a script is given up.
const patience = 90 * time.Second

// binaries are what the scripts drive, built once: the program with the race detector, and the app that it deploys.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shipgate-script-")
	if err != nil {
		return "", err
	}
	for name, build := range map[string][]string{
		"shipgate": append(append([]string{"CGO_ENABLED=1", "build"}, raceFlags()...), "-o", filepath.Join(dir, "shipgate"), "."),
		"testapp":  {"CGO_ENABLED=0", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "testapp"), "../../deploy/enginetest/testapp"},
	} {
		command := exec.Command("go", build[1:]...)
		command.Env = append(os.Environ(), build[0])
		if output, err := command.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
	}
	return dir, nil
})

// raceFlags are those of make unit, so that what is compiled for the tests is compiled once.
func raceFlags() []string {
	if flags := strings.Fields(os.Getenv("SHIPGATE_RACE_FLAGS")); len(flags) > 0 {
		return flags
	}
	return []string{"-race", "-gcflags=modernc.org/sqlite/lib=-race=false"}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if started.Load() {
		dir, _ := binaries()
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var started atomic.Bool // whether binaries were built

func requireEngine(t *testing.T) {
	t.Helper()
	if output, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatalf("no Docker engine answers: %v\n%s", err, output)
		}
		t.Skip("NO DOCKER ENGINE ANSWERS: the end-to-end scripts did not run; scripts/engine.sh starts one")
	}
}

func programs(t *testing.T) string {
	t.Helper()
	started.Store(true)
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestScripts drives the built binary with the real git against the real engine. The scripts are the documentation.
func TestScripts(t *testing.T) {
	t.Parallel()
	requireEngine(t)
	dir := programs(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Condition: func(condition string) (bool, error) {
			switch condition {
			case "deno", "compose", "act":
				return hasTool(t, condition+".sh"), nil
			}
			return false, fmt.Errorf("unknown condition %s", condition)
		},
		Setup: func(env *testscript.Env) error {
			s := newScriptServer(env, dir)
			env.Values[serverKey{}] = s
			env.Defer(s.cleanUp)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":       func(ts *testscript.TestScript, _ bool, args []string) { serverOf(ts).serve(ts, args) },
			"kill-server": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(serverOf(ts).end(syscall.SIGKILL)) },
			"stop-server": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(serverOf(ts).end(syscall.SIGTERM)) },
			"testapp":     copyTestapp,
			"http":        request,
			"load":        load,
			"reached":     func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(serverOf(ts).await(args[0], args[1])) },
			"settled": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(serverOf(ts).await(args[0], "done", "undone"))
			},
			"healthy":    healthy,
			"containers": containers,
			"state":      state,
			"by-hand":    byHand,
			"listen":     listen,
			"registry":   atRegistry,
			"base":       importBase,
			"act":        act,
			"release":    release,
			"issuer":     issuer,
			"github":     atGitHub,
		},
	})
}

type serverKey struct{}

func serverOf(ts *testscript.TestScript) *scriptServer { return ts.Value(serverKey{}).(*scriptServer) }

// scriptServer is the server of one script, with all that has to be removed in the end.
type scriptServer struct {
	dir, bin    string
	api, public string // addresses; port 0 until it was started once
	command     *exec.Cmd
	log         *logTail
	load        *loadRun

	github       *githubtest.Fake
	repositories map[string]*githubtest.Repository // by full name
	issuer       *testIssuer
}

func newScriptServer(env *testscript.Env, bin string) *scriptServer {
	env.Vars = append(env.Vars,
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+env.WorkDir,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@localhost",
		"SHIPGATE_DATA="+filepath.Join(env.WorkDir, ".data"), "GORACE="+os.Getenv("GORACE")+" halt_on_error=1",
	)
	return newServer(filepath.Join(env.WorkDir, ".data"), bin)
}

func newServer(dir, bin string) *scriptServer {
	return &scriptServer{
		dir: dir, bin: bin, api: "127.0.0.1:0", public: "127.0.0.1:0", repositories: map[string]*githubtest.Repository{},
	}
}

func (s *scriptServer) serve(ts *testscript.TestScript, args []string) {
	ts.Check(s.start(args...))
	ts.Setenv("API", s.api)
	ts.Setenv("PUBLIC", "http://"+s.public)
	ts.Setenv(actEnv+"SERVER", "http://"+s.api)
	ts.Setenv("SERVER", serverID(s.dir)) // other servers have made things on the same engine
	token, err := s.token()
	ts.Check(err)
	ts.Setenv("TOKEN", token)
}

// start starts the server and returns when it can take a push. A second one takes the first one's addresses.
func (s *scriptServer) start(args ...string) error {
	return s.launch(append([]string{"--allow-source", "127.0.0.1", "--allow-image", "shipgate-test-*"}, args...)...)
}

// launch starts the server with no other flags than where it listens and those given.
func (s *scriptServer) launch(args ...string) error {
	args = append([]string{"serve", "--data", s.dir, "--listen", s.api, "--public-addr", s.public}, args...)
	s.command = exec.Command(filepath.Join(s.bin, "shipgate"), args...)
	s.command.Env = append(os.Environ(), composePlugin()...)
	stderr, err := s.command.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.command.Start(); err != nil {
		return err
	}
	s.log = followLog(stderr)
	select {
	case line := <-s.log.ready:
		fields := strings.Fields(line)
		s.api = strings.TrimPrefix(fields[1], "api=http://")
		s.public = strings.TrimPrefix(fields[2], "public=http://")
		return nil
	case <-s.log.done:
		return fmt.Errorf("the server ended before it was ready:\n%s", s.log.text())
	case <-time.After(patience):
		return fmt.Errorf("the server was not ready in time:\n%s", s.log.text())
	}
}

func (s *scriptServer) token() (string, error) {
	token, err := os.ReadFile(filepath.Join(s.dir, "admin-token"))
	return strings.TrimSpace(string(token)), err
}

// end sends a signal to the server and waits until it is gone.
func (s *scriptServer) end(signal syscall.Signal) error {
	if err := s.command.Process.Signal(signal); err != nil {
		return err
	}
	<-s.log.done
	err := s.command.Wait()
	s.command = nil
	if signal != syscall.SIGKILL && err != nil {
		return fmt.Errorf("the server ended with %w:\n%s", err, s.log.text())
	}
	return nil
}

// await waits until a deployment has reached one of the steps.
func (s *scriptServer) await(deployment string, steps ...string) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var d shownDeployment
		if err := s.ask("/api/v1/deployments/"+deployment, &d); err == nil && slices.Contains(steps, string(d.Step)) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("deployment %s did not reach %v:\n%s", deployment, steps, s.log.text())
}

// ask reads what the API answers. Polling goes this way, as starting the program each time would take a whole processor from
// what is waited for.
func (s *scriptServer) ask(path string, into any) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return (&client{url: "http://" + s.api, token: token, http: once}).call(context.Background(), http.MethodGet, path, nil, into)
}

// shipgate runs a command against the server.
func (s *scriptServer) shipgate(args ...string) (string, error) {
	output, err := exec.Command(filepath.Join(s.bin, "shipgate"), append(args, "--data", s.dir)...).Output()
	return string(output), err
}

// cleanUp removes everything that carries the label of this script's server, and ends the processes it started.
func (s *scriptServer) cleanUp() {
	if s.load != nil {
		s.load.stop()
	}
	if s.command != nil {
		_ = s.command.Process.Signal(syscall.SIGTERM)
		<-s.log.done
		_ = s.command.Wait()
	}
	if s.github != nil {
		_ = s.github.Close()
	}
	if pid := proxyPID(s.dir); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	removeLabelled(serverID(s.dir))
}

func copyTestapp(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	content, err := os.ReadFile(filepath.Join(serverOf(ts).bin, "testapp"))
	ts.Check(err)
	ts.Check(os.WriteFile(path, content, 0o755))
}

// containers prints the names and states of an app's containers.
func containers(ts *testscript.TestScript, _ bool, args []string) {
	output, err := serverOf(ts).containers(args[0])
	ts.Check(err)
	fmt.Fprint(ts.Stdout(), output)
}

func (s *scriptServer) containers(app string) (string, error) {
	output, err := exec.Command("docker", "ps", "-a", "--filter", "label=dev.shipgate.data="+serverID(s.dir),
		"--filter", "label=dev.shipgate.app="+app, "--format", "{{.Names}} {{.State}}").Output()
	return string(output), err
}

// logTail reads a process's log, finds the line that says it is ready, and keeps the rest for failures.
type logTail struct {
	ready chan string
	done  chan struct{}
	mu    sync.Mutex
	lines []string
}

func followLog(from io.Reader) *logTail {
	tail := &logTail{ready: make(chan string, 1), done: make(chan struct{})}
	go func() {
		defer close(tail.done)
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready ") {
				tail.ready <- lines.Text()
			}
			tail.mu.Lock()
			tail.lines = append(tail.lines, lines.Text())
			tail.mu.Unlock()
		}
	}()
	return tail
}

func (l *logTail) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-60):], "\n")
}

// proxyPID asks the proxy of a data directory who it is; 0 when none answers.
func proxyPID(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	status, err := proxy.NewClient(dir).Status(ctx)
	if err != nil {
		return 0
	}
	return status.PID
}

// serverID reads the label of what a data directory's server has made.
func serverID(dir string) string {
	found, err := readServerFile(dir)
	if err != nil {
		return ""
	}
	return found.ServerID
}

func removeLabelled(id string) {
	if id == "" {
		return
	}
	for _, script := range []string{
		`docker ps -aq --filter "label=dev.shipgate.data=$1" | xargs -r docker rm -f`,
		`docker image ls -q --filter "label=dev.shipgate.data=$1" | sort -u | xargs -r docker image rm -f`,
		`docker image ls -q --filter "label=shipgate-test=$1" | sort -u | xargs -r docker image rm -f`,
		`docker volume ls -q --filter "label=dev.shipgate.data=$1" | xargs -r docker volume rm`,
		`docker network ls -q --filter "label=dev.shipgate.data=$1" | xargs -r docker network rm`,
	} {
		if output, err := exec.Command("sh", "-c", script, "sh", id).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "clean up: %v\n%s", errors.Unwrap(err), output)
		}
	}
}
