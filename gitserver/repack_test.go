package gitserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

func (f *testForge) newestPack() string {
	f.t.Helper()
	packs, err := filepath.Glob(filepath.Join(f.bare(), "objects", "pack", "*.pack"))
	check(f.t, err)
	return slices.MaxFunc(packs, func(a, b string) int {
		first, err := os.Stat(a)
		check(f.t, err)
		second, err := os.Stat(b)
		check(f.t, err)
		return first.ModTime().Compare(second.ModTime())
	})
}

func (r *rig) collection(kept store.Kept) *collection {
	r.t.Helper()
	repository, err := r.server.ensureRepository(testApp)
	check(r.t, err)
	return &collection{server: r.server, repository: repository, kept: kept, dropped: map[int64]bool{}}
}

// What a push or a fetch brings back into use, between the look and the change, is not taken away.
func TestRepackGivesWayToWhatCame(t *testing.T) {
	for name, comes := range map[string]func(f *testForge, c *collection, lost string){
		"a ref": func(f *testForge, c *collection, lost string) {
			check(t, c.repository.refs.set("refs/heads/again", plumbing.NewHash(lost)))
		},
		"a deployment": func(f *testForge, c *collection, lost string) {
			_, err := f.store.Enqueue(t.Context(), store.NewDeployment{App: testApp, Trigger: store.TriggerAPI, SHA: lost, Ref: "refs/heads/main"})
			check(t, err)
		},
		"a pack": func(f *testForge, c *collection, lost string) {
			tree, err := gitCommand(t, f.bare(), "rev-parse", lost+"^{tree}").Output()
			check(t, err)
			var p packBuilder
			p.add(plumbing.CommitObject, commitText(plumbing.NewHash(strings.TrimSpace(string(tree)))))
			f.take(c.repository, p)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestForge(t)
			lost := f.deployed(3)[0]
			c := f.collection(keeping(3, 3))
			check(t, c.dropRefs(t.Context()))
			plan, _, err := c.plan(t.Context())
			check(t, err)
			comes(f, c, lost)
			before := f.files()
			_, done, err := c.repack(t.Context(), plan)
			check(t, err)
			equal(t, "done", done, false)
			equal(t, "files", f.files(), before)
			check(t, c.run(t.Context()))
			f.clean()
			equal(t, "tree of what is needed again", f.has(lost+"^{tree}") || name == "a pack", true)
			closed, err := c.repository.packs.Load().closes(c.repository.packs.Load().packs[0])
			check(t, err)
			equal(t, "closed", closed, true)
		})
	}
}

// take lets a hand-made pack in.
func (r *rig) take(repository *repository, p packBuilder) {
	r.t.Helper()
	q, err := repository.ingest(r.t.Context(), bytes.NewReader(p.bytes()), intake{limits: everything})
	check(r.t, err)
	repository.lock.Lock()
	defer repository.lock.Unlock()
	check(r.t, errors.Join(q.promote(repository), q.discard()))
}

// What is judged is of one moment: no root is of a push that the packs are too old for.
func TestCollectJudgesOneMoment(t *testing.T) {
	f := newTestForge(t)
	f.deployed(1)
	c := f.collection(keeping(1))
	judged := make(chan error, 1)
	c.repository.lock.Lock() // as a push between its pack and its ref
	unlock := sync.OnceFunc(c.repository.lock.Unlock)
	defer unlock()
	go func() {
		_, _, err := c.present(t.Context())
		judged <- err
	}()
	select {
	case <-judged:
		t.Fatal("judged in the middle of a push")
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	check(t, <-judged)
}

// A push that was checked before a collection does not come in when that took away what it builds on.
func TestPushAcrossACollection(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(3)
	c := f.collection(keeping(3, 3))
	onto := func(sha string) *quarantine {
		out, err := gitCommand(t, f.bare(), "rev-parse", sha+"^{tree}").Output()
		check(t, err)
		var p packBuilder
		p.add(plumbing.CommitObject, commitText(plumbing.NewHash(strings.TrimSpace(string(out)))))
		q, err := c.repository.ingest(t.Context(), bytes.NewReader(p.bytes()), intake{limits: everything})
		check(t, err)
		return q
	}
	lost, kept := onto(shas[0]), onto(shas[2])
	check(t, c.run(t.Context()))
	c.repository.lock.Lock()
	defer c.repository.lock.Unlock()
	err := lost.promote(c.repository)
	equal(t, "code", store.CodeOf(err), store.CodeConflict)
	problem, _ := store.AsProblem(err)
	equal(t, "hint", problem.Hint, "push again")
	check(t, lost.discard())
	check(t, kept.promote(c.repository))
	check(t, kept.discard())
	f.clean()
}

// A snapshot that was opened before reads on when its packs are gone.
func TestSnapshotAcrossACollection(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(3)
	old, err := f.rig.server.Snapshot(t.Context(), testApp, shas[0])
	check(t, err)
	f.collect(keeping(3, 3), false)
	equal(t, "commit", f.has(shas[0]), false)
	f.readThrough(old)
	if _, err := f.rig.server.Snapshot(t.Context(), testApp, shas[0]); store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("a later snapshot: %v", err)
	}
}

