package compose

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/store"
)

// crashingServer has the test binary be a server that brings a stack up, until it is killed.
const crashingServer = "SHIPGATE_TEST_CRASHING_SERVER"

type crashing struct {
	Server, Plugin string
	Spec           store.StackSpec
}

func runCrashingServer() {
	var told crashing
	if err := json.Unmarshal([]byte(os.Getenv(crashingServer)), &told); err != nil {
		panic(err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		panic(err)
	}
	l := &lab{server: told.Server, engine: dockerengine.New(dockerengine.Options{Docker: docker, ServerID: told.Server})}
	err = New(l.options(told.Plugin)).Up(context.Background(), told.Spec, func(line string) { fmt.Println(line) })
	fmt.Println("came up:", err)
	os.Exit(0)
}

// killIn kills a server that brings the stack up as soon as the plugin says this.
func (l *lab) killIn(t *testing.T, spec store.StackSpec, moment string) {
	t.Helper()
	told, err := json.Marshal(crashing{Server: l.server, Plugin: l.plugin, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), crashingServer+"="+string(told))
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	seen := false
	for lines := bufio.NewScanner(output); !seen && lines.Scan(); {
		t.Log(lines.Text())
		seen = strings.Contains(lines.Text(), moment)
	}
	if !seen {
		t.Errorf("the plugin never said %q", moment)
	}
	if !strings.Contains(moment, "becomes") && plugins(t, spec) == 0 { // we are at work ourselves then
		t.Error("no plugin was at work")
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // it was killed
	for deadline := time.Now().Add(patience); plugins(t, spec) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the plugin outlives the server")
		}
	}
}

// plugins counts the processes that work on the app's stack.
func plugins(t *testing.T, spec store.StackSpec) (count int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		line, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(line), "\x00"+projectOf(spec)+"\x00") {
			count++
		}
	}
	return count
}

func TestKilledServer(t *testing.T) {
	compose := func(version string) files {
		return files{"compose.yaml": `
services:
  web:
    image: web
    environment: {APP_VERSION: "` + version + `", PORT: "8080"}
    depends_on: {db: {condition: service_healthy}}
  db:
    image: db
    environment: {PORT: "5432", APP_VERSION: "` + version + `", HEALTH_AFTER: 3s}
    healthcheck: {test: [CMD, /testapp, probe], interval: 500ms, retries: 100}
`}
	}
	for _, moment := range []string{"Creating", "Waiting", "Recreate", "Recreated"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			web := func(s store.StackSpec) store.StackSpec { s.Config.Service = "web"; return s }
			first := web(l.spec(t, l.app(), 1, compose("one"), nil))
			second := web(l.spec(t, l.app(), 2, compose("two"), nil))
			if strings.HasPrefix(moment, "Recreate") {
				l.up(t, first)
			}
			l.killIn(t, second, moment)
			l.up(t, second)
			if answer := get(t, second.Address, "/"); answer != "two" {
				t.Errorf("it answers %q", answer)
			}
			if all := l.containersOf(t, l.app(), ""); len(all) != 2 {
				t.Errorf("there are %d containers, want 2", len(all))
			}
			if running, err := l.Running(t.Context(), l.app(), 2); err != nil || !running {
				t.Errorf("it runs: %v (%v)", running, err)
			}
		})
	}
}

