package dockerengine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

// Where addresses come from: a /21 of our own per server, and where that cannot be had, published loopback ports.
const (
	subnetBits = 21
	firstPort  = 20000
	lastPort   = 29999
)

var addressSpace = netip.MustParsePrefix("10.214.0.0/15")

// optionICC is the option of a bridge by which its containers cannot talk to each other.
const optionICC = "com.docker.network.bridge.enable_icc"

// network is a bridge that containers of this server are on. Without a subnet its addresses cannot be reached from here
// or are not ours to give, and containers are published on loopback ports.
type network struct {
	id      string
	name    string
	subnet  netip.Prefix
	ours    netip.Prefix // the part of the subnet that the engine does not take addresses from by itself
	gateway netip.Addr
}

// Pool ensures the network and says which addresses new containers can have.
func (e *Engine) Pool(ctx context.Context) (store.AddressPool, error) {
	known, err := e.ensureNetwork(ctx)
	if err != nil {
		return store.AddressPool{}, err
	}
	if !known.subnet.IsValid() {
		return store.AddressPool{FirstPort: firstPort, LastPort: lastPort}, nil
	}
	return store.AddressPool{Subnet: known.ours, Gateway: known.gateway}, nil
}

// networkOf returns the network that a container with the address is to be on: that of all apps, or, for an address that
// an earlier server gave, the old one, as long as it is there.
func (e *Engine) networkOf(ctx context.Context, app string, address netip.AddrPort) (network, error) {
	known, err := e.ensureNetwork(ctx)
	ip := address.Addr()
	if err != nil || !ip.IsValid() || ip.IsLoopback() || known.subnet.Contains(ip) {
		return known, err
	}
	old, err := e.findNetwork(ctx, store.OldNetworkName(e.serverID))
	if err == nil && old.subnet.Contains(ip) {
		return old, nil
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return network{}, err
	}
	return network{}, store.Problemf(store.CodeErrored, "address %s is not on this server's network any more", address).
		WithHint("shipgate deploy %s", app)
}

func (e *Engine) networkName() string { return store.NetworkName(e.serverID) }

// ensureNetwork gives the network, created when it is missing. Once seen it is taken for granted until a container
// finds it missing.
func (e *Engine) ensureNetwork(ctx context.Context) (network, error) {
	e.network.Lock()
	defer e.network.Unlock()
	if e.network.known.id != "" {
		return e.network.known, nil
	}
	known, err := e.findNetwork(ctx, e.networkName())
	if errdefs.IsNotFound(err) {
		known, err = e.createNetwork(ctx)
	}
	if err != nil {
		return network{}, err
	}
	e.network.known = known
	if err := e.separated(known); err != nil {
		e.logger.Error("apps are not apart", "network", known.name, "error", err)
	}
	return known, nil
}

func (e *Engine) forgetNetwork() {
	e.network.Lock()
	defer e.network.Unlock()
	e.network.known = network{}
}

func (e *Engine) findNetwork(ctx context.Context, name string) (network, error) {
	found, err := e.docker.NetworkInspect(ctx, name, dockernetwork.InspectOptions{})
	if err != nil {
		return network{}, e.explain("inspect network "+name, err)
	}
	if found.Labels[store.LabelData] != e.serverID {
		return network{}, store.Problemf(store.CodeErrored, "network %s is not one of this server's; it was left alone", found.Name).
			WithHint("docker network inspect %s", found.Name)
	}
	if name == e.networkName() && found.Options[optionICC] != "false" {
		return network{}, store.Problemf(store.CodeErrored, "network %s lets containers talk to each other; it is not as this server makes it", name).
			WithHint("docker network rm %s", name)
	}
	known := network{id: found.ID, name: name}
	for _, config := range found.IPAM.Config {
		subnet, subnetErr := netip.ParsePrefix(config.Subnet)
		gateway, gatewayErr := netip.ParseAddr(config.Gateway)
		if subnetErr == nil && gatewayErr == nil && addressSpace.Contains(subnet.Addr()) && onThisHost(gateway) {
			known.subnet, known.ours, known.gateway = subnet, subnet, gateway
			if lower, upper := halves(subnet); config.IPRange == upper.String() {
				known.ours = lower
			}
		}
	}
	return known, nil
}

// onThisHost says whether the bridge's own address is one of ours. It is not when the engine runs elsewhere: on
// another machine, in a virtual machine as on a Mac, or in a network namespace of its own.
func onThisHost(gateway netip.Addr) bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil && prefix.Addr() == gateway {
			return true
		}
	}
	return false
}

