package store

import (
	"net/netip"
	"time"
)

// Labels that every container and image of ours carries. Nothing without LabelData is ever touched.
const (
	LabelApp        = "dev.shipgate.app"
	LabelDeployment = "dev.shipgate.deployment"
	LabelData       = "dev.shipgate.data"      // the server's id
	LabelRole       = "dev.shipgate.role"      // what a container is for; see Role
	LabelContainer  = "dev.shipgate.container" // the name that our call gave the container; what inherits labels has another
)

// Role says what a container is for.
type Role string

// The roles. The label is left out where the role is empty.
const (
	RoleServe   Role = ""        // it is, or was to be, where the app's requests go
	RoleCommand Role = "command" // it ran a release command
	RoleStack   Role = "stack"   // it is a service of a stack, which Compose manages
)

// ContainerSpec says how one container of a deployment is to run. It is a pure function of the release and the
// deployment's stored name and address, so it can be rebuilt at any time.
type ContainerSpec struct {
	Name       string
	App        string
	Deployment int64
	Role       Role
	Image      string   // image id
	Command    []string // in place of the image's entrypoint and command; nil: as the image says
	Env        []string
	Address    netip.AddrPort // where the proxy dials; see AddressPool; of a command: none, the engine picks one
	Port       int            // where the process listens inside the container
	Calls      []string       // apps that it finds under APP.internal; needs an address on the bridge
	Volumes    []Volume
	Resources  Resources
	StopSignal string // empty: as the image says
	// KeepRunning has the engine start the process again whenever it ends. A new version has not earned that yet:
	// its end is an answer, and the engine would be busy starting it while it is asked why.
	KeepRunning bool
}

// Volume is a named volume of the app mounted into its containers.
type Volume struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Resources limits one container. Zero means the default of the engine adapter.
type Resources struct {
	Memory Bytes   `json:"memory,omitempty"` // "512m"
	CPUs   float64 `json:"cpus,omitempty"`
	PIDs   int64   `json:"pids,omitempty"`
}

// Container is what the engine says of one container of ours.
type Container struct {
	Name       string
	App        string
	Deployment int64
	Role       Role
	Running    bool
	Health     string // Docker's HEALTHCHECK: "", "starting", "healthy" or "unhealthy"
}

// ContainerEventKind says what happened to a container.
type ContainerEventKind string

// The kinds of container events that a gate listens to.
const (
	ContainerExited    ContainerEventKind = "exited"
	ContainerOOM       ContainerEventKind = "oom"
	ContainerHealthy   ContainerEventKind = "healthy"
	ContainerUnhealthy ContainerEventKind = "unhealthy"
	ContainerRemoved   ContainerEventKind = "removed"
)

// ContainerEvent is one thing that happened to a container that is being watched.
type ContainerEvent struct {
	Kind     ContainerEventKind
	ExitCode int
}

// Diagnosis is what can be learnt of a container that did not become healthy.
type Diagnosis struct {
	Running   bool
	ExitCode  int
	OOMKilled bool
	Error     string           // what the engine says, e.g. that the entrypoint does not exist
	Log       []string         // the last lines it wrote
	Listening []netip.AddrPort // the TCP sockets it listens on; nil when that cannot be seen
}

// AddressPool is where addresses for new containers come from: the bridge network's own subnet on Linux, or, where
// that cannot be reached, loopback ports that the engine publishes.
type AddressPool struct {
	Subnet    netip.Prefix // addresses inside it, each with the container's own port
	Gateway   netip.Addr   // the bridge's own address, where containers reach this host; never given to a container
	FirstPort int          // else: 127.0.0.1 with a port from FirstPort to LastPort
	LastPort  int
}

// TreeEntry is one file of a Snapshot.
type TreeEntry struct {
	Path string // slash-separated, relative, cleaned
	Mode uint32 // git's: 0100644, 0100755, 0120000 (symlink), 0160000 (submodule), 0040000 (directory)
	Blob string // object id in hex
	Size int64
}

// GitModes a TreeEntry can have.
const (
	ModeDirectory  = 0o040000
	ModeFile       = 0o100644
	ModeExecutable = 0o100755
	ModeSymlink    = 0o120000
	ModeSubmodule  = 0o160000
)

// The volume that storage_enabled gives a Deno app, and where it is mounted.
const (
	StorageVolume = "storage"
	DenoStorage   = "/app/data"
)

// Default deadlines and limits of a deployment.
const (
	DefaultHealthTimeout = 30 * time.Second
	DefaultLiveness      = 2 * time.Second
	DefaultStackLiveness = 5 * time.Second // of every service of a stack, which the engine may start again and again
	DefaultDrain         = 30 * time.Second
	DefaultHold          = 30 * time.Second
	DefaultHeldRequests  = 1000
	DefaultStopGrace     = 10 * time.Second
	DefaultBuildTimeout  = 30 * time.Minute
	DefaultReleaseTime   = 30 * time.Minute // for a release command
	DefaultKeepAssets    = 24 * time.Hour
)
