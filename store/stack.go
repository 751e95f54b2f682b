package store

import (
	"net/netip"
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
	Port       int               // where the routed service listens
	Wait       time.Duration     // for every service to run and be healthy
}
