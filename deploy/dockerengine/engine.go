// Package dockerengine is the container verbs on Docker.
package dockerengine

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// Options is what an Engine needs.
type Options struct {
	Docker   *client.Client // first used by the first verb: the engine may be absent until then
	ServerID string         // value of store.LabelData on everything of ours
	Policy   store.Policy   // which capabilities containers may have beyond the default
	// Adopt returns the containers that an earlier server made, names by id; nil where there are none. See store.Adopt.
	Adopt  func(ctx context.Context, find func(context.Context) ([]store.UnnamedContainer, error)) (map[string]string, error)
	Logger *slog.Logger // nil: the default one
}

// Engine runs containers on one Docker engine. It is safe for concurrent use.
type Engine struct {
	docker   *client.Client
	serverID string
	logger   *slog.Logger
	policy   store.Policy
	adopt    func(ctx context.Context, find func(context.Context) ([]store.UnnamedContainer, error)) (map[string]string, error)

	routes       func() ([]netip.Prefix, error) // what the host reaches already; a new subnet keeps clear of it
	bridgeFilter string                         // file of the kernel's setting

	adoption struct {
		sync.Mutex
		names map[string]string // by id; nil until it was asked for
	}
	network struct {
		sync.Mutex
		known network // zero until it was seen, and again when it was found missing
	}

	closing context.Context // ends with Close
	close   context.CancelFunc
	work    sync.WaitGroup
}

// New makes an Engine without talking to Docker.
func New(options Options) *Engine {
	e := &Engine{
		docker: options.Docker, serverID: options.ServerID, policy: options.Policy, adopt: options.Adopt, logger: options.Logger,
		routes: hostRoutes, bridgeFilter: bridgeFilter,
	}
	if e.logger == nil {
		e.logger = slog.Default()
	}
	e.closing, e.close = context.WithCancel(context.Background())
	return e
}

// Close ends all watches and waits for them. Containers are left as they are, and the Docker client open.
func (e *Engine) Close() error {
	e.close()
	e.work.Wait()
	return nil
}

// Ping says whether the engine answers: nil, or a Problem errored with the command that starts it.
func (e *Engine) Ping(ctx context.Context) error {
	_, err := e.docker.Ping(ctx)
	return e.explain("ping the Docker engine", err)
}

// List gives the containers of an app, or of all apps when it is empty, that this server made, by name.
func (e *Engine) List(ctx context.Context, app string) ([]store.Container, error) {
	labels := filters.NewArgs(filters.Arg("label", store.LabelData+"="+e.serverID))
	if app != "" {
		labels.Add("label", store.LabelApp+"="+app)
	}
	summaries, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: labels})
	if err != nil {
		return nil, e.explain("list containers", err)
	}
	if summaries, err = e.onlyOwned(ctx, summaries); err != nil {
		return nil, err
	}
	found := make([]store.Container, 0, len(summaries))
	for _, summary := range summaries {
		found = append(found, containerOf(summary))
	}
	slices.SortFunc(found, func(a, b store.Container) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func containerOf(summary container.Summary) store.Container {
	c := store.Container{
		App:     summary.Labels[store.LabelApp],
		Role:    store.Role(summary.Labels[store.LabelRole]),
		Running: summary.State == container.StateRunning,
		Health:  healthIn(summary.Status),
	}
	c.Name = nameOf(summary)
	// A label that is not a number was not written by us: the zero it reads as belongs to no deployment.
	c.Deployment, _ = strconv.ParseInt(summary.Labels[store.LabelDeployment], 10, 64)
	return c
}

// nameOf returns the container's own name. A link gives it more of them, with another container's in front.
func nameOf(summary container.Summary) string {
	for _, name := range summary.Names {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}

// healthIn reads the health out of a status such as "Up 3 seconds (health: starting)", which is the only place where
// the engine's list has it before API 1.52.
func healthIn(status string) string {
	for _, health := range []container.HealthStatus{container.Unhealthy, container.Healthy, container.Starting} {
		if strings.HasSuffix(status, "("+health+")") || strings.HasSuffix(status, "(health: "+health+")") {
			return health
		}
	}
	return ""
}

// inspect gives the container of this name when it is ours, nil when there is none, and a Problem when it is
// somebody else's: what this server did not make is never touched.
func (e *Engine) inspect(ctx context.Context, name string) (*container.InspectResponse, error) {
	found, err := e.docker.ContainerInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, e.explain("inspect container "+name, err)
	}
	// Docker also finds containers by the start of an id.
	if found.Name != "/"+name {
		return nil, nil
	}
	ours, err := e.owned(ctx, identity{found.ID, name, found.Config.Labels})
	if err != nil {
		return nil, err
	}
	if !ours {
		return nil, store.Problemf(store.CodeErrored, "container %s is not one of this server's; it was left alone", name).
			WithHint("docker rename %s another-name", name)
	}
	return &found, nil
}
