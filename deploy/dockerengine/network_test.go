package dockerengine

import (
	"context"
	"net/netip"
	"testing"

	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

func TestPoolIsASubnetOfOurOwn(t *testing.T) {
	l := newLab(t)
	before, err := hostRoutes()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := l.Pool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here")
	}
	if pool.Subnet.Bits() != subnetBits+1 || !addressSpace.Contains(pool.Subnet.Addr()) || overlapsAny(pool.Subnet, before) {
		t.Errorf("subnet %s, routes before %v", pool.Subnet, before)
	}
	if pool.Gateway != pool.Subnet.Addr().Next() {
		t.Errorf("gateway %v of %s", pool.Gateway, pool.Subnet)
	}
	later := newEngine(t, l.docker, l.serverID) // as after a restart of the server
	again, err := later.Pool(t.Context())
	if err != nil || again.Subnet != pool.Subnet {
		t.Errorf("later the subnet is %s, error %v", again.Subnet, err)
	}
}

func TestPoolTakesTheNextSubnetThatTheEngineHasFree(t *testing.T) {
	l := newLab(t)
	taken, err := hostRoutes()
	if err != nil {
		t.Fatal(err)
	}
	free := subnets(l.serverID, taken)
	other := newEngine(t, l.docker, "other"+l.serverID)
	labels := map[string]string{store.LabelData: other.serverID}
	ipam := &dockernetwork.IPAM{Config: []dockernetwork.IPAMConfig{{Subnet: free[0].String()}}}
	_, err = l.docker.NetworkCreate(t.Context(), other.networkName(), dockernetwork.CreateOptions{
		Driver: "bridge", IPAM: ipam, Labels: labels, Options: map[string]string{optionICC: "false"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.RemoveNetwork(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	// Only the engine knows: the host's routes do not say so.
	l.routes = func() ([]netip.Prefix, error) { return taken, nil }
	pool, err := l.Pool(t.Context())
	if lower, _ := halves(free[1]); err != nil || pool.Subnet != lower {
		t.Errorf("subnet %s, want %s; error %v", pool.Subnet, lower, err)
	}
}

func TestPoolIsLoopbackWhenNoSubnetIsFree(t *testing.T) {
	l := newLab(t)
	l.routes = func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil }
	pool, err := l.Pool(t.Context())
	if err != nil || pool.Subnet.IsValid() || pool.FirstPort != 20000 || pool.LastPort != 29999 {
		t.Fatalf("pool %+v, error %v", pool, err)
	}
	spec := l.spec(t, "APP_VERSION=published")
	l.start(t, spec)
	if answer := get(t, spec.Address, "/"); answer != "published" {
		t.Errorf("the app answers %q", answer)
	}
	again := l.spec(t)
	again.Address = spec.Address
	wantProblem(t, l.Start(t.Context(), again), store.CodeErrored, "taken")
}

func TestNetworkIsMadeAnewWhenSomebodyRemovedIt(t *testing.T) {
	l := newLab(t)
	kept, fresh := l.spec(t, "APP_VERSION=kept"), l.spec(t, "APP_VERSION=fresh")
	l.start(t, kept)
	if err := l.Stop(t.Context(), kept.Name, 0); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []store.ContainerSpec{kept, fresh} {
		if err := l.docker.NetworkRemove(t.Context(), l.networkName()); err != nil {
			t.Fatal(err)
		}
		l.start(t, spec)
		if answer := get(t, spec.Address, "/"); "APP_VERSION="+answer != spec.Env[1] {
			t.Errorf("%s answers %q", spec.Address, answer)
		}
		if err := l.Stop(t.Context(), spec.Name, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForeignNetworkIsRefused(t *testing.T) {
	l := newLab(t)
	labels := map[string]string{store.LabelData: l.serverID + "-foreign"}
	created, err := l.docker.NetworkCreate(t.Context(), l.networkName(), dockernetwork.CreateOptions{Driver: "bridge", Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Pool(t.Context())
	wantProblem(t, err, store.CodeErrored, l.networkName())
	wantProblem(t, l.RemoveNetwork(t.Context()), store.CodeErrored, "left alone")
	if err := l.docker.NetworkRemove(t.Context(), created.ID); err != nil {
		t.Errorf("somebody else's network is gone: %v", err)
	}
}

func TestAddressOfAnotherNetworkIsRefused(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	spec.Address = netip.MustParseAddrPort("192.0.2.77:8080")
	wantProblem(t, l.Start(t.Context(), spec), store.CodeErrored, "192.0.2.77")
}

func TestSubnets(t *testing.T) {
	all := subnets("a server", nil)
	seen := map[netip.Prefix]bool{}
	for _, subnet := range all {
		if seen[subnet] || subnet != subnet.Masked() || !addressSpace.Contains(subnet.Addr()) {
			t.Errorf("%s is not a /%d of %s, or not the first", subnet, subnetBits, addressSpace)
		}
		seen[subnet] = true
	}
	if len(all) != 64 {
		t.Errorf("%d subnets, want 64", len(all))
	}
	if other := subnets("another server", nil); other[0] == all[0] {
		t.Errorf("both servers begin at %s", all[0])
	}
	if free := subnets("a server", []netip.Prefix{netip.PrefixFrom(all[0].Addr(), 30)}); free[0] != all[1] || len(free) != 63 {
		t.Errorf("with %s taken the first of %d is %s, want %s", all[0], len(free), free[0], all[1])
	}
	if free := subnets("a server", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); len(free) != 0 {
		t.Errorf("%v are free inside a taken network", free)
	}
}
