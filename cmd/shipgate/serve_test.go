package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// server is the built program serving on a data directory of its own. What it says on standard error is read line by line.
type server struct {
	command *exec.Cmd
	lines   *bufio.Scanner
	said    []string
}

// shortDir returns a directory that may hold a server's data. t.TempDir has the name of the test in its path, which can be too
// long for the proxy's socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func startServer(t *testing.T, dir string, env []string, args ...string) *server {
	t.Helper()
	command := exec.Command(filepath.Join(programs(t), "shipgate"), append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--public-addr", "127.0.0.1:0"}, args...)...)
	command.Env = append(os.Environ(), env...)
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{command: command, lines: bufio.NewScanner(stderr)}
	t.Cleanup(func() {
		if command.ProcessState == nil {
			_ = command.Process.Kill()
			s.rest()
			_ = command.Wait()
		}
		if pid := proxyPID(dir); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	})
	return s
}

// ready reads up to the line that says so. A server that never does is ended.
func (s *server) ready(t *testing.T) string {
	t.Helper()
	defer time.AfterFunc(patience, func() { _ = s.command.Process.Kill() }).Stop()
	for s.lines.Scan() {
		s.said = append(s.said, s.lines.Text())
		if strings.HasPrefix(s.lines.Text(), "ready ") {
			return s.lines.Text()
		}
	}
	t.Fatalf("the server ended before it was ready:\n%s", strings.Join(s.said, "\n"))
	return ""
}

func (s *server) rest() string {
	for s.lines.Scan() {
		s.said = append(s.said, s.lines.Text())
	}
	return strings.Join(s.said, "\n")
}

// end sends a signal, 0 for none, and gives the exit code and all that was said.
func (s *server) end(signal syscall.Signal) (int, string) {
	defer time.AfterFunc(patience, func() { _ = s.command.Process.Kill() }).Stop()
	_ = s.command.Process.Signal(signal)
	said := s.rest()
	_ = s.command.Wait()
	return s.command.ProcessState.ExitCode(), said
}

// The server says once that it is ready, tells the service manager, serves without a Docker engine, ends in peace, and
// leaves the proxy to the next one.
func TestServe(t *testing.T) {
	dir := filepath.Join(shortDir(t), "data")
	socket := filepath.Join(filepath.Dir(dir), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	env := []string{"NOTIFY_SOCKET=" + socket, "DOCKER_HOST=unix://" + filepath.Join(dir, "no-engine.sock")}
	first := startServer(t, dir, env)
	ready := first.ready(t)
	notified(t, manager, "READY=1")
	found, err := readServerFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ready api=" + found.API + " public=" + found.Public; ready != want {
		t.Errorf("%q, want %q", ready, want)
	}
	if info, err := os.Stat(filepath.Join(dir, "admin-token")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin-token: %v, %v", info, err)
	}
	proxy := proxyPID(dir)
	code, said := first.end(syscall.SIGTERM)
	notified(t, manager, "STOPPING=1")
	if code != exitDone || strings.Count(said, "ready ") != 1 || strings.Contains(said, "level=ERROR msg=\"serve") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	second := startServer(t, dir, env)
	second.ready(t)
	if proxy == 0 || proxyPID(dir) != proxy {
		t.Errorf("the proxy was process %d and is %d", proxy, proxyPID(dir))
	}
	if code, said := second.end(syscall.SIGINT); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func notified(t *testing.T, manager *net.UnixConn, want string) {
	t.Helper()
	_ = manager.SetReadDeadline(time.Now().Add(patience))
	message := make([]byte, 100)
	n, err := manager.Read(message)
	if err != nil || string(message[:n]) != want {
		t.Errorf("notified of %q, %v; want %q", message[:n], err, want)
	}
}

// A second server is kept out of the data directory, with the way out.
func TestServeTwice(t *testing.T) {
	dir := t.TempDir()
	opened, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	got := shipgate(t.Context(), nil, "", "serve", "--data", dir, "--listen", "127.0.0.1:0", "--public-addr", "127.0.0.1:0")
	if got.code != exitUsage || !strings.Contains(got.stderr, "another shipgate server uses "+dir) || !strings.Contains(got.stderr, "hint:") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
}

// What the server is to listen on is taken.
func TestServeOnATakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := shortDir(t)
	code, said := startServer(t, dir, nil, "--listen", taken.Addr().String()).end(0)
	if code != exitErrored || !strings.Contains(said, "listen on "+taken.Addr().String()) {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func TestPlainHTTPIsNoted(t *testing.T) {
	for listen, noted := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		s := startServer(t, shortDir(t), nil, "--listen", listen, "--log-format", "json")
		s.ready(t)
		_, said := s.end(syscall.SIGTERM)
		if strings.Contains(said, "unencrypted") != noted || !strings.Contains(said, `{"time":`) {
			t.Errorf("%s:\n%s", listen, said)
		}
	}
}
