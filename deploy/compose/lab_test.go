package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/deploy/dockerengine"
	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

const patience = time.Minute

// lab is a server id of its own on the real engine, with the real plugin. What it makes goes with the test.
type lab struct {
	*Stacks
	docker *client.Client
	engine *dockerengine.Engine
	server string
	dir    string // the stacks folder
	image  string
	plugin string
	given  int
}

// realPlugin gives the plugin that the script builds, or the one of the environment.
func realPlugin(t *testing.T) string {
	t.Helper()
	if said := os.Getenv("SHIPGATE_COMPOSE"); said != "" {
		return said
	}
	command := exec.Command(filepath.Join("..", "..", "scripts", "compose.sh"))
	command.Stderr = t.Output()
	path, err := command.Output()
	if err != nil {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatal("no Compose plugin: ", err)
		}
		t.Skip("NOT TESTED, there is no Compose plugin: ", err)
	}
	return strings.TrimSpace(string(path))
}

func newLab(t *testing.T) *lab {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	if _, err := docker.Ping(t.Context()); err != nil {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatal("no Docker engine answers: ", err)
		}
		t.Skip("NOT TESTED, no Docker engine answers: ", err)
	}
	l := &lab{docker: docker, server: "test" + strings.ToLower(rand.Text()), dir: t.TempDir()}
	l.engine = dockerengine.New(dockerengine.Options{Docker: docker, ServerID: l.server})
	t.Cleanup(func() { l.engine.Close() })
	t.Cleanup(func() { l.cleanUp(t) })
	l.plugin = realPlugin(t)
	l.Stacks = New(l.options(l.plugin))
	l.image = l.makeImage(t)
	return l
}

func (l *lab) options(plugin string) Options {
	return Options{
		ServerID: l.server, Engine: l.engine,
		Getenv: func(name string) string {
			if name == "SHIPGATE_COMPOSE" {
				return plugin
			}
			return os.Getenv(name)
		},
	}
}

// cleanUp removes all that carries the lab's label.
func (l *lab) cleanUp(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	mine := filters.NewArgs(filters.Arg("label", store.LabelData+"="+l.server))
	containers, err := l.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: mine})
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
	for _, one := range containers {
		if err := l.docker.ContainerRemove(ctx, one.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}
	networks := exec.Command("docker", "network", "ls", "-q", "--filter", "label="+store.LabelData+"="+l.server)
	if found, err := networks.Output(); err == nil {
		for network := range strings.FieldsSeq(string(found)) {
			if err := l.docker.NetworkRemove(ctx, network); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	}
	volumes, err := l.docker.VolumeList(ctx, volume.ListOptions{Filters: mine})
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
	for _, one := range volumes.Volumes {
		if err := l.docker.VolumeRemove(ctx, one.Name, false); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}
	if _, err := l.docker.ImageRemove(ctx, l.image, image.RemoveOptions{Force: true}); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

// makeImage imports the testapp.
func (l *lab) makeImage(t *testing.T) string {
	t.Helper()
	changes := []string{`ENTRYPOINT ["/testapp"]`, "LABEL shipgate-test=" + l.server}
	source := image.ImportSource{SourceName: "-", Source: bytes.NewReader(enginetest.RootFS(t))}
	stream, err := l.docker.ImageImport(t.Context(), source, "", image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var answer struct{ Status, Error string }
	if err := json.NewDecoder(stream).Decode(&answer); err != nil || answer.Error != "" {
		t.Fatalf("import image: %v %s", err, answer.Error)
	}
	return answer.Status
}

func (l *lab) app() string { return "lab" + l.server[4:12] }

// files are what a commit has, by path.
type files map[string]string

func (f files) with(changes files) files {
	changed := maps.Clone(f)
	maps.Copy(changed, changes)
	return changed
}

func write(t testing.TB, dir string, commit files) {
	t.Helper()
	for name, content := range commit {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, link := strings.CutPrefix(content, "-> "); link {
			if err := os.Symlink(target, at); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// spec puts a release's files in place, as the build does. All services have the lab's image.
func (l *lab) spec(t *testing.T, app string, deployment int64, commit files, env map[string]string) store.StackSpec {
	t.Helper()
	config := &store.ComposeConfig{}
	l.given++
	dir := filepath.Join(l.dir, app, fmt.Sprintf("%d-%d", deployment, l.given))
	write(t, filepath.Join(dir, store.StackCheckout), commit)
	spec := store.StackSpec{
		App: app, Deployment: deployment, Container: store.ContainerName(l.server, app, deployment), Dir: dir, Data: filepath.Join(l.dir, app, "data"), Config: config, Env: env,
		Address: l.address(t), Port: 8080, Wait: patience,
	}
	l.route(t, spec, "web")
	return spec
}

// route says which service of a release gets the requests.
func (l *lab) route(t *testing.T, spec store.StackSpec, service string) {
	t.Helper()
	built := store.BuiltStack{Routed: service, Port: spec.Port, Images: map[string]string{}}
	for _, name := range []string{"web", "db", "b-db"} {
		built.Images[name] = l.image
	}
	content, err := json.Marshal(built)
	if err != nil {
		t.Fatal(err)
	}
	write(t, spec.Dir, files{store.StackImages: string(content)})
}

func (l *lab) address(t *testing.T) netip.AddrPort {
	t.Helper()
	pool, err := l.engine.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.given++
	if !pool.Subnet.IsValid() {
		return netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", pool.FirstPort+l.given))
	}
	address := pool.Subnet.Addr().As4()
	address[3] = byte(100 + l.given)
	return netip.AddrPortFrom(netip.AddrFrom4(address), 8080)
}

func (l *lab) up(t *testing.T, spec store.StackSpec) string {
	t.Helper()
	log, err := l.try(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return log
}

func (l *lab) try(ctx context.Context, spec store.StackSpec) (string, error) {
	var log strings.Builder
	err := l.Up(ctx, spec, func(line string) { log.WriteString(line + "\n") })
	return log.String(), err
}

// service gives the one container of a service.
func (l *lab) service(t *testing.T, app, name string) container.InspectResponse {
	t.Helper()
	found := l.containersOf(t, app, name)
	if len(found) != 1 {
		t.Fatalf("service %s has %d containers", name, len(found))
	}
	inspected, err := l.docker.ContainerInspect(t.Context(), found[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return inspected
}

func (l *lab) containersOf(t *testing.T, app, name string) []container.Summary {
	t.Helper()
	labels := filters.NewArgs(filters.Arg("label", "com.docker.compose.project="+l.projectName(app)))
	if name != "" {
		labels.Add("label", "com.docker.compose.service="+name)
	}
	found, err := l.docker.ContainerList(t.Context(), container.ListOptions{All: true, Filters: labels})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// get asks the app until it answers.
func get(t *testing.T, address netip.AddrPort, path string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		response, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + address.String() + path)
		if err == nil {
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			return strings.TrimSpace(string(body))
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer from %s: %v", address, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freePort gives a loopback port that nobody listens on.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}
