package gitserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// rig is a git server with a real store behind a real HTTP listener, and one app.
type rig struct {
	t      *testing.T
	store  *store.Store
	server *Server
	http   *httptest.Server
	token  string
	dir    string
	full   atomic.Bool // the disk, as the preflight sees it
}

const testApp = "hello"

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, "data"))
	check(t, err)
	r := &rig{t: t, store: db, dir: dir}
	r.server, err = New(Options{
		Store: db, Dir: filepath.Join(dir, "data", "repos"), Limits: limits,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Preflight: r.preflight,
	})
	check(t, err)
	r.addApp(testApp, `{}`)
	r.token, _, err = db.CreateToken(t.Context(), store.Token{Name: "test", App: testApp, Rights: store.Rights{store.RightDeploy}})
	check(t, err)
	r.http = httptest.NewServer(r.server)
	t.Cleanup(func() {
		r.http.CloseClientConnections()
		r.http.Close()
		check(t, r.server.Close())
		check(t, db.Close())
	})
	return r
}

func (r *rig) preflight(context.Context, store.App) error {
	if !r.full.Load() {
		return nil
	}
	return store.Problemf(store.CodeErrored, "the disk has 12 MiB left, and 1024 MiB are needed").WithHint("shipgate doctor")
}

func (r *rig) addApp(name, config string) store.App {
	r.t.Helper()
	app, err := r.store.CreateApp(r.t.Context(), store.App{Name: name, Source: store.SourceStatic, Config: []byte(config), Hosts: []string{name + ".localhost"}})
	check(r.t, err)
	return app
}

// url is the remote with the token in it.
func (r *rig) url() string {
	return strings.Replace(r.http.URL, "http://", "http://x:"+r.token+"@", 1) + "/" + testApp + ".git"
}

func (r *rig) bare() string { return r.server.path(testApp) }

// tip asks native git what a ref of the server's repository says.
func (r *rig) tip(ref string) string {
	r.t.Helper()
	out, err := gitCommand(r.t, r.bare(), "rev-parse", "--verify", "-q", ref).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// clean holds that nothing is left of a push that is over, and that native git finds nothing wrong.
func (r *rig) clean() {
	r.t.Helper()
	if left, _ := filepath.Glob(filepath.Join(r.bare(), quarantinePrefix+"*")); len(left) > 0 {
		r.t.Errorf("left quarantines: %v", left)
	}
	err := filepath.WalkDir(r.bare(), func(path string, e os.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".lock") || strings.Contains(e.Name(), "tmp")) {
			r.t.Errorf("left file: %s", path)
		}
		return err
	})
	check(r.t, err)
	if out, err := gitCommand(r.t, r.bare(), "fsck", "--full", "--strict").CombinedOutput(); err != nil {
		r.t.Errorf("fsck: %v\n%s", err, out)
	}
}

func (r *rig) packs() int {
	r.t.Helper()
	packs, err := filepath.Glob(filepath.Join(r.bare(), "objects", "pack", "*"))
	check(r.t, err)
	return len(packs)
}

