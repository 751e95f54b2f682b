// Package enginetest is the one contract both engines pass.
package enginetest

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Engine is the container verbs as the deployment runner needs them.
type Engine interface {
	Start(ctx context.Context, spec store.ContainerSpec) error
	Stop(ctx context.Context, name string, grace time.Duration) error
	Remove(ctx context.Context, name string) error
	List(ctx context.Context, app string) ([]store.Container, error)
	Watch(ctx context.Context, name string) (<-chan store.ContainerEvent, error)
	Diagnose(ctx context.Context, name string, logLines int) (store.Diagnosis, error)
	States(ctx context.Context, app string) ([]store.ContainerStatus, error)
	Changes(ctx context.Context) <-chan store.EngineChange
}

// Addresses says where addresses for new containers come from.
type Addresses interface {
	Pool(ctx context.Context) (store.AddressPool, error)
}

// Harness is an engine under test with what the contract needs around it.
type Harness struct {
	Engine    Engine
	Addresses Addresses
	ServerID  string // of the server that the engine works for
	Serving   string // image that serves HTTP at its start and writes a line
	Exiting   string // image that writes a line and exits with 3 at its start
	Missing   string // image id that is not there
	// Foreign puts a running container of somebody else's under this name, and says later whether it still runs.
	Foreign func(t *testing.T, name string) (untouched func() bool)
	// Imitation runs a container of another name that has all labels of the spec's, as one has that somebody started from
	// an image of ours, and says later whether it still runs.
	Imitation func(t *testing.T, of store.ContainerSpec, name string) (untouched func() bool)
	// Answers says whether the app at the address takes requests by now; it may wait for it.
	Answers func(t *testing.T, address netip.AddrPort) bool
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// Run holds an engine to the contract. Each part gets a Harness of its own.
func Run(t *testing.T, harness func(t *testing.T) Harness) {
	parts := []struct {
		name string
		part func(t *testing.T, c *contract)
	}{
		{"starting twice is starting once", startTwice},
		{"stop keeps the container and start runs it again at its address", stopAndStart},
		{"what is missing can be stopped and removed", missing},
		{"a removed container is forgotten", removed},
		{"list knows apps apart", listByApp},
		{"two deployments of one app coexist", coexist},
		{"a running container keeps its address from others", addressTaken},
		{"a foreign container is left alone", foreign},
		{"a container that inherited our labels is left alone", imitation},
		{"a name of another deployment is refused", otherDeployment},
		{"an image that is gone is the user's to deploy again", unknownImage},
		{"a dead context does nothing", deadContext},
		{"watch before start sees the exit code", watchBeforeStart},
		{"watch sees an end that happened before", watchAfterEnd},
		{"watch sees nothing wrong with what runs", watchRunning},
		{"watch sees stop and removal", watchStopAndRemove},
		{"watch knows similar names apart", watchSimilarNames},
		{"watch ends with its context", watchEnds},
		{"diagnosis of an exit", diagnoseExit},
		{"diagnosis of what runs", diagnoseRunning},
		{"diagnosis of what is gone", diagnoseGone},
		{"states of what runs and what was stopped", statesOfContainers},
		{"state of what exited", statesOfExit},
		{"changes are told", changesAreTold},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			p.part(t, &contract{Harness: harness(t), ctx: ctx, app: "c" + strings.ToLower(rand.Text()[:10])})
		})
	}
}

// contract is one part's view: a fresh app name, and the specs it made so far.
type contract struct {
	Harness
	ctx   context.Context
	app   string
	given int
}

// spec takes the next free address of the pool.
func (c *contract) spec(t *testing.T, deployment int64, image string) store.ContainerSpec {
	t.Helper()
	const port = 8080
	spec := store.ContainerSpec{
		Name: store.ContainerName(c.ServerID, c.app, deployment), App: c.app, Deployment: deployment,
		Image: image, Env: []string{"PORT=8080"}, Port: port, Address: c.address(t, port),
	}
	t.Cleanup(func() {
		if err := c.Engine.Remove(context.WithoutCancel(c.ctx), spec.Name); err != nil && !c.isForeign(err) {
			t.Errorf("clean up: %v", err)
		}
	})
	return spec
}

func (c *contract) isForeign(err error) bool { return strings.Contains(err.Error(), "left alone") }

func (c *contract) address(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	pool, err := c.Addresses.Pool(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.given++
	if !pool.Subnet.IsValid() {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(pool.FirstPort+c.given))
	}
	address := pool.Subnet.Addr().Next()
	for taken := 0; ; address = address.Next() {
		if address == pool.Gateway {
			continue
		}
		if taken++; taken == c.given {
			return netip.AddrPortFrom(address, port)
		}
	}
}

func (c *contract) start(t *testing.T, spec store.ContainerSpec) {
	t.Helper()
	if err := c.Engine.Start(c.ctx, spec); err != nil {
		t.Fatalf("start %s: %v", spec.Name, err)
	}
}

func (c *contract) stop(t *testing.T, spec store.ContainerSpec) {
	t.Helper()
	if err := c.Engine.Stop(c.ctx, spec.Name, 10*time.Second); err != nil {
		t.Fatalf("stop %s: %v", spec.Name, err)
	}
}

func (c *contract) remove(t *testing.T, spec store.ContainerSpec) {
	t.Helper()
	if err := c.Engine.Remove(c.ctx, spec.Name); err != nil {
		t.Fatalf("remove %s: %v", spec.Name, err)
	}
}

// listed gives the app's containers as name:running.
func (c *contract) listed(t *testing.T, app string) []string {
	t.Helper()
	containers, err := c.Engine.List(c.ctx, app)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, container := range containers {
		if container.App == c.app && container.Name != store.ContainerName(c.ServerID, c.app, container.Deployment) {
			t.Errorf("container %s is listed as of deployment %d", container.Name, container.Deployment)
		}
		state := "stopped"
		if container.Running {
			state = "running"
		}
		names = append(names, container.Name+" "+state)
	}
	return names
}

func (c *contract) expect(t *testing.T, wanted ...string) {
	t.Helper()
	if got := c.listed(t, c.app); !slices.Equal(got, wanted) {
		t.Fatalf("listed %q, want %q", got, wanted)
	}
}
