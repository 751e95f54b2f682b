package gitserver

import (
	"context"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

const forgePassword = "the-forge-password"

// testForge is a real bare repository, served by git itself, and the working copy it is filled from.
type testForge struct {
	*rig
	work     *clone
	root     string
	backend  http.Handler // git
	methodOf atomic.Value // of the last request
	server   *httptest.Server
	requests atomic.Int32
	answer   atomic.Pointer[http.HandlerFunc] // instead of git
	remote   store.Remote
}

func newTestForge(t *testing.T) *testForge {
	t.Helper()
	f := &testForge{rig: newRig(t, Limits{})}
	root := t.TempDir()
	bare := filepath.Join(root, "octo", "hello.git")
	check(t, exec.Command("git", "init", "-q", "--bare", "-b", "main", bare).Run())
	check(t, gitCommand(t, bare, "config", "uploadpack.allowAnySHA1InWant", "true").Run())
	f.work = f.newClone()
	f.work.git("remote", "add", "forge", bare)
	git, err := exec.LookPath("git")
	check(t, err)
	f.root = root
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	f.backend = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TransferEncoding = nil
		backend.ServeHTTP(w, r)
	})
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		f.methodOf.Store(r.Method)
		if answer := f.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		if _, password, _ := r.BasicAuth(); password != forgePassword {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.backend.ServeHTTP(w, r)
	}))
	t.Cleanup(f.server.Close)
	f.remote = store.Remote{URL: f.server.URL + "/octo/hello.git", Username: "x", Password: forgePassword}
	f.rig.server.remote = func(context.Context, store.App) (store.Remote, bool, error) { return f.remote, true, nil }
	return f
}

func (f *testForge) publish(subject string, files ...string) string {
	f.t.Helper()
	sha := f.work.commit(subject, files...)
	f.work.git("push", "-q", "--force", "forge", "HEAD:refs/heads/main")
	return sha
}

func (f *testForge) mustFetch(sha string) {
	f.t.Helper()
	fetched, err := f.rig.server.Fetch(f.t.Context(), testApp, sha)
	check(f.t, err)
	equal(f.t, "fetched", fetched, true)
}

// count gives how many objects are in the repository.
func (f *testForge) count() int {
	f.t.Helper()
	out, err := gitCommand(f.t, f.bare(), "cat-file", "--batch-all-objects", "--batch-check").Output()
	check(f.t, err)
	return strings.Count(string(out), "\n")
}

func (f *testForge) mustRefuse(code store.Code, want string, sha string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	_, err := f.rig.server.Fetch(ctx, testApp, sha)
	if err == nil {
		f.t.Fatal("the fetch went through")
	}
	equal(f.t, "code of "+err.Error(), store.CodeOf(err), code)
	contains(f.t, err.Error(), want)
	if strings.Contains(err.Error(), forgePassword) {
		f.t.Errorf("the password is in %q", err)
	}
}

func TestFetchIsShallowThenIncremental(t *testing.T) {
	f := newTestForge(t)
	f.publish("one", "a", numbered(2000, "1"), "dir/b", "b", "c", "c", "e", "e", "g", "g")
	first := f.publish("two", "a", numbered(2000, "2"))
	f.mustFetch(first)
	equal(t, "objects of one commit", f.count(), 8)
	second := f.publish("three", "dir/b", "changed")
	d := store.Deployment{ID: 7, App: testApp, SHA: first}
	_, err := f.rig.server.Obtain(t.Context(), d)
	check(t, err)
	equal(t, "hidden ref", f.tip("refs/deployments/7"), first)
	f.mustFetch(second)
	equal(t, "objects of two commits", f.count(), 12)
	packs := f.rig.server.repositories[testApp].packs.Load().packs
	count, err := packs[0].index.Count()
	check(t, err)
	if count > 5 {
		t.Errorf("the second pack has %d objects", count)
	}
	before := f.requests.Load()
	fetched, err := f.rig.server.Fetch(t.Context(), testApp, second)
	check(t, err)
	equal(t, "fetched again", fetched, false)
	equal(t, "requests for what is here", f.requests.Load(), before)
	changed, err := f.rig.server.Changed(t.Context(), testApp, first, second, func(p string) bool { return p == "dir/b" })
	check(t, err)
	equal(t, "dir/b changed", changed, true)
	changed, err = f.rig.server.Changed(t.Context(), testApp, first, second, func(p string) bool { return p == "a" })
	check(t, err)
	equal(t, "a changed", changed, false)
	f.clean()
}

