package gitserver

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// keeping says that these deployments of the app are kept, and none up to newest besides.
func keeping(newest int64, deployments ...int64) store.Kept {
	kept := store.Kept{Apps: map[string]map[int64]bool{testApp: {}}, Newest: newest}
	for _, d := range deployments {
		kept.Apps[testApp][d] = true
	}
	return kept
}

func (r *rig) collect(kept store.Kept, dry bool) []store.Garbage {
	r.t.Helper()
	found, err := r.server.Collect(r.t.Context(), kept, dry)
	check(r.t, err)
	return found
}

// files lists what is in the repository, with sizes.
func (r *rig) files() string {
	r.t.Helper()
	var files []string
	check(r.t, filepath.WalkDir(r.bare(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files = append(files, fmt.Sprintf("%s %x", strings.TrimPrefix(path, r.bare()), idOf(plumbing.BlobObject, content)))
		return err
	}))
	return strings.Join(files, "\n")
}

// has says whether native git finds an object in the repository.
func (r *rig) has(id string) bool {
	return gitCommand(r.t, r.bare(), "cat-file", "-e", id).Run() == nil
}

func kinds(garbage []store.Garbage) (names []string) {
	for _, g := range garbage {
		names = append(names, g.Kind)
	}
	return names
}

// deployed fetches one commit after another from the forge, each with content of its own, and gives their ids.
func (f *testForge) deployed(count int) (shas []string) {
	f.t.Helper()
	f.rig.server.youngAge = 0
	f.publish("before all that is deployed")
	for i := range count {
		sha := f.publish(fmt.Sprint("commit ", i+1), "own", unlike(200<<10), "common", numbered(2000, fmt.Sprint(i)), "dir/fixed", "fixed")
		_, err := f.rig.server.Obtain(f.t.Context(), store.Deployment{ID: int64(i + 1), App: testApp, SHA: sha})
		check(f.t, err)
		shas = append(shas, sha)
	}
	return shas
}

func TestCollectWhatWasFetched(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(7)
	before := f.files()
	dry := f.collect(keeping(7, 5, 6, 7), true)
	equal(t, "files after a dry run", f.files(), before)
	found := f.collect(keeping(7, 5, 6, 7), false)
	equal(t, "kinds", fmt.Sprint(kinds(found)), "[ref ref ref ref objects]")
	equal(t, "first ref", found[0].Name, "refs/deployments/1")
	equal(t, "kinds of the dry run", fmt.Sprint(kinds(dry)), fmt.Sprint(kinds(found)))
	freed := found[4].Bytes
	if freed < 4*100<<10 || freed > 8*200<<10 || dry[4].Bytes < freed/2 || dry[4].Bytes > 2*freed {
		t.Errorf("freed %d bytes, %d in the dry run", freed, dry[4].Bytes)
	}
	f.clean()
	for i, sha := range shas {
		equal(t, "commit "+fmt.Sprint(i+1), f.has(sha), i >= 4)
	}
	cut, err := readBoundary(f.bare())
	check(t, err)
	equal(t, "boundary", len(cut), 3)
	equal(t, "packs and indexes", f.packs(), 2)
	equal(t, "what is left to collect", len(f.collect(keeping(7, 5, 6, 7), false)), 0)

	next := f.publish("next", "common", numbered(2000, "next"))
	before = fmt.Sprint(f.count())
	f.mustFetch(next)
	equal(t, "objects before and after a fetch of what changed", fmt.Sprint(before, " ", f.count()), fmt.Sprint(before, " ", f.must(before)+3))
	f.clean()
	for _, sha := range append(shas[4:], next) {
		f.readAll(sha)
	}
}

func (f *testForge) must(count string) (n int) {
	_, err := fmt.Sscan(count, &n)
	check(f.t, err)
	return n
}

// readAll reads each file of a commit through a snapshot and compares it with git's own reading.
func (r *rig) readAll(sha string) {
	r.t.Helper()
	snapshot, err := r.server.Snapshot(r.t.Context(), testApp, sha)
	check(r.t, err)
	r.readThrough(snapshot)
}

func (r *rig) readThrough(snapshot *Snapshot) {
	r.t.Helper()
	entries, err := snapshot.Entries()
	check(r.t, err)
	for _, e := range entries {
		content, err := snapshot.readBlob(e.Blob, e.Path)
		check(r.t, err)
		equal(r.t, e.Path, idOf(plumbing.BlobObject, content).String(), e.Blob)
	}
}

