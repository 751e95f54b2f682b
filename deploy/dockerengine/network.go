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

// Where addresses come from: a /22 of our own per server, and where that cannot be had, published loopback ports.
const (
	subnetBits = 22
	firstPort  = 20000
	lastPort   = 29999
)

var addressSpace = netip.MustParsePrefix("10.214.0.0/15")

// network is the bridge that all containers of this server are on. Without a subnet its addresses cannot be reached
// from here or are not ours to give, and containers are published on loopback ports.
type network struct {
	id      string
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
	return store.AddressPool{Subnet: known.ours, Reserved: []netip.Addr{known.gateway}}, nil
}

func (n network) accepts(spec store.ContainerSpec) error {
	if address := spec.Address.Addr(); address.IsValid() && !address.IsLoopback() && !n.subnet.Contains(address) {
		return store.Problemf(store.CodeErrored, "address %s of container %s is not on this server's network any more",
			spec.Address, spec.Name).WithHint("shipgate deploy %s", spec.App)
	}
	return nil
}

func (e *Engine) networkName() string { return "shipgate-" + e.serverID[:min(8, len(e.serverID))] }

// ensureNetwork gives the network, created when it is missing. Once seen it is taken for granted until a container
// finds it missing.
func (e *Engine) ensureNetwork(ctx context.Context) (network, error) {
	e.network.Lock()
	defer e.network.Unlock()
	if e.network.known.id != "" {
		return e.network.known, nil
	}
	known, err := e.findNetwork(ctx)
	if errdefs.IsNotFound(err) {
		known, err = e.createNetwork(ctx)
	}
	if err == nil {
		e.network.known = known
	}
	return known, err
}

func (e *Engine) forgetNetwork() {
	e.network.Lock()
	defer e.network.Unlock()
	e.network.known = network{}
}

func (e *Engine) findNetwork(ctx context.Context) (network, error) {
	found, err := e.docker.NetworkInspect(ctx, e.networkName(), dockernetwork.InspectOptions{})
	if err != nil {
		return network{}, e.explain("inspect network "+e.networkName(), err)
	}
	if !e.ours(found.Labels) {
		return network{}, store.Problemf(store.CodeErrored, "network %s is not one of this server's; it was left alone", found.Name).
			WithHint("docker network inspect %s", found.Name)
	}
	known := network{id: found.ID}
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
			return e.findNetwork(ctx)
		}
		// With an address range the engine first minds the gateway of the other network.
		if !strings.Contains(err.Error(), "overlap") && !addressTaken(err) {
			return network{}, err
		}
	}
	if err := e.createOn(ctx, nil); err != nil {
		return network{}, err
	}
	return e.findNetwork(ctx)
}

func (e *Engine) createOn(ctx context.Context, ipam *dockernetwork.IPAM) error {
	labels := map[string]string{store.LabelData: e.serverID}
	_, err := e.docker.NetworkCreate(ctx, e.networkName(), dockernetwork.CreateOptions{Driver: "bridge", IPAM: ipam, Labels: labels})
	if errdefs.IsConflict(err) { // another process of this server was faster
		return nil
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
	known, err := e.ensureNetwork(ctx)
	if err != nil {
		return err
	}
	if err := known.accepts(spec); err != nil {
		return err
	}
	e.logger.Warn("network was removed and is made anew", "app", spec.App, "container", spec.Name)
	endpoint := &dockernetwork.EndpointSettings{IPAMConfig: fixedAddress(spec)}
	disconnected := e.docker.NetworkDisconnect(ctx, e.networkName(), spec.Name, true)
	err = e.docker.NetworkConnect(ctx, known.id, spec.Name, endpoint)
	if err != nil {
		return e.explain("connect container "+spec.Name, errors.Join(err, disconnected))
	}
	return nil
}

// RemoveNetwork removes the network of this server. A missing one is no error; one that is in use is.
func (e *Engine) RemoveNetwork(ctx context.Context) error {
	known, err := e.findNetwork(ctx)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	e.forgetNetwork()
	return e.explain("remove network "+e.networkName(), e.docker.NetworkRemove(ctx, known.id))
}
