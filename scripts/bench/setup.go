package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// bench is one server of its own, in a directory of its own.
type bench struct {
	dir      string
	shipgate string
	docker   string // a docker command that builds with BuildKit
	server   *exec.Cmd
	api      string
	public   string
	doctor   doctor
}

// doctor is what the bench needs of `shipgate doctor --json`.
type doctor struct {
	ServerID string `json:"server_id"`
	ProxyPID int    `json:"proxy_pid"`
}

func newBench(ctx context.Context) (*bench, error) {
	dir, err := os.MkdirTemp("", "shipgate-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, shipgate: must(filepath.Abs("bin/shipgate")), docker: "docker"}
	if exec.Command("/usr/bin/docker", "version").Run() == nil {
		b.docker = "/usr/bin/docker" // Debian's builds with BuildKit without a plugin
	}
	if err := b.serve(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	text, _ := b.output(ctx, dir, b.shipgate, "doctor", "--json")
	if err := json.Unmarshal([]byte(text), &b.doctor); err != nil {
		return nil, fmt.Errorf("read doctor's report: %w", err)
	}
	return b, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// serve starts the server and waits for the line that says it is ready.
func (b *bench) serve(ctx context.Context) error {
	b.server = exec.CommandContext(ctx, b.shipgate, "serve", "--data", b.data(), "--listen", "127.0.0.1:0", "--public-addr", "127.0.0.1:0")
	log, err := b.server.StderrPipe()
	if err != nil {
		return err
	}
	if err := b.server.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, rest, ready := strings.Cut(lines.Text(), "public="); ready && strings.HasPrefix(lines.Text(), "ready ") {
			b.public = strings.Fields(rest)[0]
			b.api = strings.TrimPrefix(strings.Fields(lines.Text())[1], "api=")
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the server
			return nil
		}
		fmt.Fprintln(os.Stderr, lines.Text())
	}
	return errors.New("the server ended before it was ready")
}

func (b *bench) data() string { return filepath.Join(b.dir, "data") }

func (b *bench) environ() []string {
	return append(os.Environ(), "SHIPGATE_DATA="+b.data(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@localhost", "GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@localhost",
		"DOCKER_BUILDKIT=1", "DOCKER="+b.docker, "CGO_ENABLED=0")
}

// output runs a command and gives what it printed; the error holds all of it.
func (b *bench) output(ctx context.Context, dir, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = dir, b.environ()
	var stdout, all bytes.Buffer
	command.Stdout, command.Stderr = io.MultiWriter(&stdout, &all), &all
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, all.String())
	}
	return stdout.String(), nil
}

// timed runs a command and gives how long it took.
func (b *bench) timed(ctx context.Context, dir, name string, args ...string) (time.Duration, error) {
	began := time.Now()
	_, err := b.output(ctx, dir, name, args...)
	return time.Since(began), err
}

func (b *bench) git(ctx context.Context, dir string, args ...string) error {
	_, err := b.output(ctx, dir, "git", args...)
	return err
}

// createApp makes an app and a repository with its remote.
func (b *bench) createApp(ctx context.Context, repository, app string, flags ...string) error {
	text, err := b.output(ctx, b.dir, b.shipgate, append([]string{"app", "create", app}, flags...)...)
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(text, "git remote add shipgate ")
	if !found {
		return fmt.Errorf("app create printed no remote:\n%s", text)
	}
	if err := b.git(ctx, repository, "init", "-q", "-b", "main"); err != nil {
		return err
	}
	return b.git(ctx, repository, "remote", "add", "shipgate", strings.Fields(rest)[0])
}

func (b *bench) commit(ctx context.Context, repository, message string) error {
	if err := b.git(ctx, repository, "add", "-A"); err != nil {
		return err
	}
	return b.git(ctx, repository, "commit", "-q", "-m", message)
}

// cleanUp removes everything that carries the label of the bench's server.
func (b *bench) cleanUp(failed bool) {
	ctx := context.Background()
	for _, app := range []string{"hello", "crash", "site", "hook", "warm", "cold", "tree", "quiet", "noisy"} {
		_, _ = b.output(ctx, b.dir, b.shipgate, "app", "destroy", app, "--yes", "--with-data")
	}
	_ = b.server.Process.Signal(syscall.SIGTERM)
	_ = b.server.Wait()
	if b.doctor.ProxyPID > 0 {
		_ = syscall.Kill(b.doctor.ProxyPID, syscall.SIGTERM)
	}
	for _, script := range []string{
		`docker ps -aq --filter label=%s | xargs -r docker rm -f`,
		`docker image ls -q --filter label=%s | sort -u | xargs -r docker image rm -f`,
		`docker network ls -q --filter label=%s | xargs -r docker network rm`,
	} {
		_, _ = b.output(ctx, b.dir, "sh", "-c", fmt.Sprintf(script, "dev.shipgate.data="+b.doctor.ServerID))
	}
	_, _ = b.output(ctx, b.dir, "sh", "-c", `docker ps -aq --filter label=shipgate-bench-floor | xargs -r docker rm -f; docker image ls -aq --filter label=shipgate-bench-floor | sort -u | xargs -r docker image rm -f`)
	if !failed {
		_ = os.RemoveAll(b.dir)
	}
}
