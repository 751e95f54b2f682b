package deploy

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

func TestGate(t *testing.T) {
	const http = `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz","timeout":"100ms"}}`
	const tcp = `{"deploy_strategy":"blue-green","liveness":"20ms"}`
	listening := memengine.Behaviour{}
	for _, c := range []struct {
		name, config string
		behaviour    memengine.Behaviour
		verdict      store.Verdict
		reason, hint string
		gate         string // what its line begins with
	}{
		{"200", http, listening, store.Succeeded, "", "", "GET /healthz → 200 after "},
		{"listens late", http, memengine.Behaviour{ListensAfter: 2}, store.Succeeded, "", "", "GET /healthz → 200 after "},
		{"503", http, memengine.Behaviour{Unhealthy: true}, store.Failed, "health check failed: GET /healthz: 503 after 100ms",
			"shipgate logs hello --deployment 1", "GET /healthz → 503 for 100ms ("},
		{"refused", http, memengine.Behaviour{NeverListens: true}, store.Failed, "health check failed: GET /healthz: connection refused after 100ms",
			"shipgate logs", "GET /healthz → connection refused for 100ms ("},
		{"exit", http, memengine.Behaviour{Exits: true, ExitCode: 3}, store.Failed, "the container exited with code 3", "shipgate logs", "the container exited with code 3"},
		{"out of memory", http, memengine.Behaviour{OOM: true}, store.Failed, "the container ran out of memory", "--memory", "the container ran out of memory"},
		{"killed", http, memengine.Behaviour{Exits: true, ExitCode: 137}, store.Failed, "most likely because it ran out of memory", "--memory", "the container was killed (exit code 137)"},
		{"cannot start", http, memengine.Behaviour{StartFails: "no such file"}, store.Failed, "cannot start: no such file", "", ""},
		{"HEALTHCHECK healthy", http, memengine.Behaviour{Health: "healthy"}, store.Succeeded, "", "", "GET /healthz → 200"},
		{"HEALTHCHECK unhealthy", http, memengine.Behaviour{Health: "unhealthy"}, store.Failed, "the image's HEALTHCHECK says unhealthy", "shipgate logs", "the image's HEALTHCHECK says unhealthy"},
		{"HEALTHCHECK still starting", http, memengine.Behaviour{Health: "starting"}, store.Failed, "HEALTHCHECK was not healthy after 100ms", "shipgate logs", "the image's HEALTHCHECK was not healthy"},
		{"loopback only", http, memengine.Behaviour{LoopbackOnly: true}, store.Failed,
			"the app listens on 127.0.0.1:8080 only, which cannot be reached from outside its container", "let it listen on 0.0.0.0:8080", "the app listens on 127.0.0.1:8080 only"},
		{"TCP", tcp, listening, store.Succeeded, "", "", "port 8080 accepts connections after "},
		{"TCP and exit", tcp, memengine.Behaviour{Exits: true}, store.Failed, "the container exited with code 0", "shipgate logs", "the container exited with code 0"},
		{"three successes", `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz","successes":3}}`, memengine.Behaviour{ListensAfter: 1},
			store.Succeeded, "", "", "GET /healthz → 200 after "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			_, err := s.store.UpdateApp(t.Context(), store.App{Name: appName, Source: store.SourceDockerfile, Hosts: []string{appHost}, Config: []byte(c.config)})
			s.must(err)
			s.version(1, c.behaviour)
			d := s.wantVerdict(s.push(appName, 1).ID, c.verdict, c.reason)
			if !strings.Contains(d.Hint, c.hint) {
				t.Errorf("hint %q, want %q", d.Hint, c.hint)
			}
			if !slices.ContainsFunc(s.lines(d.ID), func(line string) bool { return strings.HasPrefix(line, "gate "+c.gate) }) && c.gate != "" {
				t.Errorf("no line %q:\n%s", c.gate, strings.Join(s.lines(d.ID), "\n"))
			}
			if c.name == "three successes" && !strings.Contains(strings.Join(s.lines(d.ID), "\n"), "(4 probes)") {
				t.Errorf("not 4 probes: %s", s.lines(d.ID))
			}
		})
	}
}

func TestLivenessWindow(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  string
		dies    bool
		verdict store.Verdict
	}{
		{"lives", `{"deploy_strategy":"blue-green","liveness":"30ms"}`, false, store.Succeeded},
		{"dies within it", `{"deploy_strategy":"blue-green","liveness":"1m"}`, true, store.Failed},
		{"has none", `{"deploy_strategy":"blue-green","liveness":"0s"}`, false, store.Succeeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			_, err := s.store.UpdateApp(t.Context(), store.App{Name: appName, Source: store.SourceDockerfile, Hosts: []string{appHost}, Config: []byte(c.config)})
			s.must(err)
			s.setInject(func(point string) error {
				if c.dies && point == "after probe #1" {
					s.engine.Exit(s.container(appName, 1), 9)
				}
				return nil
			})
			d := s.push(appName, 1)
			s.wantVerdict(d.ID, c.verdict, "")
			events, err := s.store.Events(t.Context(), d.ID, 0, 100)
			s.must(err)
			lived := slices.ContainsFunc(events, func(e store.Event) bool { return strings.Contains(e.Text, "lived for") })
			if want := c.name == "lives"; lived != want {
				t.Errorf("it waited for the window: %t, want %t", lived, want)
			}
		})
	}
}