// halves parts a subnet: fixed addresses come from the lower one, and from the upper one those that the engine chooses for
// a command, which could otherwise be the one that a container is about to start on.
func halves(subnet netip.Prefix) (lower, upper netip.Prefix) {
	bits := subnet.Bits() + 1
	first := subnet.Masked().Addr().As4()
	second := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(first[:])|1<<(32-bits))
	return netip.PrefixFrom(netip.AddrFrom4(first), bits), netip.PrefixFrom(netip.AddrFrom4([4]byte(second)), bits)
}

// createNetwork takes the first subnet, beginning at the server's own place, that neither the host nor the engine
// uses, and leaves the choice to the engine when there is none.
func (e *Engine) createNetwork(ctx context.Context) (network, error) {
	taken, err := e.routes()
	if err != nil {
		return network{}, fmt.Errorf("read the host's routes: %w", err)
	}
	for _, subnet := range subnets(e.serverID, taken) {
		_, upper := halves(subnet)
		err := e.createOn(ctx, &dockernetwork.IPAM{Config: []dockernetwork.IPAMConfig{{
			Subnet: subnet.String(), Gateway: subnet.Addr().Next().String(), IPRange: upper.String(),
		}}})
		if err == nil {
			return e.findNetwork(ctx, e.networkName())
		}
		// With an address range the engine first minds the gateway of the other network.
		if !strings.Contains(err.Error(), "overlap") && !addressTaken(err) {
			return network{}, err
		}
	}
	if err := e.createOn(ctx, nil); err != nil {
		return network{}, err
	}
	return e.findNetwork(ctx, e.networkName())
}

func (e *Engine) createOn(ctx context.Context, ipam *dockernetwork.IPAM) error {
	ipv6 := false
	_, err := e.docker.NetworkCreate(ctx, e.networkName(), dockernetwork.CreateOptions{
		Driver: "bridge", IPAM: ipam, EnableIPv6: &ipv6,
		Labels: map[string]string{store.LabelData: e.serverID}, Options: map[string]string{optionICC: "false"},
	})
	switch {
	case errdefs.IsConflict(err): // another process of this server was faster
		return nil
	case err != nil && strings.Contains(err.Error(), "cannot restrict inter-container communication"):
		return cannotSeparate(said{err})
	}
	return e.explain("create network "+e.networkName(), err)
}

// subnets lists the free ones in the order in which this server tries them. Two servers on one engine begin at
// different places.
func subnets(serverID string, taken []netip.Prefix) []netip.Prefix {
	hash := fnv.New32a()
	hash.Write([]byte(serverID))
	count := uint32(1) << (subnetBits - addressSpace.Bits())
	base := binary.BigEndian.Uint32(addressSpace.Addr().AsSlice())
	var free []netip.Prefix
	for step := range count {
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], base+(hash.Sum32()+step)%count<<(32-subnetBits))
		subnet := netip.PrefixFrom(netip.AddrFrom4(address), subnetBits)
		if !overlapsAny(subnet, taken) {
			free = append(free, subnet)
		}
	}
	return free
}

func overlapsAny(subnet netip.Prefix, taken []netip.Prefix) bool {
	for _, prefix := range taken {
		if subnet.Overlaps(prefix) {
			return true
		}
	}
	return false
}

// reconnect puts a container whose network was removed on the new one, at its old address.
func (e *Engine) reconnect(ctx context.Context, spec store.ContainerSpec) error {
	e.forgetNetwork()
	known, err := e.networkOf(ctx, spec.App, spec.Address)
	if err != nil {
		return err
	}
	e.logger.Warn("network was removed and is made anew", "app", spec.App, "container", spec.Name)
	endpoint := &dockernetwork.EndpointSettings{IPAMConfig: fixedAddress(spec)}
	disconnected := e.docker.NetworkDisconnect(ctx, known.name, spec.Name, true)
	err = e.docker.NetworkConnect(ctx, known.id, spec.Name, endpoint)
	if err != nil {
		return e.explain("connect container "+spec.Name, errors.Join(err, disconnected))
	}
	return nil
}

// RemoveNetwork removes the network of this server. A missing one is no error; one that is in use is.
func (e *Engine) RemoveNetwork(ctx context.Context) error {
	e.forgetNetwork()
	return e.removeNetwork(ctx, e.networkName())
}

func (e *Engine) removeNetwork(ctx context.Context, name string) error {
	known, err := e.findNetwork(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.explain("remove network "+name, e.docker.NetworkRemove(ctx, known.id))
}
