package dockerengine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// ownEngine is a Docker engine that the test made itself, in a network namespace of its own.
type ownEngine struct {
	dir     string
	command *exec.Cmd
}

func startOwnEngine(t *testing.T) *ownEngine {
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
	e := &ownEngine{dir: dir}
	t.Cleanup(e.remove)
	e.start(t)
	return e
}

func (e *ownEngine) socket() string { return filepath.Join(e.dir, "docker.sock") }

func (e *ownEngine) start(t *testing.T) {
	t.Helper()
	script := `ip link set lo up; exec dockerd --data-root "$0/data" --exec-root "$0/run" --pidfile "$0/docker.pid" -H "unix://$0/docker.sock" >>"$0/log" 2>&1`
	e.command = exec.Command("unshare", "--net", "sh", "-c", script, e.dir)
	e.command.Env = append(os.Environ(), "DOCKER_HOST=")
	if err := e.command.Start(); err != nil {
		t.Fatal(err)
	}
	docker := dockerClient(t, e.socket())
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		if _, err := docker.Ping(t.Context()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			t.Skipf("NOT TESTED: a second engine does not start here:\n%s", log)
		}
	}
}

func (e *ownEngine) end(signal syscall.Signal) {
	_ = e.command.Process.Signal(signal)
	_ = e.command.Wait()
}

// endContainerd ends the containerd that an engine leaves that was killed, and what would make the next one wait for it.
func (e *ownEngine) endContainerd() {
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

func (e *ownEngine) remove() {
	e.end(syscall.SIGTERM)
	e.endContainerd()
	_ = exec.Command("sh", "-c", `grep " $0/" /proc/mounts | cut -d" " -f2 | xargs -r umount -l`, e.dir).Run()
	_ = os.RemoveAll(e.dir)
}

// TestEngineKilled: the loss of the engine is told, and so is its return, after which what it ended is seen and starts again.
func TestEngineKilled(t *testing.T) {
	own := startOwnEngine(t)
	t.Setenv("DOCKER_HOST", "unix://"+own.socket())
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	spec := l.spec(t)
	spec.KeepRunning = true
	if err := l.Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	changes := l.Changes(ctx)
	told := func(lost bool) {
		t.Helper()
		for {
			select {
			case change, open := <-changes:
				if !open {
					t.Fatal("the engine tells no more")
				}
				if change.Lost == lost && change.App == "" {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nothing is told (lost: %t)", lost)
			}
		}
	}
	told(false)
	own.end(syscall.SIGKILL)
	own.endContainerd()
	told(true)
	own.start(t)
	told(false)
	states, err := l.States(ctx, spec.App)
	if err != nil || len(states) != 1 {
		t.Fatalf("states %+v, %v", states, err)
	}
	t.Logf("after the engine's return it is %s", states[0].State)
	if err := l.Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
	if states, err = l.States(ctx, spec.App); err != nil || states[0].State != store.RunRunning || !states[0].Keep {
		t.Errorf("states %+v, %v", states, err)
	}
}
