package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
	"github.com/shipgate/shipgate/web"
)

const cliCommit = "1111111111111111111111111111111111111111"

// desk is the command line against the real API on a real store; only the runner and git are played.
type desk struct {
	t     *testing.T
	store *store.Store
	env   map[string]string
	stdin string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	opened, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	if err := opened.EnsureAdminToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, store: opened}
	handler := web.New(web.Options{
		Store: opened, Runner: deskRunner{opened}, Repositories: deskGit{}, Logger: slog.New(slog.DiscardHandler), Version: "test",
		Logs: func(_ context.Context, _ string, _ int, _ bool, write func(string)) error {
			write("listening")
			return nil
		},
		Destroyed: func(context.Context, string, bool) error { return nil },
		URL:       func(host string) string { return "http://" + host },
	})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	address := fmt.Sprintf(`{"local": %q, "api": %q}`, server.URL, server.URL)
	if err := os.WriteFile(filepath.Join(dir, "server.json"), []byte(address), 0o600); err != nil {
		t.Fatal(err)
	}
	d.env = map[string]string{"SHIPGATE_DATA": dir}
	return d
}

// ended is what one call of the command line left behind.
type ended struct {
	code           int
	stdout, stderr string
}

func (d *desk) run(args ...string) ended {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	return runWith(ctx, d.env, d.stdin, args...)
}

func runWith(ctx context.Context, env map[string]string, stdin string, args ...string) ended {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &stdout, &stderr, func(name string) string { return env[name] })
	return ended{code, stdout.String(), stderr.String()}
}

func (d *desk) must(args ...string) ended {
	d.t.Helper()
	got := d.run(args...)
	if got.code != exitDone {
		d.t.Fatalf("%v: exit %d: %s", args, got.code, got.stderr)
	}
	return got
}

// end gives the app's newest deployment a verdict, as the runner does.
func (d *desk) end(app string, verdict store.Verdict) {
	ctx := context.Background()
	claimed, found, err := d.store.Claim(ctx, app)
	if err != nil || !found {
		d.t.Errorf("claim: %v, found %v", err, found)
		return
	}
	if claimed, err = d.store.Advance(ctx, claimed, store.StepUndoing, store.Change{Verdict: verdict}); err == nil {
		_, err = d.store.Advance(ctx, claimed, store.StepUndone, store.Change{Verdict: verdict, Reason: "so it is told"})
	}
	if err != nil {
		d.t.Error(err)
	}
}

type deskRunner struct{ store *store.Store }

func (r deskRunner) Rollback(_ context.Context, app string, _ int64) (store.Deployment, error) {
	return store.Deployment{}, store.Problemf(store.CodeConflict, "%s has no version before", app)
}
func (deskRunner) SetCallers(context.Context) error                { return nil }
func (deskRunner) Reroute(context.Context, string) error           { return nil }
func (deskRunner) Destroy(context.Context, string) error           { return nil }
func (r deskRunner) StopApp(ctx context.Context, app string) error { return r.store.StopApp(ctx, app) }
func (r deskRunner) StartApp(ctx context.Context, app string) error {
	return r.store.StartApp(ctx, app)
}
func (r deskRunner) PurgeSite(ctx context.Context, app, under string) (int, error) {
	return r.store.PurgeSite(ctx, app, under)
}
func (r deskRunner) Restart(ctx context.Context, app string) (store.Deployment, error) {
	return r.Rollback(ctx, app, 0)
}

type deskGit struct{ http.Handler }

func (deskGit) Resolve(_ context.Context, app, ref string) (string, string, error) {
	if ref != "" {
		return "", "", store.Problemf(store.CodeNotFound, "%s has no %q", app, ref)
	}
	return cliCommit, "One", nil
}

func (deskGit) Upload(context.Context, store.App, string, io.Reader) (store.Upload, error) {
	return store.Upload{}, nil
}

func (deskGit) File(context.Context, string, string, string) ([]byte, bool, error) {
	return nil, false, nil
}

func (deskGit) DeployBranch(context.Context, store.App) (string, string, error) {
	return "refs/heads/main", cliCommit, nil
}
func (deskGit) Destroy(context.Context, string) error { return nil }

