package gitserver

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// The first request for a pack is held until a second one comes or long enough has passed for it to come.
func TestFetchesOfOneRepositoryExcludeEachOther(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	var posts atomic.Int32
	second := make(chan struct{})
	f.inFetch(func(w http.ResponseWriter, r *http.Request) {
		if posts.Add(1) == 2 {
			close(second)
		}
		select {
		case <-second:
		case <-time.After(500 * time.Millisecond):
		}
		f.backend.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	before := f.requests.Load()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { _, _ = f.rig.server.Fetch(ctx, testApp, sha) })
	}
	all.Wait()
	equal(t, "requests for packs", posts.Load(), 1)
	equal(t, "requests", f.requests.Load()-before, 2)
	f.clean()
}

func TestFetchShapes(t *testing.T) {
	f := newTestForge(t)
	f.mustFetch(f.publish("one", "a", "1"))
	f.work.git("checkout", "-q", "--orphan", "other")
	f.mustFetch(f.publish("unrelated", "b", "1"))
	f.work.git("checkout", "-q", "-b", "side")
	f.publish("side", "c", "1")
	f.work.git("checkout", "-q", "other")
	f.work.commit("own", "d", "1")
	f.work.git("merge", "-q", "-m", "merge", "side")
	merge := f.publish("after")
	f.mustFetch(f.work.git("rev-parse", merge+"^"))
	f.mustFetch(merge)
	f.mustFetch(f.publish("big", "big", randomText(30<<20)))
	f.clean()
}

func TestResolveWithoutForge(t *testing.T) {
	f := newTestForge(t)
	f.deploy(nil)
	sha := f.work.commit("one", "a", "1")
	f.work.mustPush("main")
	ask := f.rig.server.remote
	f.rig.server.remote = func(context.Context, store.App) (store.Remote, bool, error) {
		t.Error("a token was asked for")
		return store.Remote{}, false, nil
	}
	for _, id := range []string{sha, strings.ToUpper(sha)} {
		found, _, err := f.rig.server.Resolve(t.Context(), testApp, id)
		check(t, err)
		equal(t, "commit", found, sha)
	}
	equal(t, "requests", f.requests.Load(), 0)
	f.rig.server.remote = ask
	f.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for _, name := range []string{"", "main", sha[:8]} {
		found, _, err := f.rig.server.Resolve(t.Context(), testApp, name)
		check(t, err)
		equal(t, "commit", found, sha)
	}
	_, _, err := f.rig.server.Resolve(t.Context(), testApp, "elsewhere")
	equal(t, "code", store.CodeOf(err), store.CodeUnreachable)
	f.answerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	_, _, err = f.rig.server.Resolve(t.Context(), testApp, "main")
	equal(t, "code when the forge refuses", store.CodeOf(err), store.CodeErrored)
}

func TestObtainOfNoCommit(t *testing.T) {
	f := newTestForge(t)
	for _, sha := range []string{"", "sha256:1234", "v1"} {
		fetched, err := f.rig.server.Obtain(t.Context(), store.Deployment{ID: 7, App: testApp, SHA: sha})
		check(t, err)
		equal(t, "fetched", fetched, false)
	}
	equal(t, "requests", f.requests.Load(), 0)
	equal(t, "hidden ref", f.tip("refs/deployments/7"), "")
}

func TestPushOfWhatIsOlderThanTheBoundary(t *testing.T) {
	f := newTestForge(t)
	f.deploy(nil)
	older := f.publish("one", "a", numbered(2000, "1"), "b/c", "1")
	f.publish("two", "a", numbered(2000, "2"))
	tip := f.publish("three", "b/c", "3")
	_, err := f.rig.server.Obtain(t.Context(), store.Deployment{ID: 7, App: testApp, SHA: tip})
	check(t, err)
	f.work.mustPush(tip + ":refs/heads/kept")
	f.work.git("fetch", "-q", "forge")
	for _, ref := range []string{"refs/heads/main", "refs/heads/other"} {
		out, ok := f.work.try("push", "--force", "shipgate", older+":"+ref)
		if ok {
			t.Logf("git has sent everything to %s:\n%s", ref, out)
			continue
		}
		contains(t, out, "shipgate deploy "+testApp+" --ref "+older)
	}
	r := f.rig.server.repositories[testApp]
	p := &push{app: store.App{Name: testApp}, repository: r}
	problem, _ := store.AsProblem(p.checkTip(command{name: "refs/heads/main", new: plumbing.NewHash(strings.Repeat("ab", 20))}, r.packs.Load()))
	contains(t, problem.Hint, "shipgate deploy "+testApp+" --ref abab")
	f.clean()
}