func TestPushAfterFetch(t *testing.T) {
	f := newTestForge(t)
	f.deploy(nil)
	f.publish("one", "a", "1")
	first := f.publish("two", "a", "2")
	_, err := f.rig.server.Obtain(t.Context(), store.Deployment{ID: 7, App: testApp, SHA: first})
	check(t, err)
	f.work.commit("three", "a", "3")
	f.work.mustPush("HEAD:refs/heads/main")
	equal(t, "main", f.tip("refs/heads/main"), f.work.head())
	other := f.newClone()
	unrelated := other.commit("other", "x", "x")
	other.mustPush("HEAD:refs/heads/other")
	equal(t, "other", f.tip("refs/heads/other"), unrelated)
	f.mustFetch(f.publish("four", "a", "4"))
	f.clean()
}

func TestCrashBetweenBoundaryAndPack(t *testing.T) {
	f := newTestForge(t)
	f.publish("one", "a", "1")
	sha := f.publish("two", "a", "2")
	r, err := f.rig.server.ensureRepository(testApp)
	check(t, err)
	check(t, writeDurably(shallowFile(r.dir), sha+"\n"))
	r.packs.Load().boundary, err = readBoundary(r.dir)
	check(t, err)
	f.clean()
	f.mustFetch(sha)
	f.clean()
}

func TestFetchRefusals(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	f.mustRefuse(store.CodeErrored, "no longer there", strings.Repeat("ab", 20))
	f.remote.Password = "wrong"
	f.mustRefuse(store.CodeErrored, "octo/hello", sha)
	f.remote.Password = forgePassword
	broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	f.answer.Store(&broken)
	f.mustRefuse(store.CodeUnreachable, "octo/hello", sha)
	var leaked atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked.Store(true) }))
	defer thief.Close()
	away := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL+r.URL.String(), http.StatusFound)
	})
	f.answer.Store(&away)
	f.mustRefuse(store.CodeErrored, "redirects", sha)
	equal(t, "request at another host", leaked.Load(), false)
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	f.answer.Store(&silent)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := f.rig.server.Fetch(ctx, testApp, sha)
	equal(t, "code of silence", store.CodeOf(err), store.CodeUnreachable)
	f.answer.Store(nil)
	f.mustFetch(sha)
	f.clean()
}

func TestFetchTwiceAtOnce(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	var fetched atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			now, err := f.rig.server.Fetch(t.Context(), testApp, sha)
			if err != nil {
				t.Error(err)
			}
			if now {
				fetched.Add(1)
			}
		})
	}
	all.Wait()
	equal(t, "fetches", fetched.Load(), 1)
}

func TestResolveAtForge(t *testing.T) {
	f := newTestForge(t)
	first := f.publish("one", "a", "1")
	f.work.git("tag", "-a", "-m", "text", "v1")
	f.work.git("push", "-q", "forge", "v1")
	second := f.publish("two", "a", "2")
	for ref, want := range map[string]string{"": second, "main": second, "v1": first, first: first} {
		sha, subject, err := f.rig.server.Resolve(t.Context(), testApp, ref)
		check(t, err)
		equal(t, "commit of "+ref, sha, want)
		equal(t, "subject of "+ref, subject, "") // it is at the forge still: what is large is fetched in the lane
		equal(t, "fetched", f.has(want), false)
	}
	d, err := f.store.Enqueue(t.Context(), store.NewDeployment{App: testApp, Trigger: store.TriggerAPI, SHA: second})
	check(t, err)
	_, err = f.rig.server.Obtain(t.Context(), d)
	check(t, err)
	d, err = f.store.Deployment(t.Context(), d.ID)
	check(t, err)
	equal(t, "subject once it is here", d.Subject, "two")
	_, subject, err := f.rig.server.Resolve(t.Context(), testApp, "main")
	check(t, err)
	equal(t, "subject of what is here", subject, "two")
	head, err := f.rig.server.RemoteHead(t.Context(), testApp, "refs/heads/none")
	check(t, err)
	equal(t, "head of no branch", head, "")
	message, err := f.rig.server.Message(t.Context(), testApp, second)
	check(t, err)
	equal(t, "message", message, "two\n")
}
