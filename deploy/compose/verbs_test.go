package compose

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/store"
)

const stateful = `
services:
  web:
    image: web
    environment: {APP_VERSION: "${VERSION}", PORT: "8080"}
    expose: [8080]
    ports: ["80:8080"]
    container_name: mine
  db:
    image: db
    environment: {PORT: "5432"}
    volumes:
      - "data:/data"
      - "./init.sql:/init.sql"
      - "./conf:/conf"
      - "./made:/made"
    secrets: [key, file]
secrets:
  key: {environment: KEY}
  file: {file: ./init.sql}
volumes: {data: {}}
`

var statefulCommit = files{"compose.yaml": stateful, "init.sql": "CREATE", "conf/a/b": "c"}

// A deploy of the web service leaves the database alone: its mounts have the same places, its volumes their content.
func TestUnchangedServicesGoOn(t *testing.T) {
	l := newLab(t)
	up := func(deployment int64, commit files, version string) store.StackSpec {
		spec := l.spec(t, l.app(), deployment, commit, map[string]string{"VERSION": version, "KEY": "k$ecret"})
		l.up(t, spec)
		if answer := get(t, spec.Address, "/"); answer != version {
			t.Fatalf("it answers %q, want %q", answer, version)
		}
		return spec
	}
	first := up(1, statefulCommit, "one ${NOT} $$two")
	db := l.service(t, l.app(), "db")
	second := up(2, statefulCommit, "two")
	if again := l.service(t, l.app(), "db"); again.ID != db.ID || again.State.StartedAt != db.State.StartedAt {
		t.Error("the database was started again")
	}
	checkWeb(t, l, second)
	for _, mounted := range db.Mounts {
		if readOnly := mounted.Destination != "/data" && mounted.Destination != "/made"; mounted.RW == readOnly {
			t.Errorf("%s is mounted read-write %v", mounted.Destination, mounted.RW)
		}
	}
	if _, err := os.Stat(filepath.Join(first.Data, "made")); err != nil {
		t.Errorf("the app has no folder of its own: %v", err)
	}
	up(3, statefulCommit.with(files{"init.sql": "ALTER"}), "three")
	changed := l.service(t, l.app(), "db")
	if changed.ID == db.ID {
		t.Error("the database does not see that a file it mounts has changed")
	}
	if kept, err := os.ReadDir(filepath.Join(first.Data, contentFolder)); err != nil || len(kept) != 2 {
		t.Errorf("%d files are kept for mounts (%v), want 2", len(kept), err)
	}
	nothingSecretOnDisk(t, l.dir, "k$ecret")
	if err := l.Down(t.Context(), l.app()); err != nil {
		t.Fatal(err)
	}
	found, err := l.docker.VolumeInspect(t.Context(), l.projectName(l.app())+"_data")
	if err != nil || found.Labels[store.LabelData] != l.server || found.Labels[store.LabelApp] != l.app() {
		t.Errorf("the volume is gone or not ours: %v %v", found.Labels, err)
	}
}

// checkWeb holds the routed service to what the proxy and the engine's other verbs expect of it.
func checkWeb(t *testing.T, l *lab, spec store.StackSpec) {
	t.Helper()
	web := l.service(t, l.app(), "web")
	if web.Name != "/"+spec.Container {
		t.Errorf("it is called %s", web.Name)
	}
	if len(web.HostConfig.PortBindings) > 0 {
		t.Errorf("it is published: %v", web.HostConfig.PortBindings)
	}
	if web.HostConfig.LogConfig.Type != "local" || len(web.HostConfig.SecurityOpt) != 1 {
		t.Errorf("log %v, security %v", web.HostConfig.LogConfig, web.HostConfig.SecurityOpt)
	}
	for _, name := range []string{"web", "db"} {
		labels := l.service(t, l.app(), name).Config.Labels
		deployment := ""
		if name == "web" {
			deployment = "2"
		}
		for label, wanted := range map[string]string{
			store.LabelApp: l.app(), store.LabelData: l.server, store.LabelRole: string(store.RoleStack), store.LabelDeployment: deployment,
		} {
			if labels[label] != wanted {
				t.Errorf("%s has label %s=%q, want %q", name, label, labels[label], wanted)
			}
		}
	}
}

