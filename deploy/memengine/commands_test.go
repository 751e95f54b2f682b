package memengine_test

import (
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

func TestCommands(t *testing.T) {
	enginetest.RunCommands(t, func(*testing.T) enginetest.CommandHarness {
		engine := memengine.New()
		lines := []string{"line 1", "line 2"}
		engine.Behave("quick", memengine.Behaviour{CommandCode: 3, CommandLog: lines})
		engine.Behave("waiting", memengine.Behaviour{CommandWaits: true, CommandLog: lines})
		return enginetest.CommandHarness{
			Engine:   engine,
			ServerID: "0123abcd",
			Commands: memengine.NewCommands(engine),
			Quick:    func(spec *store.ContainerSpec) { spec.Image = "quick" },
			Waiting:  func(spec *store.ContainerSpec) { spec.Image = "waiting" },
			Missing:  "missing",
			Finish: func(t *testing.T, name string) {
				if err := engine.Stop(t.Context(), name, time.Second); err != nil {
					t.Error(err)
				}
			},
			Foreign: func(_ *testing.T, name string) func() bool {
				engine.Foreign(name)
				return func() bool { return engine.ForeignRuns(name) }
			},
		}
	})
}