func TestCollectKeepsHistoryAndTags(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.youngAge = 0
	r.deploy(nil)
	c := r.newClone()
	for i := range 4 {
		c.commit(fmt.Sprint(i), "a", numbered(500, fmt.Sprint(i)))
		c.mustPush("main")
	}
	c.git("checkout", "-q", "--orphan", "gone")
	gone := c.commit("gone", "big", unlike(1<<20))
	c.git("tag", "-a", "v1", "-m", "tagged", "main")
	c.mustPush("gone", "v1")
	equal(t, "garbage while the branch is there", fmt.Sprint(kinds(r.collect(keeping(4, 4), false))), "[ref ref ref]")
	c.mustPush("--delete", "gone")
	found := r.collect(keeping(4, 4), false)
	equal(t, "garbage", fmt.Sprint(kinds(found)), "[objects]")
	equal(t, "object of the deleted branch", r.has(gone), false)
	r.clean()
	history, err := gitCommand(t, r.bare(), "rev-list", "--count", "v1").Output()
	check(t, err)
	equal(t, "history", strings.TrimSpace(string(history)), "4")
	into := filepath.Join(t.TempDir(), "copy")
	if out, err := gitCommand(t, t.TempDir(), "clone", "-q", "--branch", "main", r.bare(), into).CombinedOutput(); err != nil {
		t.Errorf("clone: %v\n%s", err, out)
	}
	c.git("checkout", "-q", "main")
	c.commit("later", "a", numbered(500, "later"))
	c.mustPush("main")
	r.clean()
}

// Many packs become one, also where nothing is of no use.
func TestCollectManyPacks(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.youngAge = 0
	r.deploy(nil)
	c := r.newClone()
	var kept []int64
	for i := range manyPacks + 1 {
		c.commit(fmt.Sprint(i), "a", numbered(100, fmt.Sprint(i)))
		c.mustPush("HEAD:refs/heads/other")
		if kept = append(kept, int64(i)); i == manyPacks-1 {
			r.collect(keeping(100, kept...), false)
			equal(t, "packs and indexes before", r.packs(), 2*manyPacks)
		}
	}
	r.collect(keeping(100, kept...), false)
	equal(t, "packs and indexes", r.packs(), 2)
	r.clean()
	r.readAll(c.head())
}

// What came lately is not judged: nobody may have had the time to ask for it.
func TestCollectLeavesYoungPacks(t *testing.T) {
	f := newTestForge(t)
	f.deployed(3)
	f.rig.server.youngAge = youngAge
	before := f.files()
	f.collect(keeping(0), false)
	equal(t, "files", f.files(), before)
	f.mustFetch(f.publish("asked for by nobody", "own", unlike(1<<20)))
	f.opened().look = lastLook{} // as in another process
	equal(t, "garbage while it is young", len(f.collect(keeping(0), false)), 0)
	pack, longAgo := f.newestPack(), time.Now().Add(-2*youngAge)
	check(t, os.Chtimes(pack, longAgo, longAgo))
	keep := strings.TrimSuffix(pack, ".pack") + ".keep"
	check(t, os.WriteFile(keep, nil, 0o644))
	equal(t, "garbage that git was told to keep", len(f.collect(keeping(0), false)), 0)
	check(t, os.Remove(keep))
	f.opened().look = lastLook{} // as in another process
	found := f.collect(keeping(0), false)
	equal(t, "garbage once it is old", fmt.Sprint(kinds(found)), "[objects]")
	f.clean()
}

// A deployment at work needs its commit, and what it will make refs, whether there is a ref yet or not.
func TestCollectKeepsWhatIsPromised(t *testing.T) {
	f := newTestForge(t)
	f.rig.server.youngAge = 0
	wanted := f.publish("wanted", "own", unlike(100<<10))
	f.mustFetch(wanted)
	other := f.publish("moved with it", "own", unlike(100<<10))
	f.mustFetch(other)
	lost := f.publish("lost", "own", unlike(100<<10))
	f.mustFetch(lost)
	d, err := f.store.Enqueue(t.Context(), store.NewDeployment{App: testApp, Trigger: store.TriggerAPI, SHA: wanted,
		Ref: "refs/heads/main", Updates: []store.RefUpdate{{Name: "refs/heads/main", New: wanted}, {Name: "refs/heads/other", New: other}}})
	check(t, err)
	check(t, f.opened().refs.set(hiddenRef(d.ID), plumbing.NewHash(wanted)))
	check(t, f.opened().refs.set(hiddenRef(d.ID+1), plumbing.NewHash(wanted)))
	found := f.collect(keeping(d.ID+1), false)
	equal(t, "garbage", fmt.Sprint(kinds(found)), "[objects]")
	equal(t, "its ref", f.tip(hiddenRef(d.ID)), wanted)
	equal(t, "commit", f.has(wanted), true)
	equal(t, "commit of another update", f.has(other), true)
	equal(t, "commit that nothing needs", f.has(lost), false)
	f.clean()
}

func (f *testForge) opened() *repository { return f.rig.server.repositories[testApp] }

