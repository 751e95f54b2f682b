package compose

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

const twoServices = `
services:
  web:
    image: web
    environment:
      PORT: "8080"
  db:
    image: db
    environment:
      PORT: "5432"
`

func TestContract(t *testing.T) {
	enginetest.RunStacks(t, func(t *testing.T) enginetest.StackHarness {
		l := newLab(t)
		return enginetest.StackHarness{
			Stacks: l.Stacks,
			Spec: func(t *testing.T, app string, deployment int64, kind enginetest.StackKind) store.StackSpec {
				commit := files{"compose.yaml": twoServices}
				switch kind {
				case enginetest.StackExits:
					commit["compose.yaml"] = strings.Replace(twoServices, `"8080"`, `"8080"`+"\n      EXIT_CODE: 3\n      LOG_LINES: 2", 1)
				case enginetest.StackRefused:
					commit["compose.yaml"] += "    privileged: true\n"
				}
				spec := l.spec(t, app, deployment, commit, nil)
				spec.Config.Service, spec.Liveness = "web", 2*time.Second // on trial; without it one look decides
				return spec
			},
			Other: func(t *testing.T, app string) string {
				found := l.containersOf(t, app, "db")
				if len(found) != 1 || found[0].State != "running" {
					return ""
				}
				return l.service(t, app, "db").State.StartedAt
			},
			Answers: func(t *testing.T, address netip.AddrPort) bool { return get(t, address, "/healthz") == "OK" },
		}
	})
}
