package compose

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockernetwork "github.com/docker/docker/api/types/network"

	"github.com/shipgate/shipgate/store"
)

// fetched returns what a service of a stack gets from a URL, or its error.
func fetched(t *testing.T, from store.StackSpec, to string) string {
	t.Helper()
	return get(t, from.Address, "/fetch?url="+url.QueryEscape(to))
}

// Two stacks have a service db, and one of them has it routed. Each reaches its own and nothing of the other: no name and no
// address.
func TestStacksAreApart(t *testing.T) {
	l := newLab(t)
	app, other := l.app(), l.app()+"-b"
	victim := l.spec(t, app, 1, files{"compose.yaml": `
services:
  web: {image: x, environment: {PORT: "8080", APP_VERSION: web of the victim}}
  db: {image: x, environment: {PORT: "5432", APP_VERSION: db of the victim}}
`}, nil)
	victim.Config.Service = "web"
	l.up(t, victim)
	attacker := l.spec(t, other, 1, files{"compose.yaml": `
services:
  db: {image: x, hostname: db, container_name: db, environment: {PORT: "5432", APP_VERSION: db of the other}, networks: {default: {aliases: [web]}}}
`}, nil)
	attacker.Config.Service, attacker.Port, attacker.Address = "db", 5432, l.addressWithPort(t, 5432)
	l.route(t, attacker, "db")
	l.up(t, attacker)
	for range 20 {
		if got := fetched(t, victim, "http://db:5432/"); got != "db of the victim" {
			t.Fatalf("the victim's db:5432 answers %q", got)
		}
	}
	l.reachNothing(t, victim, other, "of the victim")
	l.reachNothing(t, attacker, app, "of the other")
	for _, name := range []string{"web-1", app + "-web-1", l.projectName(app) + "-db-1", l.service(t, app, "db").Config.Hostname} {
		if got := get(t, attacker.Address, "/lookup?name="+name); !strings.Contains(got, "lookup") {
			t.Errorf("%s has the address %s", name, got)
		}
	}
}

// reachNothing tries every address of another app's containers.
func (l *lab) reachNothing(t *testing.T, from store.StackSpec, other, own string) {
	t.Helper()
	for _, summary := range l.containersOf(t, other, "") {
		for network, endpoint := range summary.NetworkSettings.Networks {
			if found, err := l.docker.NetworkInspect(t.Context(), network, dockernetwork.InspectOptions{}); err != nil ||
				network == l.routedNetwork(t) && found.Options["com.docker.network.bridge.enable_icc"] != "false" {
				t.Logf("NOT TESTED: network %s lets containers talk to each other (%v)", network, err)
				continue
			}
			for _, port := range []int{5432, 8080} {
				got := fetched(t, from, fmt.Sprintf("http://%s:%d/", endpoint.IPAddress, port))
				if strings.Contains(got, " of the ") || !strings.Contains(got, "Get ") {
					t.Errorf("%s reaches port %d of %s on %s: %q", from.App, port, other, network, got)
				}
			}
		}
	}
	port := strconv.Itoa(int(from.Address.Port()))
	if got := fetched(t, from, "http://127.0.0.1:"+port+"/"); !strings.HasSuffix(got, own) {
		t.Errorf("%s does not even reach itself: %q", from.App, got)
	}
}

// The connection that we made is Docker's to keep, and Compose does not mind it.
func TestRoutedContainerStaysConnected(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}}"}, nil)
	l.up(t, spec)
	before := l.service(t, l.app(), "web")
	for _, how := range []string{"restarted", "brought up again", "disconnected", "connected with a name"} {
		grace := 0
		switch how {
		case "restarted":
			if err := l.docker.ContainerRestart(t.Context(), before.ID, container.StopOptions{Timeout: &grace}); err != nil {
				t.Fatal(err)
			}
		case "brought up again":
			l.up(t, spec)
		case "disconnected", "connected with a name":
			network := l.routedNetwork(t)
			if err := l.docker.NetworkDisconnect(t.Context(), network, before.ID, true); err != nil {
				t.Fatal(err)
			}
			if how != "disconnected" {
				l.connectAs(t, network, before.ID, "db", spec.Address)
			}
			l.up(t, spec)
		}
		if answer := get(t, spec.Address, "/healthz"); answer != "OK" {
			t.Errorf("%s: it answers %q", how, answer)
		}
		after := l.service(t, l.app(), "web")
		if after.ID != before.ID {
			t.Errorf("%s: it is another container", how)
		}
		if len(after.NetworkSettings.Networks) != 2 {
			t.Errorf("%s: it is on %d networks", how, len(after.NetworkSettings.Networks))
		}
		endpoint := after.NetworkSettings.Networks[l.routedNetwork(t)]
		if endpoint == nil || endpoint.IPAddress != spec.Address.Addr().String() || len(endpoint.Aliases) > 1 {
			t.Errorf("%s: it is there as %+v", how, endpoint)
		}
	}
}