// A repository that lacks something is not made worse.
func TestCollectLeavesDamage(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(3)
	check(t, f.opened().refs.set("refs/heads/broken", plumbing.NewHash(strings.Repeat("ab", 20))))
	_, err := f.rig.server.Collect(t.Context(), keeping(3, 3), false)
	if err == nil {
		t.Fatal("nothing is said")
	}
	contains(t, err.Error(), testApp, strings.Repeat("ab", 20))
	equal(t, "commit", f.has(shas[0]), true)
}

func TestCollectRemnants(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.youngAge = 0
	make := func(name string, change func(dir string)) {
		dir := r.server.path(name)
		check(t, makeRepository(dir))
		change(dir)
	}
	make("empty", func(string) {})
	make("deployed", func(dir string) { check(t, refs{dir}.set(hiddenRef(3), plumbing.NewHash(strings.Repeat("ab", 20)))) })
	make("foreign", func(dir string) {
		check(t, os.WriteFile(filepath.Join(dir, "objects", "pack", "pack-1.pack"), nil, 0o644))
	})
	make(testApp, func(string) {})
	check(t, gitCommand(t, r.dir, "init", "-q", "--bare", r.server.path("bare")).Run())
	all := []string{"bare.git", "deployed.git", "empty.git", "foreign.git", "hello.git"}
	found := r.collect(keeping(3), true)
	equal(t, "remnants in a dry run", len(found), 2)
	equal(t, "repositories", fmt.Sprint(r.repositories()), fmt.Sprint(all))
	_, err := r.server.ensureRepository("empty") // a request that came while the app was being destroyed
	check(t, err)
	found = r.collect(keeping(3), false)
	equal(t, "remnants", found[0].Name+" "+found[1].Name, "deployed.git empty.git")
	equal(t, "repositories", fmt.Sprint(r.repositories()), "[bare.git foreign.git hello.git]")
	r.addApp("empty", `{}`)
	_, err = r.server.ensureRepository("empty")
	check(t, err)
	found, err = r.server.collectRemnant(t.Context(), "empty", false) // it was looked for before
	check(t, err)
	equal(t, "what an app that is there by now loses", len(found), 0)
	equal(t, "its repository", slices.Contains(r.repositories(), "empty.git"), true)
}

func (r *rig) repositories() (names []string) {
	entries, err := os.ReadDir(filepath.Dir(r.bare()))
	check(r.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCollectEndsWithTheServerAndTheApp(t *testing.T) {
	f := newTestForge(t)
	f.deployed(3)
	r := f.opened()
	done, err := r.takeTurn(t.Context())
	check(t, err)
	collected := make(chan error, 1)
	collect := func() {
		_, err := f.rig.server.Collect(context.Background(), keeping(3, 3), false)
		collected <- err
	}
	go collect()
	r.destroy() // as Destroy does before it waits for its turn
	select {
	case err := <-collected:
		check(t, err)
	case <-time.After(time.Minute):
		t.Fatal("a collection holds up the end of an app")
	}
	done()
	check(t, f.rig.server.Destroy(t.Context(), testApp))
	equal(t, "garbage of an app that is being destroyed", len(f.collect(keeping(3, 3), false)), 0)
	equal(t, "repositories", fmt.Sprint(f.repositories()), "[]")
	check(t, f.rig.server.Close())
	go collect()
	if err := <-collected; err == nil {
		t.Error("a closed server collects")
	}
}

// Git may have packed the refs, and a young pack may have some of what is kept.
func TestCollectWhatGitPacked(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(4)
	check(t, gitCommand(t, f.bare(), "pack-refs", "--all").Run())
	later := time.Now().Add(time.Hour)
	young := f.newestPack()
	check(t, os.Chtimes(young, later, later))
	found := f.collect(keeping(4, 3, 4), false)
	equal(t, "garbage", fmt.Sprint(kinds(found)), "[ref ref objects]")
	equal(t, "ref", f.tip("refs/deployments/1"), "")
	equal(t, "kept ref", f.tip("refs/deployments/3"), shas[2])
	equal(t, "packs and indexes", f.packs(), 4)
	for _, p := range f.opened().packs.Load().packs {
		if found, _ := p.index.Contains(plumbing.NewHash(shas[3])); found == strings.Contains(young, p.name) {
			continue
		}
		t.Errorf("pack %s holds what a young one has, or the young one lost it", p.name)
	}
	shared, err := gitCommand(t, f.bare(), "rev-parse", shas[3]+":dir/fixed").Output()
	check(t, err)
	inBoth := 0
	for _, p := range f.opened().packs.Load().packs {
		if found, _ := p.index.Contains(plumbing.NewHash(strings.TrimSpace(string(shared)))); found {
			inBoth++
		}
	}
	equal(t, "packs with a file that all commits have", inBoth, 1)
	f.clean()
}
