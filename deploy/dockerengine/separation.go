package dockerengine

import (
	"bytes"
	"context"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/shipgate/shipgate/store"
)

// bridgeFilter is where the kernel says whether frames within a bridge pass the firewall. Without that the engine's rule
// that keeps containers of one bridge apart has no effect.
const bridgeFilter = "/proc/sys/net/bridge/bridge-nf-call-iptables"

// droppedCapabilities are those of the engine's default set that let a container pretend to be another one on the network,
// make devices, or write into the host's audit log.
var droppedCapabilities = []string{"NET_RAW", "MKNOD", "AUDIT_WRITE"}

// dropped returns the capabilities that containers do not get, less those that the operator allows.
func (e *Engine) dropped() []string {
	var names []string
	for _, name := range droppedCapabilities {
		if !e.policy.AllowsCapability(name) {
			names = append(names, name)
		}
	}
	return names
}

// Separated returns nil when the containers of two apps cannot reach each other on their network, and else a Problem that
// says what to do. An engine on another host cannot be looked into: it refuses to make such a network by itself.
func (e *Engine) Separated(ctx context.Context) error {
	known, err := e.ensureNetwork(ctx)
	if err != nil {
		return err
	}
	return e.separated(known)
}

func (e *Engine) separated(known network) error {
	if !known.subnet.IsValid() {
		return nil
	}
	setting, err := os.ReadFile(e.bridgeFilter)
	if err == nil && string(bytes.TrimSpace(setting)) == "1" {
		return nil
	}
	return cannotSeparate(err)
}

func cannotSeparate(cause error) error {
	if cause == nil {
		return store.Problemf(store.CodeErrored, "containers of different apps can reach each other: %s is off", bridgeFilter).
			WithHint("sudo sysctl -w net.bridge.bridge-nf-call-iptables=1")
	}
	return store.Problemf(store.CodeErrored, "containers of different apps cannot be kept apart: %w", cause).
		WithHint("sudo modprobe br_netfilter")
}

// RetireOldNetwork removes the network that an earlier server made, once no container is on it, running or not, and no
// deployment has an address of it.
func (e *Engine) RetireOldNetwork(ctx context.Context, inUse func(context.Context, netip.Prefix) (bool, error)) (removed bool, err error) {
	name := store.OldNetworkName(e.serverID)
	old, err := e.findNetwork(ctx, name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if old.subnet.IsValid() {
		if used, err := inUse(ctx, old.subnet); err != nil || used {
			return false, err
		}
	}
	on, err := e.docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("network", name))})
	if err != nil {
		return false, e.explain("list containers of network "+name, err)
	}
	if len(on) > 0 {
		return false, nil
	}
	if err := e.removeNetwork(ctx, name); err != nil {
		return false, err
	}
	e.logger.Info("removed the network of an earlier version, which nothing uses any more", "network", name)
	return true, nil
}
