package compose

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/shipgate/shipgate/store"
)

const testServer = "0123456789abcdef"

func load(t testing.TB, commit files, config store.ComposeConfig, env map[string]string) (*Model, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkout")
	write(t, dir, commit)
	write(t, filepath.Dir(dir), files{"secret.yaml": "services: {web: {image: stolen}}", "secret.env": "STOLEN=yes", "bad.env": "A='no end"})
	return New(Options{ServerID: testServer}).Load(t.Context(), "shop", dir, &config, env)
}

func must(t testing.TB, commit files, config store.ComposeConfig, env map[string]string) *Model {
	t.Helper()
	m, err := load(t, commit, config, env)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// web is a stack of one service with these fields, and what else the file has.
func web(fields string, rest ...string) files {
	return files{"compose.yaml": "services:\n  web:\n    image: web\n    " + fields + "\n" + strings.Join(rest, "\n") + "\n"}
}

// Each row is refused, naming service or resource, field, file and line, with a hint; trusted says what trust changes.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		commit  files
		says    string
		trusted bool // allowed then
	}{
		{web("privileged: true"), "compose.yaml:4: service web: privileged", true},
		{web("network_mode: host", "  front: {image: x, ports: []}"), "service web: network_mode (host)", false}, // routed: never
		{web("restart: always", "  db: {image: x, network_mode: host}", "  app: {image: y, expose: [1]}"), "compose.yaml:5: service db: network_mode (host)", true},
		{web("restart: always", "  db: {image: x, network_mode: 'container:other'}"), "network_mode (container:other)", true},
		{web("pid: host"), "compose.yaml:4: service web: pid (host)", true},
		{web("pid: container:other"), "pid (container:other)", true},
		{web("ipc: host"), "service web: ipc (host)", true},
		{web("uts: host"), "service web: uts (host)", true},
		{web("userns_mode: host"), "service web: userns_mode (host)", true},
		{web("cgroup: host"), "service web: cgroup (host)", true},
		{web("cgroup_parent: /"), "service web: cgroup_parent (/)", true},
		{web("runtime: other"), "service web: runtime (other)", true},
		{web("isolation: process"), "service web: isolation (process)", true},
		{web("cap_add: [SYS_ADMIN]"), "service web: cap_add (SYS_ADMIN)", true},
		{web("security_opt: ['seccomp:unconfined']"), "service web: security_opt (seccomp:unconfined)", true},
		{web("security_opt: ['no-new-privileges:false']"), "security_opt (no-new-privileges:false)", true},
		{web("devices: ['/dev/sda:/dev/sda']"), "service web: devices", true},
		{web("device_cgroup_rules: ['c 1:3 mr']"), "service web: device_cgroup_rules", true},
		{web("gpus: all"), "service web: gpus", true},
		{web("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}"), "service web: deploy (resources with devices)", true},
		{web("use_api_socket: true"), "service web: use_api_socket", true},
		{web("external_links: [other]"), "service web: external_links (other)", true},
		{web("volumes_from: ['container:other']"), "service web: volumes_from (container:other)", true},
		{web("storage_opt: {size: 1G}"), "service web: storage_opt", true},
		{web("oom_score_adj: -500"), "service web: oom_score_adj", true},
		{web("oom_kill_disable: true"), "service web: oom_kill_disable", true},
		{web("credential_spec: {file: x.json}"), "service web: credential_spec", true},
		{web("post_start: [{command: x, privileged: true}]"), "service web: post_start (privileged)", true},
		{web("pre_stop: [{command: x, privileged: true}]"), "service web: pre_stop (privileged)", true},
		{web("provider: {type: model}"), "service web: provider", false},
		{web("pre_start: [{command: x}]"), "service web: pre_start", false},
		{web("models: [llm]", "models: {llm: {model: x}}"), "models", false},
		{web("restart: always", "jobs: {j: {image: x}}"), "jobs", false},
		{web("scale: 2"), "service web: scale (2", false},
		{web("deploy: {replicas: 3}"), "service web: scale (3", false},
		{web("expose: [1]", "  db: {image: x, ports: ['5432:5432']}"), "compose.yaml:5: service db: ports (5432 on the host)", true},
		{web("expose: [1]", "  db: {image: x, ports: ['5432']}"), "service db: ports (any on the host)", true},
		{web("volumes: ['/etc:/host']"), "compose.yaml:4: service web: volumes (/etc)", true},
		{web("volumes: ['/var/run/docker.sock:/var/run/docker.sock']"), "volumes (/var/run/docker.sock)", true},
		{web("volumes: ['../outside:/x']"), "service web: volumes", true},
		{web("volumes: ['~/x:/x']"), "service web: volumes", true},
		{web("volumes: [{type: bind, source: ., target: /x, bind: {propagation: shared}}]"), "volumes (propagation shared)", true},
		{web("volumes: [{type: npipe, source: x, target: /x}]"), "volumes (npipe)", true},
		{web("env_file: ../secret.env"), "service web: env_file", true},
		{web("env_file: ../bad.env"), "service web: env_file", false}, // refused before it is read
		{web("env_file: /proc/self/environ"), "env_file (/proc/self/environ)", true},
		{web("label_file: ../secret.env"), "service web: label_file", true},
		{web("volumes: ['data:/x']", "volumes: {data: {external: true}}"), "compose.yaml:5: volume data (external)", true},
		{web("volumes: ['data:/x']", "volumes: {data: {name: shipgate-other_data}}"), "volume data (name shipgate-other_data)", true},
		{web("volumes: ['data:/x']", "volumes: {data: {driver_opts: {type: none, o: bind, device: /}}}"), "volume data (driver_opts)", true},
		{web("volumes: ['data:/x']", "volumes: {data: {driver: other}}"), "volume data (driver other)", true},
		{web("volumes: ['data:/x']", "volumes: {data: {labels: {dev.shipgate.app: y}}}"), "volume data (labels)", true},
		{web("networks: [n]", "networks: {n: {external: true}}"), "network n (external n)", true},
		{web("networks: [n]", "networks: {n: {name: other}}"), "network n (name other)", true},
		{web("networks: [n]", "networks: {n: {driver: macvlan}}"), "network n (driver macvlan)", true},
		{web("networks: [n]", "networks: {n: {driver_opts: {x: y}}}"), "network n (driver_opts)", true},
		{web("networks: [n]", "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}"), "network n (ipam)", true},
		{web("networks: [n]", "networks: {n: {labels: {com.docker.compose.project: y}}}"), "network n (labels)", true},
		{web("networks: [n]", "networks: {n: {external: true, name: shipgate-01234567.apps}}"), "network n (", false}, // every app's
		{web("networks: [n]", "networks: {n: {name: shipgate-01234567}}"), "network n (", false},
		{web("networks: {n: {driver_opts: {a: b}}}", "networks: {n: {}}"), "service web: networks (driver_opts)", true},
		{web("restart: always", "  db: {image: x, network_mode: bridge}", "  app: {image: y, expose: [1]}"), "service db: network_mode (bridge)", true}, // every app's, too
		{web("annotations: {org.systemd.property.TasksMax: 'uint64 100000'}"), "service web: annotations", true},
		{web("volumes: [{type: volume, target: /x, volume: {labels: {dev.shipgate.app: y}}}]"), "service web: label dev.shipgate.app", false},
		{web("sysctls: {net.ipv4.conf.all.proxy_arp_pvlan: 1}"), "service web: sysctls (net.ipv4.conf.all.proxy_arp_pvlan)", true},
		{web("sysctls: ['net/ipv6/conf/all/disable_ipv6=0']"), "service web: sysctls (net/ipv6/conf/all/disable_ipv6)", true},
		{web("scale: 21"), "service web: scale (21", false},
		{web("expose: [1]", "  db: {image: x, scale: 40}"), "service db: scale 40 is out of range", false},
		{web("expose: [1]", "  db: {image: x, deploy: {replicas: 21}}"), "service db: scale 21 is out of range", false},
		{web("expose: [1]", "  db: {image: x, scale: 15}", "  c: {image: x, scale: 15}"), "the stack has 31 containers", false},
		{web("cap_add: [NET_RAW]"), "service web: cap_add (NET_RAW)", true},
		{web("cap_add: [ALL]"), "service web: cap_add (ALL)", true},
		{web("secrets: [s]", "secrets: {s: {file: ../secret.env}}"), "secret s", true},
		{web("secrets: [s]", "secrets: {s: {external: true}}"), "secret s (external)", false},
		{web("configs: [c]", "configs: {c: {file: /etc/passwd}}"), "config c (/etc/passwd)", true},
		{web("build: {context: ..}"), "service web: build (context", false},
		{web("build: 'https://example.com/x.git'"), "service web: build (context", false},
		{web("build: {context: ., network: host}"), "service web: build (network)", false},
		{web("build: {context: ., privileged: true}"), "service web: build (privileged)", false},
		{web("build: {context: ., ssh: [default]}"), "service web: build (ssh)", false},
		{web("build: {context: ., secrets: [s]}", "secrets: {s: {environment: S}}"), "service web: build (secrets)", false},
		{web("build: {context: ., additional_contexts: {x: .}}"), "service web: build (additional_contexts)", false},
		{web("build: {context: ., platforms: [linux/arm64]}"), "service web: build (platforms)", false},
		{web("build: {context: ., entitlements: [x]}"), "service web: build (entitlements)", false},
		{web("build: {context: ., extra_hosts: {a: 127.0.0.1}}"), "service web: build (extra_hosts)", false},
		{web("build: {context: ., shm_size: 1g}"), "service web: build (shm_size)", false},
		{web("build: {context: ., ulimits: {nproc: 1}}"), "service web: build (ulimits)", false},
		{web("build: {context: ., isolation: process}"), "service web: build (isolation)", false},
		{web("build: {context: ., no_cache_filter: [x]}"), "service web: build (no_cache_filter)", false},
		{web("labels: {dev.shipgate.deployment: '9'}"), "service web: label dev.shipgate.deployment", false},
		{web("labels: ['com.docker.compose.project=x']"), "service web: label com.docker.compose.project", false},
		{web("label_file: l", "").with(files{"l": "dev.shipgate.data=x"}), "service web: label dev.shipgate.data", false},
		{web("extends: {file: ../secret.yaml, service: web}"), "secret.yaml, leaves the repository", true},
		{web("extends: {file: /etc/passwd, service: web}"), "/etc/passwd, is outside", false},
		{web("extends: {file: '${WHERE}', service: web}"), "has a variable in the name", false},
		{web("restart: always", "  a.b.c: {extends: {file: ../secret.yaml, service: web}}"), "leaves the repository", true},
		{web("<<: *x", "x-x: &x {extends: {file: ../secret.yaml, service: web}}"), "not YAML", false},
		{web("extends: {file: base.yaml, service: b}").with(files{"base.yaml": "services: {b: {extends: {file: ../secret.yaml, service: web}}}"}), "leaves the repository", true},
		{web("restart: always", "include: [../secret.yaml]"), "secret.yaml, leaves the repository", true},
		{web("restart: always", "include: ['https://example.com/x.yaml']"), "is outside of the repository", false},
		{web("restart: always", "include: [{path: more.yaml, env_file: ../secret.env}]").with(files{"more.yaml": "{}"}), "include has env_file", true},
		{web("restart: always", "include: [{path: more.yaml, project_directory: ..}]").with(files{"more.yaml": "{}"}), "include has project_directory", true},
		{web("restart: always", "include: [sub/more.yaml]").with(files{"sub/more.yaml": "include: [../../secret.yaml]"}), "leaves the repository", true},
		{files{"compose.yaml": "services: {!x web: {extends: {file: ../secret.yaml, service: web}}}"}, "a tag that Compose does not know: !x web", true},
		{files{"compose.yaml": "!x services: {web: {extends: {file: ../secret.yaml, service: web}}}"}, "Compose does not know: !x services", true},
		{files{"compose.yaml": "services: {web: {!!binary ZXh0ZW5kcw==: {file: ../secret.yaml, service: web}, image: x}}"}, "!!binary", true},
		{files{"compose.yaml": "services: {web: !x {extends: {file: ../secret.yaml, service: web}}}"}, "does not know: !x", true},
		{files{"compose.yaml": "x-a: &a extends\nservices: {web: {*a : {file: ../secret.yaml, service: web}, image: x}}"}, "a key that is no text", true},
		{web("restart: always", "!x include: [{path: more.yaml, env_file: ../secret.env}]").with(files{"more.yaml": "{}"}), "does not know: !x include", true},
		{web("restart: always", "include: [more.yaml]").with(files{"more.yaml": "!x include: [../secret.yaml]"}), "more.yaml:1: a key", true},
		{web("restart: always", "x-a: {1: b}"), "compose.yaml:5: a key that is no text", false},
		{web("volumes: ['./data:/d', './data/sub:/s']"), "data/sub is inside of data", false},
		{web("volumes: ['./data/sub:/s']", "  db: {image: x, volumes: ['./data:/d']}"), "data/sub is inside of data", false},
		{web("volumes: ['./.content:/c']"), ".content: the name is taken", false},
		{web("volumes: ['./.content/x:/c']"), ".content/x: the name is taken", false},
		{web("volumes: [{type: image, source: x, target: /x}]"), "volumes (image)", true},
		{web("logging: {driver: syslog, options: {syslog-address: 'tcp://127.0.0.1:6379'}}"), "logging (syslog)", true},
		{web("restart: always").with(files{"out": "-> ../secret.env"}), "symlink out leaves", false},
		{web("restart: always").with(files{"out": "-> /etc/passwd"}), "symlink out leaves", false},
		{files{"compose.yaml": "-> ../secret.yaml"}, "compose.yaml leaves the repository", false},
		{files{"other.yaml": ""}, "there is no compose.yaml", false},
		{files{"compose.yaml": "services: ["}, "compose.yaml is not YAML", false},
		{files{"compose.yaml": "services: {web: {imagine: x}}"}, "imagine", false},
		{files{"compose.yaml": "services: {}"}, "no services", false},
		{files{"compose.yaml": "services: {web: {image: '${X:?say X}'}}"}, "say X", false},
		{files{"compose.yaml": "services: {a: {image: x}, b: {image: x}}"}, "there are a, b", false},
		{files{"compose.yaml": "services: {a: {image: x, expose: [1, 2]}}"}, "several ports, 1 2", false},
	} {
		_, err := load(t, test.commit, store.ComposeConfig{}, nil)
		problem, ok := store.AsProblem(err)
		if !ok || problem.Code != store.CodeFailed || !strings.Contains(problem.Message, test.says) || problem.Hint == "" {
			t.Errorf("%q: got %v, want a failed Problem with a hint that says %q", test.commit, err, test.says)
			continue
		}
		_, err = load(t, test.commit, store.ComposeConfig{Trusted: true}, nil)
		if allowed := err == nil; allowed != test.trusted {
			t.Errorf("%q: trusted gives %v, want allowed %v", test.commit, err, test.trusted)
		}
		if test.trusted && !strings.Contains(problem.Hint, "shipgate app update shop --trusted") {
			t.Errorf("%q: the hint is %q", test.says, problem.Hint)
		}
	}
}

