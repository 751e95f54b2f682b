package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/proxy"
	"github.com/shipgate/shipgate/store"
)

// oldCommit is the last version before containers, volumes and the network got the names that they have now.
const oldCommit = "47a093d"

// oldServer builds that version from the repository's own history. Without paths in it, all of it comes from Go's cache the
// second time.
func oldServer(t *testing.T) (bin string) {
	t.Helper()
	dir := t.TempDir()
	script := `root=$(git rev-parse --show-toplevel) && git -C "$root" archive ` + oldCommit + ` | tar -x -C "$1" && cd "$1" && go build -trimpath -o bin/shipgate ./cmd/shipgate`
	if output, err := exec.Command("sh", "-c", script, "sh", dir).CombinedOutput(); err != nil {
		shallow, _ := exec.Command("git", "rev-parse", "--is-shallow-repository").Output()
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" && strings.TrimSpace(string(shallow)) != "true" {
			t.Fatalf("build %s: %v\n%s", oldCommit, err, output)
		}
		t.Skipf("NOT TESTED, THE UPGRADE FROM %s: its history is not here: %v\n%s", oldCommit, err, output)
	}
	return filepath.Join(dir, "bin")
}

// upgrade is a data directory that an old server began and a new one goes on with. Stacks have a test of their own in
// deploy/compose.
type upgrade struct {
	*killing
	newBin string
}

// TestUpgradeFromNamesWithoutServer has the old server killed in the midst of two deployments and the new one start on its
// data directory. Nothing may be lost on the way to the new names and the new network.
func TestUpgradeFromNamesWithoutServer(t *testing.T) {
	t.Parallel()
	requireEngine(t)
	u := newUpgrade(t)
	u.push(t, "keeper", "one", "MIGRATE_FILE=/data/migrations")
	u.push(t, "mid", "one", "A=b")
	u.push(t, "page", "one", "")
	for _, deployment := range []string{"1", "2", "3"} { // until then the old server removes what inherits its labels
		if err := u.server.await(deployment, "done"); err != nil {
			t.Fatal(err)
		}
	}
	foreign := u.foreign(t)
	loads := map[string]*loadRun{}
	for app, method := range map[string]string{"keeper": http.MethodPost, "mid": http.MethodPost, "page": http.MethodGet} {
		loads[app] = startLoad("http://"+u.server.public+"/", app+".localhost", method)
		t.Cleanup(func() { loads[app].stop() })
	}
	u.begin(t, "mid", "two", "HEALTH_TOLD=1", "mid-4")
	u.begin(t, "keeper", "two", "MIGRATE_FILE=/data/migrations MIGRATE_TOLD=1", "keeper-5-release")
	oldProxy := u.proxy(t)
	if oldProxy.Generation >= proxy.Generation {
		t.Fatalf("the old proxy is of generation %d, as new ones are", oldProxy.Generation)
	}
	if err := u.server.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.server.bin = u.newBin
	if err := u.server.start(); err != nil {
		t.Fatal(err)
	}
	if err := tellHealthy("mid-4"); err != nil {
		t.Fatal(err)
	}
	tellMigrated(t, "keeper-5-release")
	for _, deployment := range []string{"4", "5"} {
		if err := u.server.await(deployment, "done", "undone"); err != nil {
			t.Fatal(err)
		}
	}
	u.wantProxyReplaced(t, oldProxy)
	for _, app := range []string{"keeper", "mid", "page"} {
		u.answers(t, app, map[string]string{"keeper": "two", "mid": "two", "page": "one"}[app])
	}
	u.wantMigrations(t, "one", "two")
	u.wantNetwork(t, store.OldNetworkName(u.id()), true)
	for _, app := range []string{"keeper", "mid", "page"} {
		u.push(t, app, "three", "MIGRATE_FILE=/data/migrations")
		u.answers(t, app, "three")
	}
	u.wantMigrations(t, "one", "two", "three")
	for app, load := range loads {
		if report := load.stop(); !strings.HasSuffix(report, " failed=0") {
			t.Errorf("%s: %s", app, report)
		}
	}
	for _, deployment := range []string{"6", "7", "8"} {
		if err := u.server.await(deployment, "done"); err != nil {
			t.Fatal(err)
		}
	}
	u.must(t, "gc")
	u.wantLeft(t, foreign)
}

// tellMigrated has a release command that waits for it come to its end.
func tellMigrated(t *testing.T, container string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if exec.Command("docker", "kill", "--signal", "USR1", container).Run() != nil {
			return // it does not run any more
		}
	}
	t.Fatalf("%s does not end", container)
}

