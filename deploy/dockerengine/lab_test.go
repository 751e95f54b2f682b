package dockerengine

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

const patience = time.Minute

// lab is a server id of its own on the real engine. What it makes goes with the test.
type lab struct {
	*Engine
	image string
	given int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	docker := dockerClient(t, "")
	if _, err := docker.Ping(t.Context()); err != nil {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatal("no Docker engine answers: ", err)
		}
		t.Skip("NOT TESTED, no Docker engine answers: ", err)
	}
	l := &lab{Engine: newEngine(t, docker, "test"+strings.ToLower(rand.Text()))}
	t.Cleanup(func() { // runs after the removal of containers and images
		if err := l.RemoveNetwork(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	l.image = l.makeImage(t)
	return l
}

func newEngine(t *testing.T, docker *client.Client, serverID string) *Engine {
	t.Helper()
	e := New(Options{Docker: docker, ServerID: serverID, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() { e.Close() })
	return e
}

// dockerClient talks to the engine of the environment, or to another unix socket.
func dockerClient(t *testing.T, socket string) *client.Client {
	t.Helper()
	options := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if socket != "" {
		options = append(options, client.WithHost("unix://"+socket))
	}
	docker, err := client.NewClientWithOpts(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	return docker
}

// makeImage imports the testapp; changes are lines of a Dockerfile.
func (l *lab) makeImage(t *testing.T, changes ...string) string {
	t.Helper()
	return l.importImage(t, enginetest.RootFS(t), append([]string{`ENTRYPOINT ["/testapp"]`}, changes...)...)
}

func (l *lab) importImage(t *testing.T, rootFS []byte, changes ...string) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	changes = append([]string{"LABEL " + store.LabelData + "=" + l.serverID}, changes...)
	source := image.ImportSource{SourceName: "-", Source: bytes.NewReader(rootFS)}
	stream, err := l.docker.ImageImport(ctx, source, "", image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var answer struct {
		Status string
		Error  string
	}
	if err := json.NewDecoder(stream).Decode(&answer); err != nil || answer.Error != "" {
		t.Fatalf("import image: %v %s", err, answer.Error)
	}
	t.Cleanup(func() {
		if _, err := l.docker.ImageRemove(ctx, answer.Status, image.RemoveOptions{}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return answer.Status
}

func (l *lab) app() string { return "lab" + l.serverID[4:12] }

// volume names the app's volume "data", which goes after the containers of the specs that are made next.
func (l *lab) volume(t *testing.T) string {
	t.Helper()
	name := store.VolumeName(l.serverID, l.app(), "data")
	t.Cleanup(func() {
		if err := l.docker.VolumeRemove(context.WithoutCancel(t.Context()), name, false); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return name
}

// spec makes the next deployment of the lab's app.
func (l *lab) spec(t *testing.T, env ...string) store.ContainerSpec {
	t.Helper()
	pool, err := l.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.given++
	spec := store.ContainerSpec{
		Name: store.ContainerName(l.serverID, l.app(), int64(l.given)), App: l.app(), Deployment: int64(l.given), Image: l.image,
		Env: append([]string{"PORT=8080"}, env...), Port: 8080,
		Address: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", pool.FirstPort+l.given)),
	}
	if pool.Subnet.IsValid() {
		address := pool.Subnet.Addr().As4()
		address[3] = byte(100 + l.given)
		spec.Address = netip.AddrPortFrom(netip.AddrFrom4(address), 8080)
	}
	t.Cleanup(func() {
		if err := l.Remove(context.WithoutCancel(t.Context()), spec.Name); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return spec
}

func (l *lab) start(t *testing.T, spec store.ContainerSpec) container.InspectResponse {
	t.Helper()
	if err := l.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return l.state(t, spec)
}

func (l *lab) state(t *testing.T, spec store.ContainerSpec) container.InspectResponse {
	t.Helper()
	found, err := l.docker.ContainerInspect(t.Context(), spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (l *lab) watch(t *testing.T, name string) <-chan store.ContainerEvent {
	t.Helper()
	events, err := l.Watch(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func next(t *testing.T, events <-chan store.ContainerEvent) store.ContainerEvent {
	t.Helper()
	select {
	case event, open := <-events:
		if !open {
			t.Fatal("the watch ended")
		}
		return event
	case <-time.After(patience):
		t.Fatal("nothing reported")
	}
	return store.ContainerEvent{}
}

// foreign runs a container that is not this lab's.
func (l *lab) foreign(t *testing.T, name string) (untouched func() bool) {
	t.Helper()
	return l.run(t, name, &container.Config{Image: l.image, Labels: map[string]string{store.LabelData: l.serverID + "-foreign"}})
}

// imitation runs a container of another name from an image with all labels of the spec's container.
func (l *lab) imitation(t *testing.T, of store.ContainerSpec, name string) (untouched func() bool) {
	t.Helper()
	return l.run(t, name, &container.Config{Image: of.Image, Labels: l.containerLabels(of)})
}

// run runs a container as somebody else does.
func (l *lab) run(t *testing.T, name string, config *container.Config) (untouched func() bool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	created, err := l.docker.ContainerCreate(ctx, config, &container.HostConfig{NetworkMode: "none"}, nil, nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.docker.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	if err := l.docker.ContainerStart(ctx, created.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		found, err := l.docker.ContainerInspect(ctx, created.ID)
		return err == nil && found.State.Running && found.RestartCount == 0
	}
}

// get asks the app until it answers.
func get(t *testing.T, address netip.AddrPort, path string) (answer string) {
	t.Helper()
	eventually(t, "an answer from "+address.String(), func() bool {
		response, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + address.String() + path)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answer = strings.TrimSpace(string(body))
		return err == nil
	})
	return answer
}

// ask makes one request and does not mind that the app ends over it.
func ask(address netip.AddrPort, path string) {
	response, err := http.Get("http://" + address.String() + path)
	if err == nil {
		response.Body.Close()
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for ", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func wantProblem(t *testing.T, err error, code store.Code, words ...string) {
	t.Helper()
	problem, ok := store.AsProblem(err)
	if !ok || problem.Code != code {
		t.Fatalf("got %v, want a problem %s", err, code)
	}
	t.Logf("%s: %s · %s", problem.Code, problem.Message, cmp.Or(problem.Hint, "no hint"))
	for _, word := range words {
		if !strings.Contains(problem.Message+problem.Hint, word) {
			t.Errorf("%q with hint %q does not say %q", problem.Message, problem.Hint, word)
		}
	}
}