// The engine may make a network for a plugin that is dead by then, beside the one that the next plugin has made. Nothing
// starts on a name that is there twice.
func TestNetworkThatIsThereTwice(t *testing.T) {
	l := newLab(t)
	spec := func(deployment int64) store.StackSpec {
		return l.spec(t, l.app(), deployment, files{"compose.yaml": `{services: {web: {image: web, environment: {PORT: "8080"}}, db: {image: db}}}`}, nil)
	}
	for range 2 {
		l.makeNetwork(t, l.projectName(l.app())+"_default", map[string]string{
			store.LabelApp: l.app(), store.LabelData: l.server, store.LabelRole: string(store.RoleStack),
			"com.docker.compose.project": l.projectName(l.app()), "com.docker.compose.network": "default",
		})
	}
	foreign := l.makeNetwork(t, l.projectName(l.app())+"_default", map[string]string{store.LabelApp: l.app(), store.LabelData: "of somebody else"})
	defer func() {
		if err := l.docker.NetworkRemove(context.WithoutCancel(t.Context()), foreign); err != nil {
			t.Error(err)
		}
	}()
	if _, err := l.try(t.Context(), spec(1)); !errors.Is(err, errDoubleNetwork) {
		t.Errorf("with a network of somebody else under the same name: %v", err)
	}
	if _, err := l.docker.NetworkInspect(t.Context(), foreign, network.InspectOptions{}); err != nil {
		t.Fatalf("the network of somebody else: %v", err)
	}
	if err := l.docker.NetworkRemove(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	foreign = l.makeNetwork(t, l.projectName(l.app())+"_other", nil)
	l.makeNetwork(t, l.projectName(l.app())+"_default", map[string]string{store.LabelApp: l.app(), store.LabelData: l.server})
	l.up(t, spec(2))
	l.makeNetwork(t, l.projectName(l.app())+"_default", map[string]string{store.LabelApp: l.app(), store.LabelData: l.server})
	l.up(t, spec(3)) // the one that is used stays
}

// The engine may also make a container for a plugin that is dead by then, in the place of one that is there. The next plugin
// finds it up to date, and it keeps the name that it was to have until the other one was gone.
func TestContainerThatComesLate(t *testing.T) {
	l := newLab(t)
	spec := func(deployment int64, version string) store.StackSpec {
		return l.spec(t, l.app(), deployment, files{"compose.yaml": `{services: {web: {image: web, environment: {PORT: "8080", APP_VERSION: ` + version + `}}}}`}, nil)
	}
	l.up(t, spec(1, "one"))
	second := spec(2, "two")
	folder := t.TempDir()
	write(t, folder, files{"docker-compose": fmt.Sprintf(`#!/bin/sh
%s "$@" || exit
case "$*" in
*--no-start*) mkdir %s/late 2>/dev/null && docker rename %[3]s 0123456789ab_%[3]s || : ;;
esac
`, l.plugin, folder, second.Container)})
	l.Stacks = New(l.options(filepath.Join(folder, "docker-compose")))
	if err := os.Chmod(filepath.Join(folder, "docker-compose"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.up(t, second)
	if _, err := os.Stat(filepath.Join(folder, "late")); err != nil {
		t.Error("no container was late:", err)
	}
	if answer := get(t, second.Address, "/"); answer != "two" {
		t.Errorf("it answers %q", answer)
	}
	if web := l.service(t, l.app(), "web"); web.Name != "/"+second.Container {
		t.Errorf("the container is called %s", web.Name)
	}
}

// makeNetwork asks the engine without the check for doubles that clients add.
func (l *lab) makeNetwork(t *testing.T, name string, labels map[string]string) (id string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Name": name, "Labels": labels})
	if err != nil {
		t.Fatal(err)
	}
	engine := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(l.docker.DaemonHost(), "unix://"))
	}}}
	response, err := engine.Post("http://engine/v1.41/networks/create", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var made struct{ ID string }
	if err := json.NewDecoder(response.Body).Decode(&made); err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %v", response.Status, err)
	}
	return made.ID
}

// A plugin that writes nothing does not notice that nobody reads any more; the kernel ends it.
func TestSilentPluginEndsWithServer(t *testing.T) {
	l := newLab(t)
	folder := t.TempDir()
	write(t, folder, files{"docker-compose": `#!/bin/sh
case "$*" in
*version*) echo 2.40.3 ;;
*" up "*)
	echo Waiting
	while :; do sleep 1; done
	;;
esac
`})
	l.plugin = filepath.Join(folder, "docker-compose")
	if err := os.Chmod(l.plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	l.killIn(t, l.spec(t, l.app(), 1, files{"compose.yaml": "services: {web: {image: x}}"}, nil), "Waiting")
}

// The plugin ends when its deployment is cancelled, and a stack that was left half-way comes up later.
func TestCancelledUp(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": `
services:
  web:
    image: web
    environment: {PORT: "8080", HEALTH_AFTER: 5s}
    healthcheck: {test: [CMD, /testapp, probe], interval: 500ms, retries: 100}
`}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := l.Up(ctx, spec, func(line string) {
		if strings.Contains(line, "Starting") {
			cancel()
		}
	})
	if ctx.Err() == nil || err != context.Canceled {
		t.Fatalf("up says %v", err)
	}
	if plugins(t, spec) > 0 {
		t.Error("the plugin is still at work")
	}
	l.up(t, spec)
}

// projectOf returns the project that a container's name, shipgate-ID8.APP.N, belongs to.
func projectOf(spec store.StackSpec) string {
	server := strings.TrimPrefix(strings.Split(spec.Container, ".")[0], "shipgate-")
	return store.ProjectName(server, spec.App)
}
