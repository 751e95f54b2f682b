package memengine_test

import (
	"net/netip"
	"testing"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

func TestContract(t *testing.T) {
	enginetest.Run(t, func(*testing.T) enginetest.Harness {
		engine := memengine.New()
		engine.Behave("serving", memengine.Behaviour{Log: []string{"listening"}})
		engine.Behave("exiting", memengine.Behaviour{Exits: true, ExitCode: 3, Log: []string{"starting", "exiting"}})
		return enginetest.Harness{
			Engine: engine, Addresses: engine, ServerID: "0123abcd",
			Serving: "serving", Exiting: "exiting", Missing: "missing",
			Foreign: func(_ *testing.T, name string) func() bool {
				engine.Foreign(name)
				return func() bool { return engine.ForeignRuns(name) }
			},
			Imitation: func(_ *testing.T, of store.ContainerSpec, name string) func() bool {
				engine.Imitate(of, name)
				return func() bool { return engine.ForeignRuns(name) }
			},
			Answers: func(_ *testing.T, address netip.AddrPort) bool {
				_, _, ok := engine.Serving(address)
				return ok
			},
		}
	})
}

// TestListenerThatIsBehindHearsOfLossAndReturn: a change that says less gives way to them.
func TestListenerThatIsBehindHearsOfLossAndReturn(t *testing.T) {
	e := memengine.New()
	changes := e.Changes(t.Context())
	for range 2 {
		e.Return() // as any change of a container, it says no more than that something changed
	}
	e.Lose()
	e.Return()
	if first, second := <-changes, <-changes; !first.Lost || second.Lost {
		t.Errorf("it hears %+v and %+v", first, second)
	}
}
