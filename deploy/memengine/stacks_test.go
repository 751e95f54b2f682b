package memengine_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

func TestStacks(t *testing.T) {
	enginetest.RunStacks(t, func(*testing.T) enginetest.StackHarness {
		engine := memengine.New()
		stacks := memengine.NewStacks(engine)
		free := netip.MustParseAddr("10.214.0.9")
		return enginetest.StackHarness{
			Stacks: stacks,
			Spec: func(_ *testing.T, app string, deployment int64, kind enginetest.StackKind) store.StackSpec {
				free = free.Next()
				spec := store.StackSpec{App: app, Deployment: deployment, Container: store.ContainerName("0123abcd", app, deployment), Dir: fmt.Sprintf("/stacks/%s/%d", app, deployment), Address: netip.AddrPortFrom(free, 8080), Port: 8080}
				switch kind {
				case enginetest.StackExits:
					stacks.Behave(spec.Dir, memengine.Behaviour{Exits: true, ExitCode: 3, Log: []string{"line 1"}})
				case enginetest.StackRefused:
					stacks.Refuse(spec.Dir)
				case enginetest.StackIgnores:
					stacks.IgnoreStop(spec.Dir)
					stacks.Behave(spec.Dir, memengine.Behaviour{})
				default:
					stacks.Behave(spec.Dir, memengine.Behaviour{})
				}
				return spec
			},
			Other: func(_ *testing.T, app string) string { return stacks.Other(app) },
			Answers: func(_ *testing.T, address netip.AddrPort) bool {
				_, healthy, ok := engine.Serving(address)
				return healthy && ok
			},
			Kept: func(_ *testing.T, app string) []string { return stacks.Kept(app) },
			Busy: func(*testing.T, netip.AddrPort) func() bool { return func() bool { return true } },
			ExitCodes: func(_ *testing.T, app string, deployment int64) (int, int) {
				return stacks.ExitCodes(store.ContainerName("0123abcd", app, deployment), app)
			},
		}
	})
}