func newUpgrade(t *testing.T) *upgrade {
	t.Helper()
	dir := shortDir(t)
	u := &upgrade{newBin: programs(t)}
	u.killing = &killing{server: newServer(filepath.Join(dir, "data"), oldServer(t)), repository: filepath.Join(dir, "repository")}
	t.Cleanup(u.server.cleanUp)
	if err := u.server.launch(); err != nil {
		t.Fatal(err)
	}
	container := []string{"--source", "dockerfile", "--health", "/healthz"}
	u.create(t, "keeper", append(container, "--volume", "data:/data", "--release-command", "/testapp migrate")...)
	u.create(t, "mid", container...)
	u.create(t, "page", "--source", "static", "--publish-dir", "public")
	if err := os.MkdirAll(filepath.Join(u.repository, "public"), 0o755); err != nil {
		t.Fatal(err)
	}
	app, err := os.ReadFile(filepath.Join(u.newBin, "testapp"))
	if err == nil {
		err = os.WriteFile(filepath.Join(u.repository, "testapp"), app, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	u.git(t, "init", "-q", "-b", "main")
	return u
}

func (u *upgrade) id() string { return serverID(u.server.dir) }

func (u *upgrade) create(t *testing.T, app string, flags ...string) {
	t.Helper()
	u.must(t, append([]string{"app", "create", app, "--host", app + ".localhost"}, flags...)...)
}

// pushing commits a version for an app and returns the push.
func (u *upgrade) pushing(t *testing.T, app, version, env string) *exec.Cmd {
	t.Helper()
	dockerfile := fmt.Sprintf("FROM scratch\nCOPY testapp /testapp\nENV APP_VERSION=%s %s\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n", version, env)
	for name, content := range map[string]string{"Dockerfile": dockerfile, "public/index.html": version} {
		if err := os.WriteFile(filepath.Join(u.repository, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u.git(t, "add", "-A")
	u.git(t, "commit", "-q", "--allow-empty", "-m", app+" "+version)
	token, err := u.server.token()
	if err != nil {
		t.Fatal(err)
	}
	return u.gitCommand("push", "--force", "http://x:"+token+"@"+u.server.api+"/"+app+".git", "main")
}

func (u *upgrade) push(t *testing.T, app, version, env string) {
	t.Helper()
	if output, err := u.pushing(t, app, version, env).CombinedOutput(); err != nil {
		t.Fatalf("push %s to %s: %v\n%s\n%s", version, app, err, output, u.server.log.text())
	}
}

// begin pushes a version and returns when its container runs, while the deployment goes on.
func (u *upgrade) begin(t *testing.T, app, version, env, container string) {
	t.Helper()
	push := u.pushing(t, app, version, env)
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = push.Wait() })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		running, err := u.server.containers(app)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains("\n"+running, "\n"+container+" running") {
			return
		}
	}
	t.Fatalf("%s did not come to run:\n%s", container, u.server.log.text())
}

// foreign starts a container from an image of the server's, as somebody does who wants to look into it.
func (u *upgrade) foreign(t *testing.T) (name string) {
	t.Helper()
	name = "foreign-" + u.id()[:8]
	script := `docker run -d --name "$1" "$(docker inspect --format '{{.Image}}' keeper-1)"`
	if output, err := exec.Command("sh", "-c", script, "sh", name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
	return name
}

func (u *upgrade) get(t *testing.T, app, path string) string {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+u.server.public+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = app + ".localhost"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

func (u *upgrade) answers(t *testing.T, app, want string) {
	t.Helper()
	if got := u.get(t, app, "/"); got != want {
		t.Errorf("%s answers %q, want %q", app, got, want)
	}
}

func (u *upgrade) proxy(t *testing.T) proxy.Status {
	t.Helper()
	status, err := proxy.NewClient(u.server.dir).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// wantProxyReplaced waits until a new proxy has taken the place of the old one, at its address, and the old process has ended.
func (u *upgrade) wantProxyReplaced(t *testing.T, old proxy.Status) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		now := u.proxy(t)
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", old.PID))
		ended := err != nil || strings.Contains(string(state), ") Z ")
		if ended && now.PID != old.PID && now.Generation == proxy.Generation && now.PublicAddr == old.PublicAddr {
			t.Logf("proxy %d of generation %d has replaced proxy %d of generation %d", now.PID, now.Generation, old.PID, old.Generation)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the proxy is %+v, and was %+v; the old process has ended: %t\n%s", now, old, ended, u.server.log.text())
		}
	}
}

// wantMigrations looks into the volume: each release command ran once.
func (u *upgrade) wantMigrations(t *testing.T, versions ...string) {
	t.Helper()
	want := "migrated " + strings.Join(versions, "\nmigrated ")
	if got := u.get(t, "keeper", "/file?path=/data/migrations"); got != want {
		t.Errorf("the volume says %q, want %q", got, want)
	}
}

func (u *upgrade) wantNetwork(t *testing.T, name string, want bool) {
	t.Helper()
	err := exec.Command("docker", "network", "inspect", name).Run()
	if got := err == nil; got != want {
		t.Errorf("network %s is there: %t, want %t", name, got, want)
	}
}

// wantLeft looks at what carries the server's label in the end.
func (u *upgrade) wantLeft(t *testing.T, foreign string) {
	t.Helper()
	u.wantNetwork(t, store.OldNetworkName(u.id()), false)
	list := func(args ...string) []string {
		output, err := exec.Command("docker", append(args, "--filter", "label="+store.LabelData+"="+u.id())...).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(string(output))
		slices.Sort(lines)
		return lines
	}
	network := store.NetworkName(u.id())
	want := []string{
		foreign + ",bridge", store.ContainerName(u.id(), "keeper", 6) + "," + network, store.ContainerName(u.id(), "mid", 7) + "," + network,
	}
	if got := list("ps", "-a", "--format", "{{.Names}},{{.Networks}}"); !slices.Equal(got, want) {
		t.Errorf("containers %q, want %q", got, want)
	}
	if got := list("volume", "ls", "--format", "{{.Name}}"); !slices.Equal(got, []string{"shipgate-keeper-data"}) {
		t.Errorf("volumes %q", got)
	}
	if got := list("network", "ls", "--format", "{{.Name}}"); !slices.Equal(got, []string{network}) {
		t.Errorf("networks %q", got)
	}
}