// While requests are parked, those that do not end may not use up the time of those that wait.
func TestDrainBeforeARecreate(t *testing.T) {
	for config, want := range map[string]store.Hold{
		`{"liveness":"10ms","deploy_strategy":"recreate"}`:                           {Limit: 30 * time.Second, Drain: 10 * time.Second},
		`{"liveness":"10ms","deploy_strategy":"recreate","hold":"3m"}`:               {Limit: 3 * time.Minute, Drain: 30 * time.Second},
		`{"liveness":"10ms","deploy_strategy":"recreate","hold":"0s"}`:               {},
		`{"liveness":"10ms","deploy_strategy":"recreate","hold":"1m","drain":"0s"}`:  {Limit: time.Minute},
		`{"liveness":"10ms","deploy_strategy":"recreate","hold":"1m","drain":"50s"}`: {Limit: time.Minute, Drain: 50 * time.Second},
	} {
		t.Run(config, func(t *testing.T) {
			s := newServer(t)
			_, err := s.store.UpdateApp(t.Context(), store.App{Name: appName, Source: store.SourceDockerfile, Hosts: []string{appHost}, Config: []byte(config)})
			s.must(err)
			s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
			s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
			if want.Requests = store.DefaultHeldRequests; s.router.wanted != want {
				t.Errorf("held for %+v, want %+v", s.router.wanted, want)
			}
		})
	}
}

func TestListeningOnAnotherPort(t *testing.T) {
	text, hint := listeningElsewhere(sockets("0.0.0.0:3000", "127.0.0.1:9229"), 8080, appName)
	if text != "nothing listens on port 8080; the app listens on 3000" || hint != "shipgate app update hello --port 3000" {
		t.Errorf("%q, %q", text, hint)
	}
	for _, all := range [][]string{{"0.0.0.0:8080"}, {"[::]:8080", "127.0.0.1:8080"}, {}, {"127.0.0.1:9229"}} {
		if text, _ := listeningElsewhere(sockets(all...), 8080, appName); text != "" {
			t.Errorf("%v: %q", all, text)
		}
	}
}

// measured are the parts of a history that no two runs have in common.
var measured = regexp.MustCompile(`\d+\.\d+ s|\d+ ms|\(\d+ probes?\)|(build|stop|start|gate|cutover) \d+\.\d+|\d+\.\d+\.\d+\.\d+`)

func golden(lines []string) string {
	text := regexp.MustCompile(`shipgate-[0-9a-f]{8}`).ReplaceAllString(strings.Join(lines, "\n"), "shipgate-ID")
	return measured.ReplaceAllStringFunc(text, func(found string) string {
		return regexp.MustCompile(`[\d.]+`).ReplaceAllString(found, "N")
	})
}

func TestHistoryOfSuccess(t *testing.T) {
	s := newServer(t)
	s.builder.lines = []string{"#5 [build 2/4] COPY go.mod go.sum ./"}
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	s.router.mu.Lock()
	s.router.inFlight[1] = 3
	s.router.mu.Unlock()
	s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	want := `queued asked for by push
plan blue-green: health check GET /healthz; no gap expected
build #5 [build 2/4] COPY go.mod go.sum ./
build done in N s · sha256:000000…
start shipgate-ID.hello.2 on N:8080 · N s
gate GET /healthz → 200 after N ms (N probe)
route hello.example.com → 2
live https://hello.example.com in N s (build N, start N, gate N, cutover N)
drain 1: 3 requests cut after 30 s`
	lines := s.lines(2)
	events, err := s.store.Events(t.Context(), 2, 0, 1)
	s.must(err)
	if got := golden(append([]string{events[0].Kind + " " + events[0].Text}, lines...)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHistoryOfFailure(t *testing.T) {
	s := newServer(t)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	_, err := s.store.UpdateApp(t.Context(), store.App{Name: appName, Source: store.SourceDockerfile, Hosts: []string{appHost},
		Config: []byte(`{"liveness":"10ms","deploy_strategy":"recreate","healthcheck":{"path":"/healthz","timeout":"60ms"}}`)})
	s.must(err)
	s.version(2, memengine.Behaviour{Unhealthy: true, Log: []string{"starting", "no database"}})
	s.wantVerdict(s.push(appName, 2).ID, store.Failed, "health check failed: GET /healthz: 503 after 60ms")
	want := `plan recreate: health check GET /healthz; requests wait while it restarts, for 30s at the most
build done in N s · sha256:000000…
stop shipgate-ID.hello.1 · N s
start shipgate-ID.hello.2 on N:8080 · N s
gate GET /healthz → 503 for 60ms (N probes); last answer: "db: connection refused"
log (last 50 lines of shipgate-ID.hello.2)
log starting
log no database
undo shipgate-ID.hello.1 runs again · N s
failed health check; 1 keeps serving. Full log: shipgate logs hello --deployment 2`
	if got := golden(s.lines(2)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	s := newServer(t)
	key := "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----"
	s.must(s.store.SetEnv(t.Context(), appName, map[string]string{"A": "hunter2hunter2", "B": "hunter2hunter2plus", "KEY": key, "SHORT": "yes"}))
	s.builder.lines = []string{"using hunter2hunter2plus and hunter2hunter2", "MIIEvQIBADANBg", "yes"}
	s.version(1, memengine.Behaviour{Exits: true, Log: []string{"password hunter2hunter2"}})
	s.wantVerdict(s.push(appName, 1).ID, store.Failed, "exited")
	s.wantLine(1, "build using **** and ****")
	s.wantLine(1, "build ****")
	s.wantLine(1, "build yes")
	s.wantLine(1, "log password ****")
}

func TestTimesInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		410 * time.Millisecond: "0.41 s", 6230 * time.Millisecond: "6.2 s", 150 * time.Second: "150 s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
