package dockerengine

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/shipgate/shipgate/store"
)

// attack runs an attack of the testapp in a container; it gives what the attack says and whether it succeeded.
func (l *lab) attack(t *testing.T, from store.ContainerSpec, words ...string) (said string, succeeded bool) {
	t.Helper()
	created, err := l.docker.ContainerExecCreate(t.Context(), from.Name, container.ExecOptions{
		Cmd: append([]string{"/testapp", "attack"}, words...), AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	attached, err := l.docker.ContainerExecAttach(t.Context(), created.ID, container.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	var output bytes.Buffer
	if _, err := stdcopy.StdCopy(&output, &output, attached.Reader); err != nil {
		t.Fatal(err)
	}
	ended, err := l.docker.ContainerExecInspect(t.Context(), created.ID)
	if err != nil || ended.Running || ended.ExitCode > 1 {
		t.Fatalf("attack %q: %+v %v %s", words, ended, err, output.String())
	}
	return strings.TrimSpace(output.String()), ended.ExitCode == 0
}

// oldNetwork makes the network that servers up to 47a093d made, and an engine adapter of that time puts the spec on it.
func (l *lab) oldNetwork(t *testing.T) netip.Prefix {
	t.Helper()
	taken, err := hostRoutes()
	if err != nil {
		t.Fatal(err)
	}
	free := subnets(l.serverID, taken)
	subnet := netip.PrefixFrom(free[len(free)-1].Addr(), 22)
	lower, upper := halves(subnet)
	_, err = l.docker.NetworkCreate(t.Context(), store.OldNetworkName(l.serverID), dockernetwork.CreateOptions{
		Driver: "bridge", Labels: map[string]string{store.LabelData: l.serverID},
		IPAM: &dockernetwork.IPAM{Config: []dockernetwork.IPAMConfig{{
			Subnet: subnet.String(), Gateway: subnet.Addr().Next().String(), IPRange: upper.String(),
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.removeNetwork(context.WithoutCancel(t.Context()), store.OldNetworkName(l.serverID)); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return lower
}

// onOld gives the spec an address of the old network.
func onOld(spec store.ContainerSpec, subnet netip.Prefix) store.ContainerSpec {
	address := subnet.Addr().As4()
	address[3] = byte(50 + spec.Deployment)
	spec.Address = netip.AddrPortFrom(netip.AddrFrom4(address), 8080)
	return spec
}

func TestContainersCannotReachEachOther(t *testing.T) {
	l := newLab(t)
	pool, err := l.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here")
	}
	if err := l.Separated(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := l.oldNetwork(t)
	hostile, victim, earlier := l.spec(t), l.spec(t), l.spec(t)
	victim.App = hostile.App + "-b"
	earlier = onOld(earlier, old)
	for _, spec := range []store.ContainerSpec{hostile, victim, earlier} {
		l.start(t, spec)
		get(t, spec.Address, "/") // from the host
		conn, err := net.Dial("udp", spec.Address.String())
		if err != nil {
			t.Fatal(err)
		}
		_, writeErr := conn.Write([]byte("from the host"))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 64)); err != nil || writeErr != nil {
			t.Errorf("no datagram comes back from %s to the host: %v %v", spec.Name, writeErr, err)
		}
		conn.Close()
	}
	for _, pair := range [][2]store.ContainerSpec{{hostile, victim}, {hostile, earlier}, {earlier, victim}, {victim, hostile}} {
		from, to := pair[0], pair[1]
		for _, words := range [][]string{{"tcp", to.Address.String()}, {"udp", to.Address.String()}, {"icmp", to.Address.Addr().String()}} {
			if said, succeeded := l.attack(t, from, words...); succeeded {
				t.Errorf("%s reaches %s by %s: %s", from.Name, to.Name, words[0], said)
			}
		}
		if said, succeeded := l.attack(t, from, "tcp", to.Name+":8080"); succeeded {
			t.Errorf("%s reaches %s by name: %s", from.Name, to.Name, said)
		}
	}
	for _, words := range []string{"packet", "device", "linklocal"} {
		if said, succeeded := l.attack(t, hostile, words); succeeded {
			t.Errorf("attack %s succeeded: %s", words, said)
		}
	}
	// The attacks work where nothing is in their way.
	for _, words := range [][]string{{"tcp", "127.0.0.1:8080"}, {"udp", "127.0.0.1:8080"}, {"icmp", "127.0.0.1"}, {"icmp", pool.Gateway.String()}} {
		if said, succeeded := l.attack(t, hostile, words...); !succeeded {
			t.Errorf("attack %s on itself: %s", words, said)
		}
	}
}

func TestContainersHaveNoAliases(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	found := l.start(t, spec)
	for name, endpoint := range found.NetworkSettings.Networks {
		for _, alias := range endpoint.Aliases {
			if !strings.HasPrefix(found.ID, alias) { // the engine adds the short id
				t.Errorf("it is called %s on %s", alias, name)
			}
		}
	}
	if len(found.NetworkSettings.Networks) != 1 {
		t.Errorf("networks %v", found.NetworkSettings.Networks)
	}
}

func TestOperatorGivesCapabilitiesBack(t *testing.T) {
	l := newLab(t)
	policy, err := store.NewPolicy(store.PolicyRules{Capabilities: []string{"net_raw"}})
	if err != nil {
		t.Fatal(err)
	}
	l.policy = policy
	spec := l.spec(t)
	l.start(t, spec)
	if said, succeeded := l.attack(t, spec, "packet"); !succeeded {
		t.Errorf("no packet socket: %s", said)
	}
	if said, succeeded := l.attack(t, spec, "device"); succeeded {
		t.Errorf("a device was made: %s", said)
	}
}

func TestBridgeFilterThatIsOffIsTold(t *testing.T) {
	l := newLab(t)
	if pool, err := l.Pool(t.Context()); err != nil || !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here")
	}
	l.bridgeFilter = filepath.Join(t.TempDir(), "bridge-nf-call-iptables")
	wantProblem(t, l.Separated(t.Context()), store.CodeErrored, "apart", "br_netfilter")
	if err := os.WriteFile(l.bridgeFilter, []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantProblem(t, l.Separated(t.Context()), store.CodeErrored, "can reach each other", "sysctl")
}

func TestOldNetworkGoesWhenNothingUsesIt(t *testing.T) {
	l := newLab(t)
	old := l.oldNetwork(t)
	spec := onOld(l.spec(t), old)
	unused := func(context.Context, netip.Prefix) (bool, error) { return false, nil }
	used := func(context.Context, netip.Prefix) (bool, error) { return true, nil }
	l.start(t, spec)
	retire := func(inUse func(context.Context, netip.Prefix) (bool, error), want bool) {
		t.Helper()
		if removed, err := l.RetireOldNetwork(t.Context(), inUse); err != nil || removed != want {
			t.Errorf("removed %t, want %t: %v", removed, want, err)
		}
	}
	retire(unused, false)
	if err := l.Stop(t.Context(), spec.Name, 0); err != nil {
		t.Fatal(err)
	}
	retire(unused, false) // what is stopped may be started again
	l.start(t, spec)
	get(t, spec.Address, "/")
	if err := l.Remove(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	retire(used, false)
	retire(unused, true)
	retire(unused, false)
	wantProblem(t, l.Start(t.Context(), spec), store.CodeErrored, "not on this server's network any more")
}

func TestNetworkThatLetsContainersTalkIsRefused(t *testing.T) {
	l := newLab(t)
	created, err := l.docker.NetworkCreate(t.Context(), l.networkName(), dockernetwork.CreateOptions{
		Driver: "bridge", Labels: map[string]string{store.LabelData: l.serverID},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Pool(t.Context())
	wantProblem(t, err, store.CodeErrored, "talk to each other")
	if err := l.docker.NetworkRemove(t.Context(), created.ID); err != nil {
		t.Error(err)
	}
}
