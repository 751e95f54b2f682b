package enginetest

import (
	"context"
	"net"
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

// OwnEngine is a Docker engine that a test made itself, so that it may kill it.
type OwnEngine struct {
	dir     string
	wrapper []string
	command *exec.Cmd
	starts  int
}

// StartOwnEngine starts an engine. It takes over the network namespace that it runs in: the wrapper is the start of a command
// line that gives it one of its own, such as "unshare --net".
func StartOwnEngine(t *testing.T, wrapper ...string) *OwnEngine {
	t.Helper()
	for _, program := range []string{"dockerd", "unshare", "ip"} {
		if _, err := exec.LookPath(program); os.Geteuid() != 0 || err != nil {
			t.Skip("NOT TESTED: this needs root, dockerd, unshare and ip: ", err)
		}
	}
	dir, err := os.MkdirTemp("", "own-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &OwnEngine{dir: dir, wrapper: wrapper}
	t.Cleanup(e.remove)
	e.Start(t)
	return e
}

// Socket returns the path of the engine's socket.
func (e *OwnEngine) Socket() string { return filepath.Join(e.dir, "docker.sock") }

// Start starts the engine, again after Kill, and returns when it answers.
func (e *OwnEngine) Start(t *testing.T) {
	t.Helper()
	script := `ip link set lo up; exec dockerd --data-root "$0/data" --exec-root "$0/run" --pidfile "$0/docker.pid" -H "unix://$0/docker.sock" >>"$0/log" 2>&1`
	line := append(append([]string{}, e.wrapper...), "sh", "-c", script, e.dir)
	e.command = exec.Command(line[0], line[1:]...)
	e.command.Env = append(os.Environ(), "DOCKER_HOST=")
	if err := e.command.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond) // nothing tells when a socket that is not there yet answers
	defer tick.Stop()
	for deadline := time.Now().Add(2 * patience); !e.answers(); <-tick.C {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			if e.starts > 0 {
				t.Fatalf("the engine does not start again:\n%s", log)
			}
			t.Skipf("NOT TESTED: a second engine does not start here:\n%s", log)
		}
	}
	e.starts++
}

func (e *OwnEngine) answers() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.Socket())
		},
	}}
	response, err := client.Get("http://engine/_ping")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Kill kills the engine, and the containerd that it leaves. Containers run on until the next start.
func (e *OwnEngine) Kill() {
	e.end(syscall.SIGKILL)
	e.endContainerd()
}

func (e *OwnEngine) end(signal syscall.Signal) {
	_ = e.command.Process.Signal(signal)
	_ = e.command.Wait()
}

// endContainerd also removes what would make the next engine wait for this one.
func (e *OwnEngine) endContainerd() {
	file := filepath.Join(e.dir, "run", "containerd", "containerd.pid")
	if text, err := os.ReadFile(file); err == nil {
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		name, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
		if strings.TrimSpace(string(name)) == "containerd" { // the number may be another process's by now
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = os.Remove(file)
	_ = os.Remove(filepath.Join(e.dir, "docker.pid"))
}

func (e *OwnEngine) remove() {
	e.end(syscall.SIGTERM)
	e.endContainerd()
	_ = exec.Command("sh", "-c", `grep " $0/" /proc/mounts | cut -d" " -f2 | xargs -r umount -l`, e.dir).Run()
	_ = os.RemoveAll(e.dir)
}