// A stack that stays inside itself is nobody else's business.
func TestAllowed(t *testing.T) {
	for _, commit := range []files{
		web("pid: service:db", "  db: {image: x, ipc: shareable, network_mode: none}"),
		web("security_opt: ['no-new-privileges:true']"),
		web("volumes_from: [db]", "  db: {image: x}"),
		web("ports: ['8080']"), web("ports: ['80:8080']"), web("ports: ['127.0.0.1:80:8080/tcp']"),
		web("container_name: xyz"), web("restart: always"), web("oom_score_adj: 500"),
		web("volumes: ['./conf:/conf', 'data:/data', '/anonymous']", "volumes: {data: {}}"),
		web("volumes: ['./conf:/conf']").with(files{"conf": "x"}),
		web("env_file: .env").with(files{".env": "A=b"}),
		web("post_start: [{command: x}]"),
		web("sysctls: {net.core.somaxconn: 1024, net.ipv4.tcp_syncookies: 0, kernel.msgmax: 65536}"),
		web("networks: [n]", "networks: {n: {internal: true}}"),
		web("secrets: [s]", "secrets: {s: {environment: S}}"),
		web("extends: {file: sub/base.yaml, service: b}").with(files{"sub/base.yaml": "services: {b: {image: x, extends: {file: ../base.yaml, service: c}}}",
			"base.yaml": "services: {c: {image: y}}"}),
		web("restart: always", "include: [sub/more.yaml]").with(files{"sub/more.yaml": "services: {db: {image: x}}"}),
		web("build: {context: ., args: {A: b}, cache_from: [x], labels: {a: b}, tags: [x], no_cache: true, pull: true}"),
		{"docker-compose.yml": "version: '3'\nservices: {web: {image: x}}"},
		web("restart: always").with(files{"sub/x": "y", "in": "-> sub/x", "missing": "-> sub/none"}),
	} {
		if _, err := load(t, commit, store.ComposeConfig{}, nil); err != nil {
			t.Errorf("%q: %v", commit, err)
		}
	}
}