// The files of every moment at which a process can die: each opens, is sound, keeps what is kept, and can be collected.
func TestKilledDuringCollection(t *testing.T) {
	f := newTestForge(t)
	shas := f.deployed(4)
	kept := keeping(4, 3, 4)
	c := f.collection(kept)
	check(t, c.dropRefs(t.Context()))
	before := filepath.Join(t.TempDir(), "before")
	check(t, os.CopyFS(before, os.DirFS(f.bare())))
	plan, _, err := c.plan(t.Context())
	check(t, err)
	q := &quarantine{dir: filepath.Join(f.bare(), quarantinePrefix+"1")}
	check(t, os.Mkdir(q.dir, 0o755))
	check(t, plan.fill(t.Context(), q))
	full := os.DirFS(q.dir)
	name := q.pack.name
	check(t, q.pack.file.Close())
	file := func(dir, kind string) string { return filepath.Join(dir, "objects", "pack", "pack-"+name+kind) }
	place := func(dir, kind string) {
		content, err := os.ReadFile(filepath.Join(q.dir, strings.TrimPrefix(kind, ".")))
		check(t, err)
		check(t, os.WriteFile(file(dir, kind), content, 0o444))
	}
	drop := func(dir string, count int) { // files of old packs, in the order of removePack
		for _, p := range plan.old {
			for _, kind := range packFiles {
				if count == 0 {
					return
				}
				if os.Remove(filepath.Join(dir, "objects", "pack", "pack-"+p.name+kind)) == nil {
					count--
				}
			}
		}
	}
	whole := func(dir string) { place(dir, ".pack"); place(dir, ".idx") }
	moments := map[string]func(dir string){
		"in the quarantine":  func(dir string) { check(t, os.CopyFS(filepath.Join(dir, quarantinePrefix+"1"), full)) },
		"before the index":   func(dir string) { place(dir, ".pack") },
		"before the removal": whole,
	}
	for count := range 2 * len(plan.old) {
		moments[fmt.Sprint("after the removal of ", count+1)] = func(dir string) { whole(dir); drop(dir, count+1) }
	}
	for moment, change := range moments {
		t.Run(moment, func(t *testing.T) { f.collectedAfter(t, before, change, kept, shas) })
	}
	check(t, os.RemoveAll(q.dir))
}

// collectedAfter opens what a process has left and collects.
func (f *testForge) collectedAfter(t *testing.T, before string, change func(dir string), kept store.Kept, shas []string) {
	dir := filepath.Join(t.TempDir(), "repos")
	check(t, os.CopyFS(filepath.Join(dir, testApp+".git"), os.DirFS(before)))
	change(filepath.Join(dir, testApp+".git"))
	again, err := New(Options{Store: f.store, Dir: dir, Remote: f.rig.server.remote})
	check(t, err)
	defer again.Close()
	left := &rig{t: t, server: again, store: f.store}
	left.clean()
	again.youngAge = 0
	left.collect(kept, false)
	left.clean()
	equal(t, "packs and indexes", left.packs(), 2)
	for i, sha := range shas {
		equal(t, "commit "+fmt.Sprint(i+1), left.has(sha), i >= 2)
		if i >= 2 {
			left.readAll(sha)
		}
	}
	cut, err := readBoundary(left.bare())
	check(t, err)
	equal(t, "boundary", len(cut), 2)
}

// A disk that fills up, or a caller that has no more time, changes nothing.
func TestRepackThatBreaksOff(t *testing.T) {
	f := newTestForge(t)
	f.deployed(3)
	c := f.collection(keeping(3, 3))
	check(t, c.dropRefs(t.Context()))
	plan, _, err := c.plan(t.Context())
	check(t, err)
	before := f.files()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, done, err := c.repack(ctx, plan); done || !errors.Is(err, context.Canceled) {
		t.Errorf("done %t, %v", done, err)
	}
	equal(t, "files", f.files(), before)
	f.clean()
	for at := range maps.Values(plan.chosen) { // as a disk does that has lost a bit
		entry := plan.stored[at.pack][at.entry]
		old := filepath.Join(c.repository.packDir(), "pack-"+plan.old[at.pack].name+".pack")
		content, err := os.ReadFile(old)
		check(t, err)
		content[(entry.start+entry.end)/2] ^= 0x10
		check(t, os.Chmod(old, 0o644))
		check(t, os.WriteFile(old, content, 0o644))
		break
	}
	before = f.files()
	if _, done, err := c.repack(t.Context(), plan); done || err == nil {
		t.Errorf("done %t, %v, from a damaged pack", done, err)
	}
	equal(t, "files", f.files(), before)
}

