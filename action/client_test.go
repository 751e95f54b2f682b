package action

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// clientScript is client.sh with pins of the test's own, and a server that releases are fetched from.
type clientScript struct {
	t       *testing.T
	dir     string
	content atomic.Pointer[string] // what the server has for each client
	asked   atomic.Int32
	env     map[string]string
}

const fakeClient = "#!/bin/sh\necho \"client ran: $*\"\nexit 7\n"

func newClientScript(t *testing.T) *clientScript {
	t.Helper()
	c := &clientScript{t: t, dir: t.TempDir()}
	script, err := os.ReadFile("client.sh")
	if err != nil {
		t.Fatal(err)
	}
	c.write("action/client.sh", string(script))
	sum := sha256.Sum256([]byte(fakeClient))
	digest := hex.EncodeToString(sum[:])
	c.write("action/client.pins", "# comment\nv1.2.0 linux_arm64 "+strings.Repeat("0", 64)+"\nv1.2.0 linux_amd64 "+digest+"\nv1.2.0 windows_amd64 "+digest+"\nv1.1.0 linux_amd64 "+digest+"\n")
	c.serve(fakeClient)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		if !strings.HasPrefix(r.URL.Path, "/v1.") {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if content := *c.content.Load(); content != "" {
			_, _ = w.Write([]byte(content))
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	c.env = map[string]string{"PATH": os.Getenv("PATH"), "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64", "RUNNER_TOOL_CACHE": filepath.Join(c.dir, "tools"), "SHIPGATE_RELEASES": server.URL}
	return c
}

func (c *clientScript) serve(content string) { c.content.Store(&content) }

func (c *clientScript) write(name, content string) {
	c.t.Helper()
	at := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(content), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clientScript) command(settings ...string) *exec.Cmd {
	command := exec.CommandContext(c.t.Context(), "bash", filepath.Join(c.dir, "action", "client.sh"))
	for name, value := range c.env {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Env = append(command.Env, settings...)
	return command
}

// run gives the exit code, the output, and how often a client was fetched.
func (c *clientScript) run(settings ...string) (code int, output string, fetched int) {
	c.t.Helper()
	before := c.asked.Load()
	command := c.command(settings...)
	text, err := command.CombinedOutput()
	if err != nil && command.ProcessState == nil {
		c.t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(text), int(c.asked.Load() - before)
}

func (c *clientScript) wants(what string, wantCode, wantFetched int, says string, settings ...string) {
	c.t.Helper()
	code, output, fetched := c.run(settings...)
	if code != wantCode || fetched != wantFetched || !strings.Contains(output, says) {
		c.t.Errorf("%s: exit %d, want %d; fetched %d times, want %d; %q is to be in\n%s", what, code, wantCode, fetched, wantFetched, says, output)
	}
}

// cached lists what is in the tool cache.
func (c *clientScript) cached() (files []string) {
	c.t.Helper()
	root := filepath.Join(c.dir, "tools")
	_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(root, path)
			files = append(files, name)
		}
		return nil
	})
	return files
}

// The pinned client is fetched once; what is in the cache is looked at each time.
func TestClientIsFetchedOnceAndVerifiedAlways(t *testing.T) {
	c := newClientScript(t)
	const inCache = "shipgate-action/v1.2.0/linux_amd64/shipgate-action"
	c.wants("the first time", 7, 1, "client ran: \n")
	c.wants("the second time", 7, 0, "client ran: \n")
	c.write("tools/"+inCache, "#!/bin/sh\necho somebody else ran\n")
	c.wants("after the cache was changed", 7, 1, "client ran: \n")
	c.write("tools/"+inCache, "#!/bin/sh\necho somebody else ran\n")
	c.serve("#!/bin/sh\necho a stranger ran\n")
	c.wants("when the release was changed, too", 5, 1, "is not the client that this action was made with", "X=")
	c.serve(fakeClient)
	c.wants("another version", 7, 1, "client ran", "SHIPGATE_VERSION=v1.1.0")
	c.wants("on Windows", 7, 1, "client ran", "RUNNER_OS=Windows")
	if files := strings.Join(c.cached(), " "); files != "shipgate-action/v1.1.0/linux_amd64/shipgate-action "+inCache+" shipgate-action/v1.2.0/windows_amd64/shipgate-action.exe" {
		t.Errorf("the cache has %s", files)
	}
}

func TestClientThatIsNotPinnedDoesNotRun(t *testing.T) {
	c := newClientScript(t)
	c.serve("#!/bin/sh\necho a stranger ran\n")
	c.wants("another content", 5, 1, "::error title=shipgate%3A errored::what came from")
	c.serve("")
	c.wants("no such file", 4, 1, "::error title=shipgate%3A unreachable::the client cannot be fetched from")
	c.wants("a version without pins", 2, 0, "this action has no client v9.9.9 for linux_amd64; it has: v1.2.0 v1.1.0", "SHIPGATE_VERSION=v9.9.9")
	c.wants("a version that is a pattern", 2, 0, "this action has no client v1.2.. for", "SHIPGATE_VERSION=v1.2..")
	if _, output, _ := c.run("SHIPGATE_VERSION=v9\n::add-mask::x\r::error::y"); len(interpret(output).commands) != 1 {
		t.Errorf("an input is a command:\n%s", output)
	}
	if _, output, _ := c.run("SHIPGATE_BINARY=/nowhere\n::add-mask::x"); len(interpret(output).commands) != 1 {
		t.Errorf("an input is a command:\n%s", output)
	}
	c.wants("a platform without pins", 2, 0, "for darwin_amd64", "RUNNER_OS=macOS")
	c.wants("an unknown platform", 2, 0, "there is no client for ARM", "RUNNER_ARCH=ARM")
	if files := c.cached(); len(files) != 0 {
		t.Errorf("the cache has %s", files)
	}
}

// A job that is cancelled while the client is fetched ends at once, and deploys nothing.
func TestClientIsCancelledWhileItIsFetched(t *testing.T) {
	c := newClientScript(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer slow.Close()
	defer close(release)
	command := c.command("SHIPGATE_RELEASES=" + slow.URL)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	began := time.Now()
	_ = command.Process.Signal(syscall.SIGINT)
	_ = command.Wait()
	if code := command.ProcessState.ExitCode(); code != 130 || time.Since(began) > 7*time.Second || !strings.Contains(output.String(), "cancelled before anything was asked for") {
		t.Errorf("exit %d after %s\n%s", code, time.Since(began), &output)
	}
	if files := c.cached(); len(files) != 0 {
		t.Errorf("the cache has %s", files)
	}
}

// A program on the runner is neither fetched nor checked.
func TestClientOnTheRunner(t *testing.T) {
	c := newClientScript(t)
	own := filepath.Join(c.dir, "own folder", "shipgate")
	c.write("own folder/shipgate", fakeClient)
	c.wants("a program", 7, 0, "client ran: action\n", "SHIPGATE_BINARY="+own)
	c.wants("no program", 2, 0, "input binary-path is no program", "SHIPGATE_BINARY="+own+".exe")
}

// Without the runner's variables, as by hand, there is a place and a platform, too.
func TestClientWithoutARunner(t *testing.T) {
	c := newClientScript(t)
	c.wants("a place", 7, 1, "client ran", "RUNNER_TOOL_CACHE=", "RUNNER_TEMP="+filepath.Join(c.dir, "tools"))
	code, output, _ := c.run("RUNNER_OS=", "RUNNER_ARCH=")
	if strings.Contains(output, "there is no client") || code == 0 {
		t.Errorf("exit %d: %s", code, output)
	}
}
