package compose

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

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

// ignoring has a service that gets as long as it wants, and one that is killed after a second.
const ignoring = `
services:
  web:
    image: web
    environment: {PORT: "8080"}
    stop_grace_period: 60s
  db:
    image: db
    environment: {PORT: "5432", IGNORE_TERM: "1"}
    stop_grace_period: 1s
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
				case enginetest.StackIgnores:
					commit["compose.yaml"] = ignoring
				case enginetest.StackServes:
					commit["compose.yaml"] += "    volumes: [data:/data]\nvolumes: {data: {}}\n"
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
			Kept:    l.kept,
			Busy:    workOn,
			ExitCodes: func(t *testing.T, app string, _ int64) (routed, other int) {
				web, db := l.service(t, app, "web").State, l.service(t, app, "db").State
				if web.FinishedAt < db.FinishedAt {
					t.Errorf("db, whose grace is 1 s, ended at %s, after web at %s", db.FinishedAt, web.FinishedAt)
				}
				return web.ExitCode, db.ExitCode
			},
		}
	})
}

// kept names the containers of a stack, and its volumes with the time when they were made.
func (l *lab) kept(t *testing.T, app string) (names []string) {
	t.Helper()
	for _, one := range l.containersOf(t, app, "") {
		names = append(names, one.ID)
	}
	mine := filters.NewArgs(filters.Arg("label", store.LabelComposeProject+"="+l.projectName(app)))
	volumes, err := l.docker.VolumeList(t.Context(), volume.ListOptions{Filters: mine})
	if err != nil || len(volumes.Volumes) == 0 {
		t.Fatalf("no volumes: %v", err)
	}
	for _, one := range volumes.Volumes {
		names = append(names, one.Name+" of "+one.CreatedAt)
	}
	slices.Sort(names)
	return names
}

// workOn begins a request that takes 4 s.
func workOn(t *testing.T, address netip.AddrPort) (answered func() bool) {
	t.Helper()
	sent, done := make(chan struct{}), make(chan error, 1)
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, "http://"+address.String()+"/slow?ms=4000", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		response, err := client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		done <- err
	}()
	<-sent
	return func() bool {
		err := <-done
		if err != nil {
			t.Log(err)
		}
		return err == nil
	}
}