// Two packs can hold two objects each as a delta of the other.
func TestRepackOfACircle(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.youngAge = 0
	c := r.collection(keeping(0))
	one, two := []byte(numbered(50, "one")), []byte(numbered(50, "two"))
	ids := []plumbing.Hash{idOf(plumbing.BlobObject, one), idOf(plumbing.BlobObject, two)}
	var first, second packBuilder
	first.add(plumbing.BlobObject, one)
	first.refDelta(ids[0], replacing(one, "two"))
	second.add(plumbing.BlobObject, two)
	second.refDelta(ids[1], replacing(two, "one"))
	tip := second.commitOf(treeLine("100644", "one", ids[0]), treeLine("100644", "two", ids[1]))
	r.take(c.repository, first)
	r.take(c.repository, second)
	check(t, c.repository.refs.set("refs/heads/main", tip))
	plan, _, err := c.plan(t.Context())
	check(t, err)
	for i, entries := range plan.stored { // the delta of each
		for n, e := range entries {
			f, err := plan.old[i].at(e.start)
			check(t, err)
			if f.header.isDelta() {
				plan.chosen[e.id] = place{i, n}
			}
		}
	}
	plan.useless++
	_, done, err := c.repack(t.Context(), plan)
	check(t, err)
	equal(t, "done", done, true)
	equal(t, "packs and indexes", r.packs(), 2)
	r.clean()
	r.readAll(tip.String())
}

// What comes out may be one of the packs that went in.
func TestRepackIntoTheSamePack(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.youngAge = 0
	c := r.collection(keeping(0))
	var part, all packBuilder
	part.add(plumbing.BlobObject, []byte(unlike(1000)))
	part.add(plumbing.BlobObject, []byte("x"))
	tip := all.commitOf(treeLine("100644", "x", all.add(plumbing.BlobObject, []byte("x"))))
	r.take(c.repository, part)
	r.take(c.repository, all)
	check(t, c.repository.refs.set("refs/heads/main", tip))
	name := c.repository.packs.Load().packs[0].name
	check(t, c.run(t.Context()))
	packs := c.repository.packs.Load().packs
	equal(t, "packs", len(packs), 1)
	equal(t, "name", packs[0].name, name)
	equal(t, "packs and indexes", r.packs(), 2)
	r.clean()
}

// replacing is a delta that keeps all but the last three bytes.
func replacing(base []byte, end string) []byte {
	n := len(base) - len(end)
	code := []byte{0x80 | 0x10 | 0x20, byte(n), byte(n >> 8), byte(len(end))}
	return deltaOf(int64(len(base)), int64(len(base)), append(code, end...)...)
}

// Chains do not grow from one collection to the next beyond what can be read.
func TestRepackCutsLongChains(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.collection(keeping(0))
	var p packBuilder
	text := []byte(numbered(20, "0000"))
	base := p.add(plumbing.BlobObject, text)
	var lines [][]byte
	for i := range deepestCopy + 20 {
		delta := replacing(text, fmt.Sprintf("%04d", i+1))
		p.refDelta(base, delta)
		text = append(slices.Clone(text[:len(text)-4]), fmt.Sprintf("%04d", i+1)...)
		base = idOf(plumbing.BlobObject, text)
		lines = append(lines, treeLine("100644", fmt.Sprintf("f%04d", i), base))
	}
	tip := p.commitOf(lines...)
	r.take(c.repository, p)
	check(t, c.repository.refs.set("refs/heads/main", tip))
	r.server.youngAge = 0
	plan, _, err := c.plan(t.Context())
	check(t, err)
	_, done, err := c.repack(t.Context(), plan)
	check(t, err)
	equal(t, "done", done, true)
	f, err := c.repository.packs.Load().find(base)
	check(t, err)
	chain, err := f.chain()
	check(t, err)
	equal(t, "objects in the chain of the last", len(chain), 19) // the first of all is of no use, and deepestCopy build on the second
	r.clean()
	r.readAll(tip.String())
}

func TestAppendBackIsReadBack(t *testing.T) {
	for _, back := range []int64{1, 127, 128, 16511, 16512, 2113663, 2113664, 1 << 33} {
		got, err := readBack(bytes.NewReader(appendBack(nil, back)))
		check(t, err)
		equal(t, "back", got, back)
	}
}

// A repository in which nothing was lost is not looked through again.
func TestIdleCollectionLooksOnce(t *testing.T) {
	f := newTestForge(t)
	f.deployed(2)
	c := f.collection(keeping(2, 1, 2))
	check(t, c.run(t.Context()))
	plan, look, err := c.plan(t.Context())
	check(t, err)
	equal(t, "packs looked through", len(plan.stored), 0)
	equal(t, "roots remembered", len(look.roots), 2)
	check(t, c.repository.refs.remove(hiddenRef(1)))
	plan, _, err = c.plan(t.Context())
	check(t, err)
	equal(t, "packs looked through when a ref is gone", len(plan.stored), 2)
	look.again = time.Now().Add(-time.Second)
	equal(t, "due once packs are no longer young", look.due(), true)
}

// unlike gives text that is like no other.
func unlike(size int) string {
	text := make([]byte, size/2)
	_, _ = rand.Read(text) // never fails
	return hex.EncodeToString(text)
}