func TestRouting(t *testing.T) {
	for _, test := range []struct {
		services, service string
		port              int
		routed            string
		listens           int
		wrong             bool
	}{
		{services: "only: {image: x}", routed: "only"},
		{services: "only: {image: x, ports: ['80:3000']}", routed: "only", listens: 3000},
		{services: "only: {image: x, expose: ['3000']}", routed: "only", listens: 3000},
		{services: "only: {image: x, expose: ['3000'], ports: ['80:3000', '53:53/udp']}", routed: "only", listens: 3000},
		{services: "only: {image: x, expose: ['3000', '53/udp']}", routed: "only", listens: 3000},
		{services: "only: {image: x, expose: [1, 2]}", port: 9, routed: "only", listens: 9},
		{services: "only: {image: x, expose: [1, 2]}", wrong: true},
		{services: "a: {image: x}, b: {image: x, expose: [1]}", routed: "b", listens: 1},
		{services: "a: {image: x, expose: [1]}, b: {image: x, expose: [2]}", service: "a", routed: "a", listens: 1},
		{services: "a: {image: x, expose: [1]}, b: {image: x, expose: [2]}", wrong: true},
		{services: "a: {image: x, expose: [1]}, web: {image: x, expose: [2]}", routed: "web", listens: 2},
		{services: "a: {image: x}, app: {image: x}", routed: "app"},
		{services: "web: {image: x}, app: {image: x}", wrong: true},
		{services: "a: {image: x}, b: {image: x}", wrong: true},
		{services: "a: {image: x}", service: "none", wrong: true},
		{services: "a: {image: x}, b: {image: x, profiles: [debug], expose: [1]}", routed: "a"},
	} {
		config := store.ComposeConfig{Service: test.service}
		config.Port = test.port
		m, err := load(t, files{"compose.yaml": "services: {" + test.services + "}"}, config, nil)
		if test.wrong {
			if problem, ok := store.AsProblem(err); !ok || problem.Code != store.CodeFailed || problem.Hint == "" {
				t.Errorf("%s: %v", test.services, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.services, err)
			continue
		}
		if plan := m.Plan(); plan.Routed != test.routed || plan.Port != test.listens {
			t.Errorf("%s: routed %s:%d, want %s:%d", test.services, plan.Routed, plan.Port, test.routed, test.listens)
		}
	}
}

func TestPlan(t *testing.T) {
	m := must(t, files{
		"deploy/my.yaml": `
services:
  web:
    build: {context: ../src, dockerfile: D, target: t, args: {A: "1", FROM_ENV: , UNSET: }}
    container_name: mine
    ports: ["80:8080"]
    volumes: ["../src:/src"]
  db: {image: "postgres:${VERSION:-15}", pull_policy: always, container_name: xyz}
`, "src/D": "FROM scratch"}, store.ComposeConfig{File: "deploy/my.yaml"}, map[string]string{"VERSION": "16", "FROM_ENV": "e"})
	plan := m.Plan()
	wanted := []store.StackService{
		{Name: "db", Image: "postgres:16", Pull: true},
		{Name: "web", Build: &store.StackBuild{Context: "src", Dockerfile: "D", Target: "t", Args: map[string]string{"A": "1", "FROM_ENV": "e"}}},
	}
	if !reflect.DeepEqual(plan.Services, wanted) {
		t.Errorf("services %+v, want %+v", plan.Services, wanted)
	}
	notes := strings.Join(plan.Notes, "\n")
	for _, says := range []string{"container_name", "8080", "read-only"} {
		if !strings.Contains(notes, says) {
			t.Errorf("the notes do not say %s: %s", says, notes)
		}
	}
}

// A file that is small and means much is refused before it costs much.
func TestBombs(t *testing.T) {
	bomb := "a: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("x-%d: &a%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	long := "services:\n" + strings.Repeat("  # no end\n", largestFile/8)
	many := files{"compose.yaml": "include: [0.yaml]"}
	for i := range mostFiles + 1 {
		many[fmt.Sprintf("%d.yaml", i)] = fmt.Sprintf("include: [%d.yaml]", i+1)
	}
	deep := "services: " + strings.Repeat("[", 200_000)
	for name, commit := range map[string]files{"aliases": {"compose.yaml": bomb}, "size": {"compose.yaml": long}, "files": many, "depth": {"compose.yaml": deep}} {
		_, err := load(t, commit, store.ComposeConfig{}, nil)
		if problem, ok := store.AsProblem(err); !ok || problem.Code != store.CodeFailed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The server's environment has no way into a stack.
func TestServerEnvironmentStaysOut(t *testing.T) {
	t.Setenv("SHIPGATE_LEAK", "leaked")
	m := must(t, web("environment: ['A=${SHIPGATE_LEAK}', SHIPGATE_LEAK, 'B=${MINE}', MINE]"), store.ComposeConfig{}, nil)
	if got := *m.project.Services["web"].Environment["A"]; got != "" {
		t.Errorf("A is %q", got)
	}
	if leaked := m.project.Services["web"].Environment["SHIPGATE_LEAK"]; leaked != nil {
		t.Errorf("SHIPGATE_LEAK is %q", *leaked)
	}
	m = must(t, web("environment: ['B=${MINE}', MINE]"), store.ComposeConfig{}, map[string]string{"MINE": "m"})
	for _, name := range []string{"B", "MINE"} {
		if got := m.project.Services["web"].Environment[name]; got == nil || *got != "m" {
			t.Errorf("%s is %v, want the app's value", name, got)
		}
	}
}

// What the plugin is given names no variable that it would take from its own environment.
func TestServerEnvironmentStaysOutOfThePlugin(t *testing.T) {
	commit := web("environment: [HOME, 'GIVEN=1', MINE]\n    configs: [c]", "configs: {c: {environment: SSH_AUTH_SOCK}}")
	rendered := func(env map[string]string) (string, *rendering, error) {
		m := must(t, commit, store.ComposeConfig{}, env)
		r := &rendering{
			Model: m, spec: store.StackSpec{App: "shop", Deployment: 1, Container: "shipgate-01234567.shop.1", Port: 80, Address: netip.MustParseAddrPort("10.0.0.9:80"), Env: env},
			built: store.BuiltStack{Images: map[string]string{"web": "x"}, Routed: "web"}, binds: &binds{model: m, data: t.TempDir(), used: map[string]bool{}},
		}
		out, err := r.render()
		return string(out), r, err
	}
	if _, _, err := rendered(nil); err == nil || !strings.Contains(err.Error(), "config c is the variable SSH_AUTH_SOCK, which is not in the app's env") {
		t.Errorf("a config of the server's environment: %v", err)
	}
	if _, r, err := rendered(map[string]string{"SSH_AUTH_SOCK": ""}); err != nil || !slices.Equal(r.env, []string{"SHIPGATE_SECRET_0="}) {
		t.Errorf("an empty variable of the app: %v", err)
	}
	out, _, err := rendered(map[string]string{"MINE": "m", "SSH_AUTH_SOCK": "of the app"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "HOME") || strings.Contains(out, "SSH_AUTH_SOCK") || !strings.Contains(out, `"environment":{"GIVEN":"1","MINE":"m"}`) || !strings.Contains(out, `"content":"of the app"`) {
		t.Errorf("the plugin is given %s", out)
	}
}

// Each folder of the app's own has one name, without a folder above it that a service could mount.
func TestFoldersOfTheAppAreFlat(t *testing.T) {
	m := must(t, web("volumes: ['./data/pg:/a', './data%2Fpg:/b', './logs:/c']"), store.ComposeConfig{}, nil)
	b := &binds{model: m, data: t.TempDir(), used: map[string]bool{}}
	var places []string
	for _, volume := range m.project.Services["web"].Volumes {
		if err := b.place(&volume); err != nil {
			t.Fatal(err)
		}
		places = append(places, strings.TrimPrefix(volume.Source, b.data+"/"))
		if info, err := os.Lstat(volume.Source); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", volume.Source, err)
		}
	}
	if want := []string{"data%2Fpg", "data%252Fpg", "logs"}; !slices.Equal(places, want) {
		t.Errorf("places %q, want %q", places, want)
	}
}

// harmless are the fields of a service that stay inside the stack, or that are ours to say. A field that compose-go comes
// to know belongs here or among the rules.
var harmless = strings.Fields(`blkio_config cap_drop cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime
	cpus cpuset cpu_shares command configs dns dns_opt dns_search domainname entrypoint environment env_file extra_hosts group_add hostname
	image init labels label_file mem_limit mem_reservation memswap_limit mem_swappiness mac_address networks pids_limit platform
	pull_policy pull_refresh_after read_only secrets shm_size stop_grace_period stop_signal tmpfs ulimits umask user volumes
	working_dir build depends_on expose healthcheck ports stdin_open tty name profiles develop restart scale attach container_name extends
	links`)

func TestEveryFieldIsJudged(t *testing.T) {
	judged := append(slices.Clone(harmless), "cap_add") // which the operator's policy decides
	for _, rule := range serviceRules {
		judged = append(judged, rule.field)
	}
	for _, field := range yamlFields(reflect.TypeFor[types.ServiceConfig]()) {
		if !slices.Contains(judged, field) {
			t.Errorf("field %s of a service is neither harmless nor refused", field)
		}
	}
}

func yamlFields(of reflect.Type) (names []string) {
	for i := range of.NumField() {
		name, options, _ := strings.Cut(of.Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline" && of.Field(i).Type.Kind() == reflect.Struct:
			names = append(names, yamlFields(of.Field(i).Type)...)
		case name != "" && name != "-" && !strings.HasPrefix(name, "#"):
			names = append(names, name)
		}
	}
	return names
}

// What outsiders push never panics, and nothing outside of the checkout is read.
func FuzzLoad(f *testing.F) {
	for _, fields := range []string{
		"privileged: true", "extends: {file: ../secret.yaml, service: web}", "env_file: ../secret.env", "volumes: ['./a:/b', '/etc:/x']",
		"extends: {file: b.yaml, service: web}", "label_file: ../secret.env", "build: {context: ., args: [A]}", "image: '${A:-b}'",
		"configs: [c]\nconfigs: {c: {file: ../secret.env}}", "image: x\ninclude: [../secret.yaml]", "image: x\ninclude: [{path: [b.yaml]}]",
	} {
		f.Add(web(fields)["compose.yaml"], "services: {web: {image: b}}")
	}
	f.Add("a: &a [*a]\nservices: *a", "")
	f.Add("services: {!x web: {extends: {file: ../secret.yaml, service: web}}}", "")
	f.Add("services: {web: {image: x}}\n!x include: [../secret.yaml]", "")
	f.Add("services: !reset null\n---\nservices: {web: {image: x}}", "x: !override {}")
	f.Fuzz(func(t *testing.T, first, second string) {
		if strings.HasPrefix(first, "-> ") || strings.HasPrefix(second, "-> ") {
			return
		}
		m, err := load(t, files{"compose.yaml": first, "b.yaml": second}, store.ComposeConfig{}, map[string]string{"A": "a"})
		if err != nil {
			if problem, ok := store.AsProblem(err); !ok || problem.Code != store.CodeFailed {
				t.Fatalf("%v is not the user's fault", err)
			}
			return
		}
		plan := m.Plan()
		for _, service := range plan.Services {
			if service.Build != nil && !filepath.IsLocal(service.Build.Context) {
				t.Fatalf("build context %q", service.Build.Context)
			}
		}
		for _, service := range m.project.Services {
			for _, volume := range service.Volumes {
				if volume.Type == types.VolumeTypeBind && !m.inside(volume.Source) {
					t.Fatalf("bind of %q", volume.Source)
				}
			}
			if service.Environment["STOLEN"] != nil || service.Image == "stolen" || service.Privileged {
				t.Fatal("the checkout was left")
			}
		}
	})
}

func TestMain(m *testing.M) {
	if os.Getenv(crashingServer) != "" {
		runCrashingServer()
	}
	os.Exit(m.Run())
}
