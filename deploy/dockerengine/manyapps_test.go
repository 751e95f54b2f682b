package dockerengine

import (
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/shipgate/shipgate/store"
)

// TestManyApps measures how long the containers of SHIPGATE_BENCH_APPS apps take to start on the network that all apps are
// on, and on the one that earlier servers made, whose containers can reach each other. It only tells; nothing is asserted.
func TestManyApps(t *testing.T) {
	apps, _ := strconv.Atoi(os.Getenv("SHIPGATE_BENCH_APPS"))
	if apps <= 0 || apps > 250 {
		t.Skip("not a test: SHIPGATE_BENCH_APPS=200 measures")
	}
	l := newLab(t)
	old := l.oldNetwork(t)
	for _, scheme := range []string{"old", "new", "old", "new"} {
		var names []string
		took := make([]time.Duration, 0, apps)
		for n := range apps {
			spec := l.bare(t, int64(n+1))
			if scheme == "old" {
				address := old.Addr().As4()
				address[2], address[3] = address[2]+byte((n+10)/200), byte(10+(n+10)%200)
				spec.Address = netip.AddrPortFrom(netip.AddrFrom4(address), 8080)
			}
			began := time.Now()
			if err := l.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			took, names = append(took, time.Since(began)), append(names, spec.Name)
		}
		tenth := max(1, apps/10)
		t.Logf("%s: %d apps in %s; start of the first %d: %s each, of the last %d: %s each",
			scheme, apps, sum(took), tenth, sum(took[:tenth])/time.Duration(tenth), tenth, sum(took[apps-tenth:])/time.Duration(tenth))
		for _, name := range names {
			if err := l.docker.ContainerRemove(t.Context(), name, container.RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// bare is the container of an app of its own, which is removed by the caller.
func (l *lab) bare(t *testing.T, n int64) store.ContainerSpec {
	t.Helper()
	pool, err := l.Pool(t.Context())
	if err != nil || !pool.Subnet.IsValid() {
		t.Skip("NOT TESTED, this engine's networks cannot be reached from here: ", err)
	}
	app := l.app() + strconv.FormatInt(n, 10)
	address := pool.Subnet.Addr().As4()
	address[2], address[3] = address[2]+byte((n+10)/200), byte(10+(n+10)%200)
	return store.ContainerSpec{
		Name: store.ContainerName(l.serverID, app, n), App: app, Deployment: n, Image: l.image, Env: []string{"PORT=8080"}, Port: 8080,
		Address: netip.AddrPortFrom(netip.AddrFrom4(address), 8080),
	}
}

func sum(all []time.Duration) (total time.Duration) {
	for _, one := range all {
		total += one
	}
	return total
}
