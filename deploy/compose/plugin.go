package compose

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	lastLines = 50               // of a service that failed, and of the plugin's own
	endWithin = 10 * time.Second // the plugin, when it is asked to
	longLine  = 64 << 10         // bytes; what is longer is cut into several
)

// plugin is the program docker-compose of the Docker Compose plugin.
type plugin struct {
	path string
	env  []string
}

// pluginFolders are where the docker command looks: https://docs.docker.com/compose/install/linux/
func pluginFolders(getenv func(string) string) []string {
	folders := []string{}
	if config := getenv("DOCKER_CONFIG"); config != "" {
		folders = append(folders, filepath.Join(config, "cli-plugins"))
	}
	if home := getenv("HOME"); home != "" {
		folders = append(folders, filepath.Join(home, ".docker", "cli-plugins"))
	}
	return append(folders, "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
		"/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins", "/Applications/Docker.app/Contents/Resources/cli-plugins")
}

// findPlugin gives the first program that says it is version 2 or later, and that version.
func findPlugin(ctx context.Context, getenv func(string) string) (found plugin, version string, err error) {
	candidates := []string{}
	if said := getenv("SHIPGATE_COMPOSE"); said != "" {
		candidates = append(candidates, said)
	} else {
		if path, err := exec.LookPath("docker-compose"); err == nil {
			candidates = append(candidates, path)
		}
		for _, folder := range pluginFolders(getenv) {
			candidates = append(candidates, filepath.Join(folder, "docker-compose"))
		}
	}
	missing := store.Problemf(store.CodeErrored, "the Docker Compose plugin, version 2 or later, is not on this host")
	for _, path := range candidates {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		found = plugin{path: path, env: pluginEnv(getenv)}
		output, err := found.output(ctx, "version", "--short")
		if ctx.Err() != nil {
			return plugin{}, "", ctx.Err()
		}
		version := strings.TrimPrefix(strings.TrimSpace(string(output)), "v")
		if major, _, _ := strings.Cut(version, "."); err == nil && recent(major) {
			return found, version, nil
		}
		missing = store.Problemf(store.CodeErrored, "%s is not the Docker Compose plugin of version 2 or later: it says %q", path, version)
	}
	return plugin{}, "", missing.WithHint("sudo apt-get install docker-compose-plugin # or name one in SHIPGATE_COMPOSE")
}

// recent takes "dev", which is what a plugin says that was built from source.
func recent(major string) bool {
	number, err := strconv.Atoi(major)
	return major == "dev" || err == nil && number >= 2
}

// pluginEnv is what the plugin needs to reach the engine, and nothing else of the server's environment.
func pluginEnv(getenv func(string) string) []string {
	env := []string{"COMPOSE_PROGRESS=plain", "COMPOSE_ANSI=never", "COMPOSE_MENU=false", "COMPOSE_BAKE=false", "COMPOSE_IGNORE_ORPHANS=true", "NO_COLOR=1"}
	for _, name := range []string{"HOME", "PATH", "DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION", "SSH_AUTH_SOCK"} {
		if value := getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	if getenv("DOCKER_HOST") == "" { // the server's own choice; a docker context would be another one
		env = append(env, "DOCKER_HOST=unix:///var/run/docker.sock")
	}
	return env
}

// run runs the plugin and hands on what it writes, line by line. It is killed with ctx, and, on Linux, with the server.
func (p plugin) run(ctx context.Context, stdin []byte, line func(string), args ...string) error {
	command := exec.CommandContext(ctx, p.path, args...)
	command.Env = p.env
	command.Dir = os.TempDir()
	command.Stdin = bytes.NewReader(stdin)
	command.WaitDelay = endWithin
	separate(command)
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	var reading sync.WaitGroup
	reading.Go(func() { eachLine(reader, line) })
	ended := make(chan error, 1)
	go func() {
		// Linux ends the plugin with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- command.Run()
	}()
	err := <-ended
	writer.Close()
	reading.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func eachLine(from io.Reader, line func(string)) {
	reader := bufio.NewReaderSize(from, longLine)
	for {
		read, _, err := reader.ReadLine()
		if err != nil {
			return
		}
		line(string(read))
	}
}

// output runs the plugin and gives what it writes to its standard output.
func (p plugin) output(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, p.path, args...)
	command.Env = p.env
	command.Dir = os.TempDir()
	command.WaitDelay = endWithin
	var said, complained bytes.Buffer
	command.Stdout, command.Stderr = &said, &complained
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(complained.String()))
	}
	return said.Bytes(), nil
}