// deployer plays the runner: it takes each deployment through its steps and gives the verdict that the test wants.
type deployer struct {
	rig    *rig
	mu     sync.Mutex
	build  func(ctx context.Context, d store.Deployment) error // nil: succeed at once
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func (r *rig) deploy(build func(ctx context.Context, d store.Deployment) error) *deployer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &deployer{rig: r, build: build, cancel: cancel}
	changed, stop := r.store.Watch(store.QueueTopic)
	w.done.Go(func() {
		defer stop()
		for {
			w.drainQueue(ctx)
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	r.t.Cleanup(w.stop)
	return w
}

// become changes what the next build does.
func (w *deployer) become(build func(ctx context.Context, d store.Deployment) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.build = build
}

func (w *deployer) stop() {
	w.cancel()
	w.done.Wait()
}

func (w *deployer) drainQueue(ctx context.Context) {
	apps, err := w.rig.store.AppsAtWork(ctx)
	for _, app := range apps {
		for {
			var d store.Deployment
			var found bool
			if d, found, err = w.rig.store.Claim(ctx, app); err != nil || !found {
				break
			}
			if err = w.one(ctx, d); err != nil {
				break
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		w.rig.t.Errorf("deployer: %v", err)
	}
}

func (w *deployer) one(ctx context.Context, d store.Deployment) error {
	w.mu.Lock()
	build := w.build
	w.mu.Unlock()
	failure := w.rig.server.Check(ctx, d)
	if failure == nil && build != nil {
		failure = build(ctx, d)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	steps := store.StepsOf(d.Strategy)
	if failure != nil {
		steps = []store.Step{store.StepQueued, store.StepUndoing, store.StepUndone}
	}
	for _, step := range steps[1:] {
		var change store.Change
		switch step {
		case store.StepUndoing, store.StepUndone:
			change.Verdict, change.Reason = store.Failed, failure.Error()
			change.Events = []store.Event{{Kind: "failed", Text: failure.Error()}}
		case store.StepLive:
			if err := w.rig.server.Advance(ctx, d); err != nil {
				return err
			}
			change.Verdict = store.Succeeded
			change.Events = []store.Event{{Kind: "live", Text: "http://hello.localhost in 0.1 s"}}
		}
		var err error
		if d, err = w.rig.store.Advance(ctx, d, step, change); err != nil {
			return err
		}
	}
	return nil
}

// clone is a working copy of the person who pushes.
type clone struct {
	rig *rig
	dir string
}

func (r *rig) newClone() *clone {
	r.t.Helper()
	c := &clone{rig: r, dir: r.t.TempDir()}
	c.git("init", "-q", "-b", "main")
	c.git("remote", "add", "shipgate", r.url())
	return c
}

func gitCommand(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "HOME="+dir,
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	return cmd
}

func (c *clone) git(args ...string) string {
	c.rig.t.Helper()
	out, err := gitCommand(c.rig.t, c.dir, args...).CombinedOutput()
	if err != nil {
		c.rig.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// try runs git and gives what it printed and whether it succeeded.
func (c *clone) try(args ...string) (string, bool) {
	c.rig.t.Helper()
	ctx, cancel := context.WithTimeout(c.rig.t.Context(), time.Minute)
	defer cancel()
	cmd := gitCommand(c.rig.t, c.dir, args...)
	cmd.WaitDelay = time.Second // git's own children may outlive it
	done := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer done()
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func (c *clone) mustPush(args ...string) string {
	c.rig.t.Helper()
	out, ok := c.try(append([]string{"push", "shipgate"}, args...)...)
	if !ok {
		c.rig.t.Fatalf("push %v was refused:\n%s", args, out)
	}
	return out
}

// mustFail holds that a push is refused with this text.
func (c *clone) mustFail(want string, args ...string) string {
	c.rig.t.Helper()
	out, ok := c.try(append([]string{"push", "shipgate"}, args...)...)
	if ok {
		c.rig.t.Fatalf("push %v went through:\n%s", args, out)
	}
	contains(c.rig.t, out, want)
	return out
}

// commit writes files, given as path and content in turn, and commits them.
func (c *clone) commit(subject string, files ...string) string {
	c.rig.t.Helper()
	for pair := range slices.Chunk(files, 2) {
		path := filepath.Join(c.dir, filepath.FromSlash(pair[0]))
		check(c.rig.t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(c.rig.t, os.WriteFile(path, []byte(pair[1]), 0o644))
	}
	c.git("add", "-A")
	c.git("commit", "-q", "--allow-empty", "-m", subject)
	return c.git("rev-parse", "HEAD")
}

func (c *clone) head() string { return c.git("rev-parse", "HEAD") }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// numbered gives text that deltas well.
func numbered(lines int, change string) string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "line %d of a file that is long enough to be worth a delta\n", i)
	}
	return b.String() + change
}
