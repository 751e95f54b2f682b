package gitserver

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// reopened holds that a copy of the repository, as a process that was killed left it, opens and is sound.
func (f *testForge) reopened(stage, sha string, change func(dir string)) {
	f.t.Helper()
	dir := filepath.Join(f.t.TempDir(), "repos")
	check(f.t, os.CopyFS(filepath.Join(dir, testApp+".git"), os.DirFS(f.bare())))
	left := &rig{t: f.t}
	change(filepath.Join(dir, testApp+".git"))
	again, err := New(Options{Store: f.store, Dir: dir, Remote: f.rig.server.remote})
	if err != nil {
		f.t.Errorf("%s: %v", stage, err)
		return
	}
	defer again.Close()
	left.server = again
	left.clean()
	if sha == "" {
		return
	}
	if _, err := again.Fetch(f.t.Context(), testApp, sha); err != nil {
		f.t.Errorf("%s: %v", stage, err)
	}
	left.clean()
	equal(f.t, stage+": the commit is here", again.holds(testApp, sha), true)
}

func TestKilledDuringFetch(t *testing.T) {
	f := newTestForge(t)
	f.publish("base", "a", "1")
	sha := f.publish("one", "a", randomText(1<<20))
	asIs := func(string) {}
	r, err := f.rig.server.ensureRepository(testApp)
	check(t, err)
	f.inFetch(func(w http.ResponseWriter, r *http.Request) {
		f.backend.ServeHTTP(&cutAfter{w, 300 << 10, func() {
			waitFor(t, "spool", func() bool {
				left, _ := filepath.Glob(filepath.Join(f.bare(), quarantinePrefix+"*", "pack"))
				return len(left) > 0
			})
			f.reopened("in mid-pack", "", asIs)
			panic(http.ErrAbortHandler)
		}}, r)
	})
	f.mustRefuse(store.CodeUnreachable, "EOF", sha)
	f.answer.Store(nil)
	r.lock.Lock()
	done := make(chan error, 1)
	go func() {
		_, err := f.rig.server.Fetch(t.Context(), testApp, sha)
		done <- err
	}()
	waitFor(t, "index in the quarantine", func() bool {
		index, _ := filepath.Glob(filepath.Join(f.bare(), quarantinePrefix+"*", "idx"))
		return len(index) > 0
	})
	f.reopened("before the boundary", sha, asIs)
	r.lock.Unlock()
	check(t, <-done)
	f.reopened("after all", sha, asIs)
	remove := func(patterns ...string) func(string) {
		return func(dir string) {
			for _, pattern := range patterns {
				paths, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", pattern))
				equal(t, "files of "+pattern, len(paths), 1)
				for _, path := range paths {
					check(t, os.Remove(path))
				}
			}
		}
	}
	f.reopened("before the index", sha, remove("*.idx"))
	f.reopened("before the pack", sha, remove("*.idx", "*.pack"))
}