// Wrong words end with 2 and say what to type instead, before any server is asked.
func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"bogus":                        "shipgate --help",
		"deplo hello":                  "hint:  shipgate deploy",
		"app bogus":                    "shipgate app --help",
		"app creat hello":              "hint:  shipgate app create",
		"token bogus":                  "shipgate token --help",
		"app list --bogus":             "shipgate app list --help",
		"app list more":                "shipgate app list",
		"app create":                   "shipgate app create NAME",
		"plan":                         "shipgate plan APP",
		"plan a b":                     "shipgate plan APP",
		"env":                          "shipgate env APP",
		"env hello polish":             "shipgate env hello set NAME=VALUE",
		"show":                         "shipgate show DEPLOYMENT",
		"deployments a --limit many":   "shipgate deployments --help",
		"deploy a --ref b --image c":   "shipgate deploy a --ref b",
		"app create a --repo only":     "--repo octocat/hello-world",
		"app create a --volume data":   "--volume data:/var/lib/app",
		"serve":                        "shipgate serve --data",
		"app list":                     "SHIPGATE_URL",
		"app create a --config-json -": "{}",
	} {
		got := runWith(t.Context(), nil, "null", strings.Fields(line)...)
		if got.code != exitUsage || !strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, "hint:") || got.stdout != "" {
			t.Errorf("%s: exit %d, want %q in %q; stdout %q", line, got.code, want, got.stderr, got.stdout)
		}
	}
	for _, line := range []string{"", "app", "token", "--help", "--version", "deploy --help"} {
		if got := runWith(t.Context(), nil, "", strings.Fields(line)...); got.code != exitDone || got.stdout == "" {
			t.Errorf("%q: exit %d, %q", line, got.code, got.stderr)
		}
	}
}

func TestExitCodesOfVerdicts(t *testing.T) {
	d := newDesk(t)
	d.must("app", "create", "hello", "--source", "dockerfile", "--no-token")
	for verdict, want := range map[store.Verdict]int{
		store.Failed: exitFailed, store.Errored: exitErrored, store.Cancelled: exitCancelled,
	} {
		var runner sync.WaitGroup
		changed, stop := d.store.Watch(store.QueueTopic)
		runner.Go(func() {
			<-changed
			d.end("hello", verdict)
		})
		got := d.run("deploy", "hello", "--json")
		runner.Wait()
		stop()
		var shown shownDeployment
		if err := json.Unmarshal([]byte(got.stdout), &shown); err != nil {
			t.Fatalf("%q: %v", got.stdout, err)
		}
		if got.code != want || shown.Verdict != verdict || shown.Reason != "so it is told" {
			t.Errorf("%s: exit %d, want %d: %+v", verdict, got.code, want, shown)
		}
	}
	for verdict, want := range map[store.Verdict]int{store.Succeeded: exitDone, store.Superseded: exitFailed} {
		if got := exitOfVerdict(verdict); got != want {
			t.Errorf("%s: exit %d, want %d", verdict, got, want)
		}
	}
}

// What scripts read: the keys that are promised, in lists that are never null.
func TestJSONShapes(t *testing.T) {
	d := newDesk(t)
	for _, line := range []string{"app list", "token list"} {
		if got := d.must(append(strings.Fields(line), "--json")...); !strings.HasPrefix(got.stdout, "[") {
			t.Errorf("%s: %s", line, got.stdout)
		}
	}
	d.must("app", "create", "hello", "--source", "dockerfile", "--host", "hello.localhost", "--no-token")
	for _, line := range []string{"deployments hello", "env hello"} {
		if got := d.must(append(strings.Fields(line), "--json")...); strings.TrimSpace(got.stdout) != "[]" {
			t.Errorf("%s: %s", line, got.stdout)
		}
	}
	d.must("deploy", "hello", "--no-wait")
	d.end("hello", store.Failed)
	for line, want := range map[string]string{
		"app show hello":         "name source hosts strategy config live",
		"show 1":                 "id app trigger sha ref strategy step verdict reason release container created_at finished_at events",
		"plan hello":             "strategy reason gap forced",
		"deploy hello --no-wait": "id app trigger sha ref strategy step verdict reason release container created_at",
	} {
		var object map[string]any
		got := d.must(append(strings.Fields(line), "--json")...)
		if err := json.Unmarshal([]byte(got.stdout), &object); err != nil {
			t.Fatalf("%s: %v: %s", line, err, got.stdout)
		}
		for _, key := range strings.Fields(want) {
			if _, there := object[key]; !there {
				t.Errorf("%s has no %s: %v", line, key, slices.Sorted(maps.Keys(object)))
			}
		}
	}
}