func nothingSecretOnDisk(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), secret) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVolumesSurvive(t *testing.T) {
	l := newLab(t)
	commit := files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}, volumes: ['data:/data']}}\nvolumes: {data: {}}"}
	first := l.spec(t, l.app(), 1, commit, nil)
	l.up(t, first)
	before := l.service(t, l.app(), "web").Mounts[0]
	if err := os.WriteFile(filepath.Join(before.Source, "kept"), []byte("kept"), 0o644); err != nil {
		t.Skip("NOT TESTED, the engine's volumes are not readable here: ", err)
	}
	if err := l.Down(t.Context(), l.app()); err != nil {
		t.Fatal(err)
	}
	second := l.spec(t, l.app(), 2, commit, nil)
	l.up(t, second)
	if got := get(t, second.Address, "/file?path=/data/kept"); got != "kept" {
		t.Errorf("the volume has %q", got)
	}
}

// What keeps a stack from coming up is said by the service that is to blame.
func TestFailuresAreExplained(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct{ services, says, logs string }{
		"exit": {"web: {image: x, depends_on: [db]}, db: {image: x, environment: {EXIT_CODE: '4', LOG_LINES: '200'}, expose: []}",
			"service db ended with exit code 4", "line 19"}, // of either stream: they are not in order with each other,
		"unhealthy": {"web: {image: x, environment: {HEALTH_STATUS: '500', LOG_LINES: '1'}, healthcheck: {test: [CMD, /testapp, probe], interval: 500ms, retries: 2}}",
			"service web is unhealthy", "line 1"},
		"never healthy": {"web: {image: x, environment: {HEALTH_STATUS: '500'}, healthcheck: {test: [CMD, /testapp, probe], interval: 500ms, retries: 1000}}",
			"service web is not healthy after 8 s", "listening"},
		"over":       {"web: {image: x, entrypoint: [/testapp, migrate]}", "service web ended with exit code 0, and it is the one that gets the requests", "(last 50 lines of web)"},
		"no command": {"web: {image: x, entrypoint: [/none]}", "the stack does not come up", "/none"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := l.spec(t, l.app(), 1, files{"compose.yaml": "services: {" + test.services + "}"}, nil)
			spec.Config.Service, spec.Wait, spec.Liveness = "web", 8*time.Second, 2*time.Second
			log, err := l.try(t.Context(), spec)
			problem, ok := store.AsProblem(err)
			if !ok || problem.Code != store.CodeFailed || !strings.Contains(problem.Message, test.says) || problem.Hint == "" {
				t.Errorf("got %v, want a failed Problem with a hint that says %q", err, test.says)
			}
			if !strings.Contains(log, test.logs) || strings.Contains(log, "line 1\n") && name == "exit" {
				t.Errorf("the log does not end with the service's last lines:\n%s", log)
			}
			if err := l.Down(t.Context(), l.app()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A service that the file no longer has goes.
func TestOrphansAreRemoved(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": twoServices}, nil)
	spec.Config.Service = "web"
	l.up(t, spec)
	l.up(t, l.spec(t, l.app(), 2, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}}"}, nil))
	if left := l.containersOf(t, l.app(), "db"); len(left) != 0 {
		t.Error("the service that was taken out of the file is still there")
	}
}

// A published loopback port is where the proxy dials on hosts that cannot reach the bridge.
func TestLoopbackAddress(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}}"}, nil)
	spec.Address = freePort(t)
	l.up(t, spec)
	if answer := get(t, spec.Address, "/healthz"); answer != "OK" {
		t.Errorf("it answers %q", answer)
	}
	other := l.spec(t, l.app()+"-b", 1, files{"compose.yaml": "services: {web: {image: x}}"}, nil)
	other.Address = spec.Address
	_, err := l.try(t.Context(), other)
	if problem, ok := store.AsProblem(err); !ok || problem.Code != store.CodeErrored {
		t.Errorf("a port that is taken gives %v", err)
	}
}

func TestMissingPlugin(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, files{"old": "#!/bin/sh\necho 1.29.2\n", "odd": "#!/bin/sh\nexit 1\n", "new": "#!/bin/sh\necho v2.40.3\n",
		".docker/cli-plugins/docker-compose": "#!/bin/sh\necho 5.0.1\n", "empty/x": ""})
	for _, program := range []string{"old", "odd", "new", ".docker/cli-plugins/docker-compose"} {
		if err := os.Chmod(filepath.Join(folder, program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		env     map[string]string
		version string
	}{
		"missing":  {env: map[string]string{"SHIPGATE_COMPOSE": filepath.Join(folder, "none")}},
		"version1": {env: map[string]string{"SHIPGATE_COMPOSE": filepath.Join(folder, "old")}},
		"no word":  {env: map[string]string{"SHIPGATE_COMPOSE": filepath.Join(folder, "odd")}},
		"folder":   {env: map[string]string{"SHIPGATE_COMPOSE": folder}},
		"named":    {env: map[string]string{"SHIPGATE_COMPOSE": filepath.Join(folder, "new")}, version: "2.40.3"},
		"home":     {env: map[string]string{"HOME": folder}, version: "5.0.1"},
		"config":   {env: map[string]string{"DOCKER_CONFIG": filepath.Join(folder, ".docker")}, version: "5.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", filepath.Join(folder, "empty"))
			test.env["PATH"] = "/bin:/usr/bin"
			stacks := New(Options{Getenv: func(name string) string { return test.env[name] }})
			version, err := stacks.Version(t.Context())
			if test.version != "" {
				if version != test.version || err != nil {
					t.Errorf("version %q, %v", version, err)
				}
				return
			}
			problem, ok := store.AsProblem(err)
			if !ok || problem.Code != store.CodeErrored || !strings.Contains(problem.Hint, "docker-compose-plugin") {
				t.Errorf("it says %v", err)
			}
		})
	}
}

// What Compose made goes also where the plugin is missing by now.
func TestStopAndDownNeedNoPlugin(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}}"}, nil)
	spec.Config.Service = "web"
	l.up(t, spec)
	stacks := New(l.options(filepath.Join(t.TempDir(), "none")))
	for name, verb := range map[string]func(context.Context, string) error{"stop": stacks.Stop, "down": stacks.Down} {
		if err := verb(t.Context(), spec.App); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := l.containersOf(t, spec.App, "web"); len(left) > 0 {
		t.Errorf("%d containers are left", len(left))
	}
}

