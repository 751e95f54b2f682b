package store

import (
	"net/netip"
	"strings"
	"time"
)

// StackSpec says how the stack of a deployment is to run. Like a ContainerSpec it can be rebuilt at any time.
type StackSpec struct {
	App        string
	Deployment int64
	Container  string // the name of the routed service's container
	Dir        string // absolute path of the release's files, with what the build left beside them
	Data       string // absolute path of the app's own folder, which outlives its releases
	Config     *ComposeConfig
	Env        map[string]string // for the compose file's ${…}, and of the services that list the names
	Address    netip.AddrPort    // where the proxy dials the routed service
	Calls      []string          // apps that the routed service finds under APP.internal
	Gateway    netip.Addr        // where those names lead
	Port       int               // where the routed service listens
	Wait       time.Duration     // for every service to run and be healthy
	Liveness   time.Duration     // how long every service must then have run without being restarted
}

// Labels that Compose puts on its containers, networks and volumes. Nothing that an app brings may set them.
const (
	LabelComposeProject = "com.docker.compose.project"
	LabelComposeService = "com.docker.compose.service"
	LabelComposeNumber  = "com.docker.compose.container-number"
	LabelComposeOneOff  = "com.docker.compose.oneoff"
	LabelComposeDepends = "com.docker.compose.depends_on"
	LabelComposeNetwork = "com.docker.compose.network"
)

// IsReservedLabel reports whether a label says whose an image or a container is. Only our own calls and Compose may set it.
func IsReservedLabel(label string) bool {
	return strings.HasPrefix(label, "dev.shipgate.") || strings.HasPrefix(label, "com.docker.compose.")
}

// StackContainer is what the engine says of one container that carries the label of a Compose project. Whether it is ours
// is for the caller to find out.
type StackContainer struct {
	ID        string
	Name      string
	Labels    map[string]string
	State     string // created, restarting, running, removing, paused, exited, dead
	Health    string // Docker's HEALTHCHECK: "", "starting", "healthy" or "unhealthy"
	ExitCode  int
	Restarts  int // by the engine, since the container was created
	StartedAt time.Time
	Networks  []string          // names
	Volumes   map[string]string // names of mounted volumes, by the path in the container
}

// Service returns the service that Compose says the container belongs to.
func (c StackContainer) Service() string { return c.Labels[LabelComposeService] }