func TestFlagsBecomeConfig(t *testing.T) {
	d := newDesk(t)
	d.stdin = `{"healthcheck":{"path":"/old","successes":3},"resources":{"pids":9}}`
	for flags, want := range map[string]string{
		"":                              `{"deploy_strategy":"blue-green"}`,
		"--strategy recreate":           `{"deploy_strategy":"recreate"}`,
		"--volume data:/var/lib/app":    `{"deploy_strategy":"recreate","volumes":[{"name":"data","path":"/var/lib/app"}]}`,
		"--volume data:/var/lib/app:ro": `{"deploy_strategy":"blue-green","volumes":[{"name":"data","path":"/var/lib/app","read_only":true}]}`,
		"--strategy blue-green --volume data:/data":  `{"deploy_strategy":"blue-green","volumes":[{"name":"data","path":"/data"}]}`,
		"--source static --publish-dir public":       `{"deploy_strategy":"blue-green","publish_dir":"public"}`,
		"--port 8080 --health /healthz":              `{"deploy_strategy":"blue-green","port":8080,"healthcheck":{"path":"/healthz"}}`,
		"--health /up --health-timeout 1m":           `{"deploy_strategy":"blue-green","healthcheck":{"path":"/up","timeout":"1m0s"}}`,
		"--memory 512m --cpus 1.5":                   `{"deploy_strategy":"blue-green","resources":{"memory":536870912,"cpus":1.5}}`,
		"--repo octocat/hello --branch release":      `{"branch":"release","deploy_strategy":"blue-green","repo_name":"hello","repo_owner":"octocat"}`,
		"--context app --dockerfile D --target prod": `{"context":"app","deploy_strategy":"blue-green","dockerfile":"D","target":"prod"}`,
		"--build-arg A=1 --build-arg B=x=y":          `{"build_args":{"A":"1","B":"x=y"},"deploy_strategy":"blue-green"}`,
		"--config-json - --health /new":              `{"deploy_strategy":"blue-green","healthcheck":{"path":"/new","successes":3},"resources":{"pids":9}}`,
		"--config-json - --cpus 2":                   `{"deploy_strategy":"blue-green","healthcheck":{"path":"/old","successes":3},"resources":{"cpus":2,"pids":9}}`,
	} {
		var app shownApp
		got := d.must(append([]string{"app", "create", "hello", "--source", "dockerfile", "--no-token", "--json"}, strings.Fields(flags)...)...)
		if err := json.Unmarshal([]byte(got.stdout), &app); err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, string(app.Config), want) {
			t.Errorf("%s: %s, want %s", flags, app.Config, want)
		}
		d.must("app", "destroy", "hello", "--yes")
	}
}

func sameJSON(t *testing.T, one, other string) bool {
	t.Helper()
	var first, second any
	if err := json.Unmarshal([]byte(one), &first); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(other), &second); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(first) == fmt.Sprint(second) // maps print in the order of their keys
}

// An update changes what was said, and nothing beside it.
func TestUpdateKeepsTheRest(t *testing.T) {
	d := newDesk(t)
	d.must("app", "create", "hello", "--source", "dockerfile", "--host", "hello.localhost", "--health", "/up", "--no-token")
	d.must("app", "update", "hello", "--health-timeout", "5s")
	app, err := d.store.App(t.Context(), "hello")
	want := `{"deploy_strategy":"blue-green","healthcheck":{"path":"/up","timeout":"5s"}}`
	if err != nil || !slices.Equal(app.Hosts, []string{"hello.localhost"}) || !sameJSON(t, string(app.Config), want) {
		t.Errorf("%v, %v, %s", err, app.Hosts, app.Config)
	}
}

func TestRemoteOfANewApp(t *testing.T) {
	d := newDesk(t)
	got := d.must("app", "create", "hello", "--source", "dockerfile", "--json")
	var created struct{ Remote string }
	if err := json.Unmarshal([]byte(got.stdout), &created); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(created.Remote, "http://x:")
	secret, path, _ := strings.Cut(rest, "@")
	token, err := d.store.Authenticate(t.Context(), secret)
	if err != nil || token.Rights.String() != "read,deploy" || token.App != "hello" || !strings.HasSuffix(path, "/hello.git") {
		t.Errorf("remote %s: %+v, %v", created.Remote, token, err)
	}
}
func TestNotifySystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "notify") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	socket, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	notifySystemd(func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }, "READY=1")
	buffer := make([]byte, 64)
	n, _, err := socket.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != "READY=1" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	notifySystemd(func(string) string { return "" }, "READY=1") // no service manager
}
