package builder

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"

	"github.com/shipgate/shipgate/store"
)

const cpuPeriod = 100_000 // microseconds over which a CPU limit counts; the kernel's default

// or fills in the defaults for a host. It leaves something of both to those who serve while a build runs.
func (l Limits) or(hostMemory int64, hostCPUs int) Limits {
	if l.Memory == 0 {
		l.Memory = store.Bytes(hostMemory / 4 * 3)
	}
	if l.CPUs == 0 {
		l.CPUs = float64(hostCPUs) - 0.25
	}
	return l
}

func (l Limits) String() string {
	return fmt.Sprintf("each step may use %s of memory and %.4g CPUs", size(int64(l.Memory)), l.CPUs)
}

func (l Limits) quota() int64 { return int64(l.CPUs * cpuPeriod) }

// host is what the engine says of the machine it runs on.
type host struct {
	root          string // the engine's data directory
	cgroupVersion string
	memory        int64
	cpus          int
}

// lookAtHost asks the engine once. Where it does not answer, the limits are those of this machine.
func (b *Builder) lookAtHost(ctx context.Context) host {
	b.hostLock.Lock()
	defer b.hostLock.Unlock()
	if b.host.cpus == 0 {
		info, err := b.docker.Info(ctx)
		if err != nil {
			return host{cpus: runtime.NumCPU(), memory: 4 << 30}
		}
		b.host = host{root: info.DockerRootDir, cgroupVersion: info.CgroupVersion, memory: info.MemTotal, cpus: info.NCPU}
	}
	return b.host
}

// limited gives the engine with the limits that it holds a build to itself, if it can.
func (i *imageBuild) limited(engine gateway.Client) gateway.Client {
	guarded := &guardedEngine{Client: engine, build: i, places: &i.places, decided: map[string]error{}}
	capabilities := engine.BuildOpts().LLBCaps
	if capabilities.Supports(pb.CapExecMetaLinuxResources) == nil {
		guarded.limits = map[string]string{
			"memory":    strconv.FormatInt(int64(i.allowed.Memory), 10),
			"cpuperiod": strconv.Itoa(cpuPeriod),
			"cpuquota":  strconv.FormatInt(i.allowed.quota(), 10),
		}
		i.say(i.allowed.String())
	}
	return guarded
}

// say logs once what limit the build's steps have.
func (i *imageBuild) say(limit string) {
	i.limitOnce.Do(func() {
		i.limit = limit
		i.log.say("limit: %s", limit)
	})
}

// withMarker adds a name that stands for nothing to the hosts that need no proxy: it ends up in the environment of the
// build's steps, where they can be told from other people's, and has no part in the cache's keys.
func withMarker(arguments map[string]string, marker string) map[string]string {
	marked := maps.Clone(arguments)
	if marked == nil {
		marked = map[string]string{}
	}
	name := "NO_PROXY"
	if _, lower := marked["no_proxy"]; lower {
		name = "no_proxy"
	}
	marked[name] = strings.TrimPrefix(marked[name]+","+marker, ",")
	return marked
}
