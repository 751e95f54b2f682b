package store

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func subnet(t *testing.T, prefix string, gateway ...string) AddressPool {
	t.Helper()
	pool := AddressPool{Subnet: netip.MustParsePrefix(prefix)}
	for _, address := range gateway {
		pool.Gateway = netip.MustParseAddr(address)
	}
	return pool
}

// lanes makes one claimed deployment in each of n apps.
func lanes(t *testing.T, s *Store, n int) []Deployment {
	t.Helper()
	var all []Deployment
	for i := range n {
		name := "app" + itoa(int64(i))
		newApp(t, s, name)
		all = append(all, claimed(t, s, name))
	}
	return all
}

func TestAddressesAreUniqueAndThePoolEnds(t *testing.T) {
	for name, c := range map[string]struct {
		pool AddressPool
		want []string
	}{
		"subnet": {subnet(t, "10.214.0.8/29", "10.214.0.9"),
			[]string{"10.214.0.10:8080", "10.214.0.11:8080", "10.214.0.12:8080", "10.214.0.13:8080", "10.214.0.14:8080"}},
		"subnet given by an address in it": {subnet(t, "10.214.1.6/30"), []string{"10.214.1.5:8080", "10.214.1.6:8080"}},
		"ports":                            {AddressPool{FirstPort: 20000, LastPort: 20002}, []string{"127.0.0.1:20000", "127.0.0.1:20001", "127.0.0.1:20002"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			all := lanes(t, s, len(c.want)+2)
			var group sync.WaitGroup
			var mu sync.Mutex
			given, refused := map[string]int64{}, 0
			for _, d := range all {
				group.Go(func() {
					placed, err := s.PlaceContainer(t.Context(), d, c.pool, 8080)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						refused++
						wantTaken(t, err)
						return
					}
					if other, twice := given[placed.Address]; twice {
						t.Errorf("%s was given to %d and to %d", placed.Address, other, placed.ID)
					}
					given[placed.Address] = placed.ID
				})
			}
			group.Wait()
			for _, address := range c.want {
				if given[address] == 0 {
					t.Errorf("%s was not given", address)
				}
			}
			if refused != 2 || len(given) != len(c.want) {
				t.Errorf("given: %v, refused: %d; want exactly %v", given, refused, c.want)
			}
		})
	}
}

func wantTaken(t *testing.T, err error) {
	t.Helper()
	if problem, ok := AsProblem(err); !ok || problem.Code != CodeErrored || !strings.Contains(problem.Message, "taken") || problem.Hint == "" {
		t.Errorf("got %v, want a Problem that says that all are taken", err)
	}
}

func TestPlacingAContainer(t *testing.T) {
	s := newStore(t)
	pool := subnet(t, "10.214.0.0/30")
	all := lanes(t, s, 3)
	stale := all[0]
	first := must[Deployment](t)(s.PlaceContainer(t.Context(), stale, pool, 8080))
	if first.Container != ContainerName(s.ServerID(), "app0", first.ID) || first.Address == "" {
		t.Errorf("placed as %q at %q", first.Container, first.Address)
	}
	if stored := must[Deployment](t)(s.Deployment(t.Context(), first.ID)); stored.Container != first.Container || stored.Address != first.Address {
		t.Errorf("given %+v, stored %+v", first, stored)
	}
	for what, d := range map[string]Deployment{"the new copy": first, "a copy from before": stale} {
		if again, err := s.PlaceContainer(t.Context(), d, pool, 8080); err != nil || again.Address != first.Address || again.Container != first.Container {
			t.Errorf("repeated with %s: %+v, %v; want %+v", what, again, err, first)
		}
	}
	second := must[Deployment](t)(s.PlaceContainer(t.Context(), all[1], pool, 8080))
	_, err := s.PlaceContainer(t.Context(), all[2], pool, 8080)
	wantTaken(t, err)
	if third := must[Deployment](t)(s.Deployment(t.Context(), all[2].ID)); third.Container != "" || third.Address != "" {
		t.Errorf("refused, and yet stored: %+v", third)
	}
	check(t, s.FreeAddress(t.Context(), first.ID))
	check(t, s.FreeAddress(t.Context(), first.ID))
	if third := must[Deployment](t)(s.PlaceContainer(t.Context(), all[2], pool, 8080)); third.Address != first.Address || third.Address == second.Address {
		t.Errorf("got %s, want the freed %s", third.Address, first.Address)
	}
	_, err = s.PlaceContainer(t.Context(), Deployment{ID: 999, App: "app0"}, pool, 8080)
	wantProblem(t, err, CodeNotFound, "999")
}

func TestAddressIsNotUsedAgainAtOnce(t *testing.T) {
	s := newStore(t)
	pool := subnet(t, "10.214.0.0/24")
	last := ""
	for _, d := range lanes(t, s, 4) {
		placed := must[Deployment](t)(s.PlaceContainer(t.Context(), d, pool, 80))
		if placed.Address == last {
			t.Errorf("%s was used again at once", last)
		}
		last = placed.Address
		check(t, s.FreeAddress(t.Context(), d.ID))
	}
}
