package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// served is a data directory with a live site and, where an engine answers, a live container.
type served struct {
	t                   *testing.T // that the proxy lives as long as
	dir, public, listen string
	container           bool
	repositories        map[string]string // by app
}

func newServed(t *testing.T, dir string) *served {
	t.Helper()
	d := &served{t: t, dir: dir, repositories: map[string]string{}, container: exec.Command("docker", "version").Run() == nil}
	s := startServer(t, dir, nil)
	s.ready(t)
	found := must(readServerFile(dir))
	d.public, d.listen = strings.TrimPrefix(found.Public, "http://"), strings.TrimPrefix(found.API, "http://")
	d.deploy(t, "site", map[string]string{"index.html": "the site"}, "--source", "static", "--publish-dir", ".")
	if d.container {
		t.Cleanup(func() { removeLabelled(found.ServerID) })
		app := string(must(os.ReadFile(filepath.Join(programs(t), "testapp"))))
		d.deploy(t, "hello", map[string]string{"testapp": app, "Dockerfile": "FROM scratch\nCOPY testapp /testapp\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n"}, "--source", "dockerfile")
	}
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	return d
}

func (d *served) run(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": d.dir}, stdin, args...)
}

func (d *served) deploy(t *testing.T, app string, files map[string]string, args ...string) {
	t.Helper()
	if got := d.run(t, "", append([]string{"app", "create", app, "--host", app + ".localhost", "--no-token"}, args...)...); got.code != exitDone {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	repository := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(repository, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.repositories[app] = repository
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "One"}, {"push", "-q", d.remote(app), "main"},
	} {
		if output, err := d.git(app, args...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, output)
		}
	}
}

func (d *served) remote(app string) string {
	token := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(d.dir, "admin-token")))))
	return "http://x:" + token + "@" + d.listen + "/" + app + ".git"
}

func (d *served) git(app string, args ...string) *exec.Cmd {
	return exec.Command("git", append([]string{"-C", d.repositories[app], "-c", "user.name=dev", "-c", "user.email=dev@localhost"}, args...)...)
}

// answers checks that what is live is served.
func (d *served) answers(t *testing.T, apps ...string) {
	t.Helper()
	if len(apps) == 0 && d.container {
		apps = []string{"site", "hello"}
	} else if len(apps) == 0 {
		apps = []string{"site"}
	}
	for _, app := range apps {
		request := must(http.NewRequest(http.MethodGet, "http://"+d.public+"/", nil))
		request.Host = app + ".localhost"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Errorf("%s: %v", app, err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d: %s", app, response.StatusCode, body)
		}
	}
}

func (d *served) start(args ...string) *server {
	d.t.Helper()
	return startServer(d.t, d.dir, nil, append([]string{"--public-addr", d.public, "--listen", d.listen}, args...)...)
}