// A repository that lost its boundary opens, and says what is wrong when the history is needed.
func TestLostBoundary(t *testing.T) {
	f := newTestForge(t)
	f.publish("one", "a", "1")
	tip := f.publish("two", "a", "2")
	_, err := f.rig.server.Obtain(t.Context(), store.Deployment{ID: 7, App: testApp, SHA: tip})
	check(t, err)
	check(t, os.Remove(shallowFile(f.bare())))
	again, err := New(Options{Store: f.store, Dir: filepath.Dir(f.bare()), Remote: f.rig.server.remote})
	check(t, err)
	defer again.Close()
	r, err := again.ensureRepository(testApp)
	check(t, err)
	reached, known, err := r.packs.Load().isAncestor(plumbing.NewHash(strings.Repeat("ab", 20)), plumbing.NewHash(tip))
	if reached || known || err != nil {
		t.Errorf("ancestor: %v, known %v, %v", reached, known, err)
	}
	_, err = again.Fetch(t.Context(), testApp, f.publish("three", "a", "3"))
	if _, said := store.AsProblem(err); err != nil && !said {
		t.Errorf("not the user's words: %v", err)
	}
}

func TestFollows(t *testing.T) {
	f := newTestForge(t)
	sha := plumbing.NewHash(f.publish("one", "a", "1"))
	f.mustFetch(sha.String())
	for _, c := range []struct {
		name, config, head, pushed, want string
		present                          []string
	}{
		{"nothing", `{}`, "", "refs/heads/topic", mainBranch, nil},
		{"master pushed first", `{}`, "", masterBranch, masterBranch, nil},
		{"main is here", `{}`, "", masterBranch, mainBranch, []string{mainBranch}},
		{"master is here", `{}`, "", mainBranch, masterBranch, []string{masterBranch}},
		{"HEAD settled", `{}`, "refs/heads/trunk", mainBranch, "refs/heads/trunk", []string{mainBranch, "refs/heads/trunk"}},
		{"config", `{"branch":"live"}`, "", mainBranch, "refs/heads/live", []string{mainBranch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			app := f.addApp(strings.ReplaceAll(strings.ToLower(c.name), " ", "-"), c.config)
			r, err := f.rig.server.ensureRepository(app.Name)
			check(t, err)
			for _, name := range c.present {
				check(t, r.refs.set(name, sha))
			}
			if c.head != "" {
				check(t, os.WriteFile(filepath.Join(r.dir, "HEAD"), []byte("ref: "+c.head+"\n"), 0o644))
			}
			branch, tip, err := f.rig.server.Follows(t.Context(), app, c.pushed)
			check(t, err)
			equal(t, "branch", branch, c.want)
			equal(t, "is here", tip != "", len(c.present) > 0 && c.config == `{}`)
		})
	}
}

func TestChanged(t *testing.T) {
	f := newTestForge(t)
	f.deploy(nil)
	base := f.work.commit("base", "a", "1", "dir/b", "1", "dir/deep/c", "1", "x", "1")
	f.work.mustPush("main")
	for _, c := range []struct{ name, path, does string }{
		{"added", "new", "echo 1 > new"},
		{"removed", "a", "rm a"},
		{"modified", "a", "echo 2 > a"},
		{"mode", "a", "chmod +x a"},
		{"file to directory", "a", "rm a; mkdir a; echo 1 > a/z"},
		{"file in what was a file", "a/z", "rm a; mkdir a; echo 1 > a/z"},
		{"directory to file", "dir/deep/c", "rm -r dir; echo 1 > dir"},
		{"file that was a directory", "dir", "rm -r dir; echo 1 > dir"},
		{"submodule", "sub", "git update-index --add --cacheinfo 160000," + base + ",sub; mkdir sub; git init -q sub; git -C sub commit -q --allow-empty -m x"},
		{"nested", "dir/deep/c", "echo 2 > dir/deep/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.work.git("checkout", "-q", "-f", base)
			f.work.git("clean", "-qffdx")
			shell := gitCommand(t, f.work.dir)
			shell.Path, shell.Args = "/bin/sh", []string{"sh", "-c", c.does}
			check(t, shell.Run())
			sha := f.work.commit(c.name)
			f.work.mustPush("--force", "HEAD:refs/heads/topic")
			for _, pair := range [][2]string{{base, sha}, {sha, base}} {
				for _, want := range []bool{true, false} {
					got, err := f.rig.server.Changed(t.Context(), testApp, pair[0], pair[1], func(path string) bool { return (path == c.path) == want && (want || path == "x") })
					check(t, err)
					equal(t, "changed "+c.path, got, want)
				}
			}
		})
	}
	_, err := f.rig.server.Changed(t.Context(), testApp, strings.Repeat("ab", 20), base, func(string) bool { return true })
	equal(t, "code of a missing commit", store.CodeOf(err), store.CodeNotFound)
}