// A container has the labels of the image or commit that it was made from. Compose would take one for a part of the stack,
// and remove it.
func TestContainersThatInheritLabelsAreLeftAlone(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": twoServices}, nil)
	spec.Config.Service = "web"
	l.up(t, spec)
	for _, service := range []string{"db", "web"} {
		inherited := l.service(t, l.app(), service).Config.Labels
		foreign := l.foreign(t, inherited)
		if _, err := l.try(t.Context(), spec); !leftAlone(err) {
			t.Errorf("up with a copy of %s: %v", service, err)
		}
		l.stillRuns(t, foreign)
		if err := l.Down(t.Context(), l.app()); err != nil {
			t.Errorf("down with a copy of %s: %v", service, err)
		}
		l.stillRuns(t, foreign)
		if left := l.containersOf(t, l.app(), ""); len(left) != 1 || left[0].ID != foreign {
			t.Errorf("%d containers are left, want the foreign one", len(left))
		}
		if running, err := l.Running(t.Context(), l.app(), 1); running || err != nil {
			t.Errorf("a copy passes for the deployment: %v %v", running, err)
		}
		l.removeForeign(t, foreign)
		l.up(t, spec)
	}
	// One of a service that the stack never had: an orphan to Compose.
	labels := map[string]string{
		"com.docker.compose.project": l.projectName(l.app()), "com.docker.compose.service": "other", "com.docker.compose.oneoff": "False",
		"com.docker.compose.container-number": "1", "com.docker.compose.config-hash": "x",
	}
	foreign := l.foreign(t, labels)
	if _, err := l.try(t.Context(), spec); !leftAlone(err) {
		t.Errorf("up with an orphan of somebody else: %v", err)
	}
	l.stillRuns(t, foreign)
	l.removeForeign(t, foreign)
	// What docker compose run makes is nobody's to remove, and in nobody's way.
	labels["com.docker.compose.oneoff"] = "True"
	foreign = l.foreign(t, labels)
	l.up(t, spec)
	l.stillRuns(t, foreign)
	l.removeForeign(t, foreign)
}

func leftAlone(err error) bool {
	problem, ok := store.AsProblem(err)
	return ok && problem.Code == store.CodeErrored && strings.Contains(problem.Message, "left alone") && problem.Hint != ""
}

// Two apps whose names meet share nothing.
func TestAppsWhoseNamesMeet(t *testing.T) {
	l := newLab(t)
	commit := func(service string) files {
		return files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}, " + service + ": {image: x, volumes: ['vol:/v']}}\nvolumes: {vol: {}}"}
	}
	first := l.spec(t, l.app(), 1, commit("b-db"), nil)
	second := l.spec(t, l.app()+"-b", 1, commit("db"), nil)
	for _, spec := range []store.StackSpec{first, second} {
		spec.Config.Service = "web"
		l.up(t, spec)
	}
	one, other := l.service(t, first.App, "b-db"), l.service(t, second.App, "db")
	if one.Name == other.Name || one.Mounts[0].Name == other.Mounts[0].Name {
		t.Errorf("%s has %s, and %s has %s", one.Name, one.Mounts[0].Name, other.Name, other.Mounts[0].Name)
	}
	if err := l.Down(t.Context(), first.App); err != nil {
		t.Fatal(err)
	}
	if now := l.service(t, second.App, "db"); now.State.StartedAt != other.State.StartedAt || !now.State.Running {
		t.Error("taking one app down touched the other")
	}
	// A volume of the name that the stack is to have, and of somebody else.
	l.makeVolume(t, l.projectName(second.App)+"_goods", map[string]string{store.LabelApp: first.App, store.LabelData: l.server})
	third := l.spec(t, second.App, 2, files{"compose.yaml": "services: {web: {image: x, volumes: ['goods:/w']}}\nvolumes: {goods: {}}"}, nil)
	if _, err := l.try(t.Context(), third); !leftAlone(err) {
		t.Errorf("a volume of another app: %v", err)
	}
}

// One rule for all services: whatever ends and is started again fails, with its log; what ends with 0 for good is fine.
func TestServicesHaveToLive(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct{ service, says string }{
		"ends at once":           {"restart: always, environment: {EXIT_CODE: '4', LOG_LINES: '1'}", "service db keeps ending: exit code 4"},
		"ends at once with 0":    {"restart: always, entrypoint: [/testapp, migrate]", "service db keeps ending: exit code 0"},
		"ends after 1 s":         {"restart: always, environment: {EXIT_CODE: '4', EXIT_AFTER: 1s}", "service db keeps ending: exit code 4"},
		"ends after 3 s":         {"restart: unless-stopped, environment: {EXIT_CODE: '4', EXIT_AFTER: 3s}", "service db keeps ending: exit code 4"},
		"ends within the window": {"environment: {EXIT_CODE: '4', EXIT_AFTER: 3s}", "service db ended with exit code 4"},
		"quick job":              {"entrypoint: [/testapp, migrate]", ""},
		"quick job that fails":   {"entrypoint: [/testapp, migrate], environment: {MIGRATE_CODE: '6'}", "service db ended with exit code 6"},
		"slow job":               {"environment: {EXIT_CODE: '0', EXIT_AFTER: 2s}", ""},
		"slow job that fails":    {"environment: {EXIT_CODE: '6', EXIT_AFTER: 2s}", "service db ended with exit code 6"},
		"job that is retried":    {"restart: on-failure, entrypoint: [/testapp, migrate]", ""},
		"lives":                  {"restart: always", ""},
	} {
		t.Run(name, func(t *testing.T) {
			app := "live" + strings.ReplaceAll(strings.ReplaceAll(name, " ", ""), ".", "") + l.app()[3:7]
			spec := l.spec(t, app, 1, files{"compose.yaml": "services: {web: {image: x, environment: {PORT: '8080'}}, db: {image: x, " + test.service + "}}"}, nil)
			spec.Config.Service, spec.Liveness = "web", 5*time.Second
			log, err := l.try(t.Context(), spec)
			problem, _ := store.AsProblem(err)
			switch {
			case test.says == "" && err != nil, test.says != "" && (problem == nil || problem.Code != store.CodeFailed || !strings.HasPrefix(problem.Message, test.says)):
				t.Errorf("got %v, want %q", err, test.says)
			case test.says != "" && !strings.Contains(log, "(last 50 lines of db)"):
				t.Errorf("the log is not told:\n%s", log)
			}
			if err := l.Down(t.Context(), app); err != nil {
				t.Error(err)
			}
		})
	}
}