// endProxy ends the proxy, as when the machine starts again.
func (d *served) endProxy(t *testing.T) {
	t.Helper()
	pid := proxyPID(d.dir)
	if pid <= 0 { // 0 would be every process of the test
		t.Fatal("no proxy answers")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for syscall.Kill(pid, 0) == nil && proxyPID(d.dir) != 0 {
	}
}

// dataFault is one thing that happens to a data directory while no server runs.
type dataFault struct {
	name, file string
	make       func(t *testing.T, dir, file string)
	refused    string // what serve says; empty: it starts
	doctor     string // what doctor says
	hint       string
}

func damage(content string) func(*testing.T, string, string) {
	return func(t *testing.T, _, file string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func removed(t *testing.T, _, file string) {
	t.Helper()
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
}

var dataFaults = []dataFault{
	{"missing database", "shipgate.db", removed, "shipgate.db is missing", "shipgate.db is missing", "restore shipgate.db"},
	{"empty database", "shipgate.db", damage(""), "shipgate.db is empty", "shipgate.db is empty", "restore shipgate.db"},
	{"wrong magic", "shipgate.db", damage(strings.Repeat("not a database ", 5000)), "is damaged", "is damaged", "restore shipgate.db"},
	{"truncated database", "shipgate.db", func(t *testing.T, _, file string) {
		if err := os.Truncate(file, 8192); err != nil {
			t.Fatal(err)
		}
	}, "is damaged", "is damaged", "restore shipgate.db"},
	{"missing key", "secret.key", removed, "secret.key is missing", "secret.key is missing", "restore secret.key"},
	{"empty key", "secret.key", damage(""), "secret.key has 0 bytes", "secret.key has 0 bytes", "restore secret.key"},
	{"foreign key", "secret.key", damage(strings.Repeat("k", 32)), "is not the key", "is not the key", "restore secret.key"},
	{"missing repositories", "repos", removed, "repos is missing", "repos is missing", "restore it from your backup"},
	{"unreadable repositories", "repos", func(t *testing.T, dir, file string) {
		removed(t, dir, file)
		damage("a file")(t, dir, file)
	}, "repositories cannot be read", "repositories cannot be read", "ls -ld"},
	{"damaged snapshot", "proxy.json", damage("{"), "", "proxy.json.prev", "shipgate serve"},
	{"two damaged snapshots", "proxy.json", func(t *testing.T, dir, file string) {
		damage("{")(t, dir, file)
		damage("{")(t, dir, file+".prev")
	}, "", "a proxy that starts has no routes", "shipgate serve"},
	{"damaged server.json", "server.json", damage("{"), "", "no server has been started", "shipgate serve"},
	{"missing sites", "sites", removed, "", "the files of the live site of site cannot be read", "shipgate deploy site"},
}

// Whatever is lost or damaged: what is live is served on, also by a proxy that starts only then; serve refuses with exit code
// 5 and says what to restore, or it starts; doctor names the fault, gc removes nothing; and with the file restored all is well.
func TestDataFaults(t *testing.T) {
	t.Parallel()
	short := shortDir(t)
	d := newServed(t, filepath.Join(short, "data"))
	d.answers(t)
	for _, fault := range dataFaults {
		t.Run(fault.name, func(t *testing.T) { d.suffer(t, fault) })
	}
}

func (d *served) suffer(t *testing.T, fault dataFault) {
	file, kept := filepath.Join(d.dir, fault.file), filepath.Join(filepath.Dir(d.dir), "kept")
	if output, err := exec.Command("cp", "-a", file, kept).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	defer d.restore(t, file, kept)
	live := []string{}
	if fault.name == "missing sites" {
		live = []string{"hello"}
	}
	fault.make(t, d.dir, file)
	if fault.name == "missing database" || fault.name == "missing repositories" || fault.name == "two damaged snapshots" {
		d.endProxy(t)
	}
	doctor := d.run(t, "", "doctor")
	if doctor.code != exitFailed || !strings.Contains(doctor.stdout, fault.doctor) || !strings.Contains(doctor.stdout, fault.hint) {
		t.Errorf("doctor: exit %d, %s%s", doctor.code, doctor.stdout, doctor.stderr)
	}
	if gc := d.run(t, "", "gc"); gc.code != exitErrored || !strings.Contains(gc.stdout, "nothing was removed") {
		t.Errorf("gc: exit %d, %s%s", gc.code, gc.stdout, gc.stderr)
	}
	s := d.start()
	if fault.refused != "" {
		code, said := s.end(0)
		if code != exitErrored || !strings.Contains(said, fault.refused) || !strings.Contains(said, fault.hint) {
			t.Errorf("serve: exit %d:\n%s", code, said)
		}
	} else {
		s.ready(t)
		if code, said := s.end(syscall.SIGTERM); code != exitDone {
			t.Errorf("serve: exit %d:\n%s", code, said)
		}
	}
	if fault.name != "missing sites" || d.container {
		d.answers(t, live...)
	}
}

func (d *served) restore(t *testing.T, file, kept string) {
	t.Helper()
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(kept, file); err != nil {
		t.Fatal(err)
	}
	s := d.start()
	s.ready(t)
	doctor := d.run(t, "", "doctor", "--json")
	if strings.Contains(doctor.stdout, "restore") {
		t.Errorf("doctor: exit %d, %s%s", doctor.code, doctor.stdout, doctor.stderr)
	}
	d.answers(t)
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("serve: exit %d:\n%s", code, said)
	}
}
