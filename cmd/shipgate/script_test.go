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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

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
		"shipgate": {"CGO_ENABLED=1", "build", "-race", "-o", filepath.Join(dir, "shipgate"), "."},
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

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaries(); err == nil && started.Load() {
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
	requireEngine(t)
	dir := programs(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			s := newScriptServer(env, dir)
			env.Values[serverKey{}] = s
			env.Defer(s.cleanUp)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":       func(ts *testscript.TestScript, _ bool, args []string) { serverOf(ts).serve(ts, args) },
			"kill-server": func(ts *testscript.TestScript, _ bool, _ []string) { serverOf(ts).end(ts, syscall.SIGKILL) },
			"stop-server": func(ts *testscript.TestScript, _ bool, _ []string) { serverOf(ts).end(ts, syscall.SIGTERM) },
			"testapp":     copyTestapp,
			"http":        request,
			"load":        load,
			"reached":     func(ts *testscript.TestScript, _ bool, args []string) { serverOf(ts).await(ts, args[0], args[1]) },
			"settled": func(ts *testscript.TestScript, _ bool, args []string) {
				serverOf(ts).await(ts, args[0], "done", "undone")
			},
			"containers": containers,
		},
	})
}

type serverKey struct{}

func serverOf(ts *testscript.TestScript) *scriptServer { return ts.Value(serverKey{}).(*scriptServer) }

// scriptServer is the server of one script, with all that has to be removed in the end.
type scriptServer struct {
	dir, bin string
	command  *exec.Cmd
	public   string
	log      *logTail
	load     *loadRun
}

func newScriptServer(env *testscript.Env, bin string) *scriptServer {
	env.Vars = append(env.Vars,
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+env.WorkDir,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@localhost",
		"SHIPGATE_DATA="+filepath.Join(env.WorkDir, ".data"), "GORACE=halt_on_error=1",
	)
	return &scriptServer{dir: filepath.Join(env.WorkDir, ".data"), bin: bin, public: "127.0.0.1:0"}
}

// serve starts the server and returns when it can take a push. A second one takes the first one's addresses.
func (s *scriptServer) serve(ts *testscript.TestScript, args []string) {
	listen := "127.0.0.1:0"
	if api := ts.Getenv("API"); api != "" {
		listen = api
	}
	s.command = exec.Command(filepath.Join(s.bin, "shipgate"), append([]string{"serve", "--data", s.dir, "--listen", listen, "--public-addr", s.public}, args...)...)
	stderr, err := s.command.StderrPipe()
	ts.Check(err)
	ts.Check(s.command.Start())
	s.log = followLog(stderr)
	select {
	case line := <-s.log.ready:
		fields := strings.Fields(line)
		api := strings.TrimPrefix(fields[1], "api=")
		public := strings.TrimPrefix(fields[2], "public=")
		s.public = strings.TrimPrefix(public, "http://")
		ts.Setenv("API", strings.TrimPrefix(api, "http://"))
		ts.Setenv("PUBLIC", public)
	case <-s.log.done:
		ts.Fatalf("the server ended before it was ready:\n%s", s.log.text())
	case <-time.After(patience):
		ts.Fatalf("the server was not ready in time:\n%s", s.log.text())
	}
	token, err := os.ReadFile(filepath.Join(s.dir, "admin-token"))
	ts.Check(err)
	ts.Setenv("TOKEN", strings.TrimSpace(string(token)))
}

// end sends a signal to the server and waits until it is gone.
func (s *scriptServer) end(ts *testscript.TestScript, signal syscall.Signal) {
	ts.Check(s.command.Process.Signal(signal))
	<-s.log.done
	err := s.command.Wait()
	s.command = nil
	if signal != syscall.SIGKILL && err != nil {
		ts.Fatalf("the server ended with %v:\n%s", err, s.log.text())
	}
}

// await waits until a deployment has reached one of the steps.
func (s *scriptServer) await(ts *testscript.TestScript, deployment string, steps ...string) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		command := exec.Command(filepath.Join(s.bin, "shipgate"), "show", deployment, "--data", s.dir, "--json")
		output, err := command.Output()
		for _, step := range steps {
			if err == nil && strings.Contains(string(output), `"step": "`+step+`"`) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("deployment %s did not reach %v:\n%s", deployment, steps, s.log.text())
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

// request prints the status and the body of one request: http METHOD URL HOST.
func request(ts *testscript.TestScript, _ bool, args []string) {
	request, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	request.Host = args[2]
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n%s\n", response.StatusCode, body)
}

// load starts requests that no client may repeat, or stops them and prints how many there were: load start HOST [METHOD].
func load(ts *testscript.TestScript, _ bool, args []string) {
	s := serverOf(ts)
	if args[0] == "stop" {
		fmt.Fprintln(ts.Stdout(), s.load.stop())
		s.load = nil
		return
	}
	method := http.MethodPost
	if len(args) > 2 {
		method = args[2]
	}
	s.load = startLoad("http://"+s.public+"/", args[1], method)
}

// containers prints the names and states of an app's containers.
func containers(ts *testscript.TestScript, _ bool, args []string) {
	id := serverID(serverOf(ts).dir)
	output, err := exec.Command("docker", "ps", "-a", "--filter", "label=dev.shipgate.data="+id,
		"--filter", "label=dev.shipgate.app="+args[0], "--format", "{{.Names}} {{.State}}").Output()
	ts.Check(err)
	_, err = ts.Stdout().Write(output)
	ts.Check(err)
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

// loadRun is a bounded number of clients that send requests until they are stopped.
type loadRun struct {
	sent, failed atomic.Int64
	first        sync.Once
	fault        string
	cancel       context.CancelFunc
	clients      sync.WaitGroup
}

func startLoad(url, host, method string) *loadRun {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	run := &loadRun{cancel: cancel}
	for range 4 {
		run.clients.Go(func() {
			for ctx.Err() == nil {
				run.sent.Add(1)
				if err := sendOnce(url, host, method); err != nil {
					run.failed.Add(1)
					run.first.Do(func() { run.fault = err.Error() })
				}
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return run
}

// sendOnce makes a request that Go's client cannot quietly send again.
func sendOnce(url, host, method string) error {
	var body io.Reader
	if method == http.MethodPost {
		body = io.MultiReader(strings.NewReader("sent once"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

func (l *loadRun) stop() string {
	l.cancel()
	l.clients.Wait()
	text := fmt.Sprintf("requests=%d failed=%d", l.sent.Load(), l.failed.Load())
	if l.fault != "" {
		text = "first failure: " + l.fault + "\n" + text
	}
	return text
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
		`docker volume ls -q --filter "label=dev.shipgate.data=$1" | xargs -r docker volume rm`,
		`docker network ls -q --filter "label=dev.shipgate.data=$1" | xargs -r docker network rm`,
	} {
		if output, err := exec.Command("sh", "-c", script, "sh", id).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "clean up: %v\n%s", errors.Unwrap(err), output)
		}
	}
}