// The plugin knows where the engine is and nothing else of the server's environment.
func TestPluginEnvironment(t *testing.T) {
	env := strings.Join(pluginEnv(func(name string) string {
		return map[string]string{"HOME": "/home/x", "SECRET": "s", "COMPOSE_FILE": "f"}[name]
	}), "\n")
	if !strings.Contains(env, "DOCKER_HOST=unix:///var/run/docker.sock") || !strings.Contains(env, "HOME=/home/x") {
		t.Errorf("the plugin has no way to the engine: %s", env)
	}
	if strings.Contains(env, "SECRET") || strings.Contains(env, "COMPOSE_FILE") {
		t.Errorf("the plugin is told too much: %s", env)
	}
}

func TestEngineIsAway(t *testing.T) {
	docker, err := client.NewClientWithOpts(client.WithHost("unix:///nowhere.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	engine := dockerengine.New(dockerengine.Options{Docker: docker, ServerID: "x"})
	defer engine.Close()
	stacks := New(Options{ServerID: "x", Engine: engine, Getenv: func(name string) string {
		return map[string]string{"SHIPGATE_COMPOSE": realPlugin(t), "DOCKER_HOST": "unix:///nowhere.sock", "HOME": t.TempDir(), "PATH": os.Getenv("PATH")}[name]
	}})
	problem, ok := store.AsProblem(stacks.Down(t.Context(), "shop"))
	if !ok || problem.Code != store.CodeErrored || problem.Hint == "" {
		t.Errorf("got %v", problem)
	}
}

// A Compose whose wait ends in the moment between two looks says that all is well.
func TestComposeThatDoesNotWaitIsNotBelieved(t *testing.T) {
	l := newLab(t)
	hasty := filepath.Join(t.TempDir(), "docker-compose")
	script := "#!/bin/sh\nfor word; do shift; case $word in --wait) ;; --wait-timeout) skip=1;; *) if [ -n \"$skip\" ]; then skip=; else set -- \"$@\" \"$word\"; fi;; esac; done\nexec '" + l.plugin + "' \"$@\"\n"
	if err := os.WriteFile(hasty, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	l.Stacks = New(l.options(hasty))
	for health, says := range map[string]string{"interval: 1h": "service web is not healthy after 8 s", "disable: true": ""} {
		spec := l.spec(t, l.app(), 1, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}, healthcheck: {test: [CMD, /testapp, probe], " + health + "}}}"}, nil)
		spec.Config.Service, spec.Wait = "web", 8*time.Second
		_, err := l.try(t.Context(), spec)
		if problem, _ := store.AsProblem(err); (says == "") != (err == nil) || says != "" && (problem == nil || problem.Message != says) {
			t.Errorf("%s: got %v, want %q", health, err, says)
		}
	}
}
