package gitserver

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

func TestSnapshot(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "a.b", "1", "a/z", "", "a/deep/er/file", numbered(3000, "1"), "a0", "x", "Ünïcode name", "2")
	check(t, os.WriteFile(filepath.Join(c.dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755))
	check(t, os.Symlink("a/z", filepath.Join(c.dir, "link")))
	c.git("update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,sub")
	c.commit("Two", "a/deep/er/file", numbered(3000, "2"))
	c.git("update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,sub")
	c.git("commit", "-q", "--amend", "--no-edit")
	sha := c.head()
	c.mustPush("main")

	snapshot, err := r.server.Snapshot(t.Context(), testApp, sha)
	check(t, err)
	entries, err := snapshot.Entries()
	check(t, err)
	var listed []string
	for _, e := range entries {
		listed = append(listed, fmt.Sprintf("%06o %s %d %s", e.Mode, e.Blob, e.Size, e.Path))
	}
	native, err := gitCommand(t, c.dir, "-c", "core.quotePath=false", "ls-tree", "-r", "-l", "-z", sha).Output()
	check(t, err)
	var want []string
	for line := range strings.SplitSeq(strings.TrimSuffix(string(native), "\x00"), "\x00") {
		meta, path, _ := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		want = append(want, fmt.Sprintf("%s %s %s %s", f[0], f[2], strings.Replace(f[3], "-", "0", 1), path))
	}
	equal(t, "entries", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	if !slices.IsSortedFunc(entries, func(a, b store.TreeEntry) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("the entries are not in the order of their paths")
	}
	for _, e := range entries {
		if e.Mode == store.ModeSubmodule {
			continue
		}
		content, err := snapshot.Open(e.Path)
		check(t, err)
		read, err := io.ReadAll(content)
		check(t, err)
		check(t, content.Close())
		native, err := gitCommand(t, c.dir, "cat-file", "blob", e.Blob).Output()
		check(t, err)
		equal(t, e.Path, string(read), string(native))
	}
	for _, path := range []string{"a", "nowhere", "sub", "../a0", "/a0", ""} {
		if _, err := snapshot.Open(path); store.CodeOf(err) != store.CodeNotFound {
			t.Errorf("Open(%q): %v", path, err)
		}
	}
	if _, err := r.server.Snapshot(t.Context(), testApp, strings.Repeat("1", 40)); store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("unknown commit: %v", err)
	}
	if _, err := snapshot.OpenBlob(snapshot.tree.String()); err == nil {
		t.Error("a tree was read as a file")
	}
}

func TestResolve(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	resolve := func(ref string) string {
		sha, subject, err := r.server.Resolve(t.Context(), testApp, ref)
		if err != nil {
			return string(store.CodeOf(err))
		}
		return sha + " " + subject
	}
	equal(t, "nothing pushed", resolve(""), "not_found")
	c := r.newClone()
	first := c.commit("One", "a", "1")
	c.git("tag", "-a", "-m", "x", "v1")
	c.git("tag", "-a", "-m", "x", "v1.1", "v1")
	c.mustPush("main", "v1", "v1.1", "HEAD:refs/tags/dead")
	second := c.commit("Two\n\nwith a body", "a", "2")
	c.mustPush("main")
	blob := c.git("rev-parse", "HEAD:a")
	for ref, want := range map[string]string{
		"": second + " Two", "main": second + " Two", "refs/heads/main": second + " Two", "v1": first + " One", "v1.1": first + " One",
		first: first + " One", first[:7]: first + " One", strings.ToUpper(first[:10]): first + " One", "dead": first + " One",
		"nowhere": "not_found", first[:3]: "not_found", "ffffffffff": "not_found", "../HEAD": "not_found", "HEAD": "not_found",
		blob: "not_found", "refs/heads/../../config": "not_found", "deployments/1": "not_found", "refs/deployments/1": first + " One",
	} {
		equal(t, ref, resolve(ref), want)
	}
}

// Small trees that name each other unfold to more files than anyone has.
func TestTreeBomb(t *testing.T) {
	r := newRig(t, Limits{})
	var p packBuilder
	blob := p.add(plumbing.BlobObject, []byte("x"))
	lines := func(mode string, id plumbing.Hash) (tree []byte) {
		for i := range 10 {
			tree = append(tree, treeLine(mode, fmt.Sprint(i), id)...)
		}
		return tree
	}
	id := p.add(plumbing.TreeObject, lines("100644", blob))
	for range 9 {
		id = p.add(plumbing.TreeObject, lines("40000", id))
	}
	tip := p.add(plumbing.CommitObject, commitText(id))
	contains(t, r.post(request("refs/heads/x", zeroID, tip.String())+string(p.bytes())), "ok refs/heads/x")
	snapshot, err := r.server.Snapshot(t.Context(), testApp, tip.String())
	check(t, err)
	if _, err := snapshot.Entries(); err == nil || !strings.Contains(err.Error(), "more than 1000000") {
		t.Errorf("got %v", err)
	}
}

func TestCheckAndAdvance(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	first := c.commit("One", "a", "1")
	second := c.commit("Two", "a", "2")
	c.git("reset", "-q", "--hard", first)
	aside := c.commit("Aside", "b", "1")
	c.git("push", "-q", "shipgate", second+":refs/heads/x", aside+":refs/heads/y")
	at := func(old, new string) store.Deployment {
		return store.Deployment{ID: 7, App: testApp, SHA: new, Ref: "refs/heads/main", Updates: []store.RefUpdate{{Name: "refs/heads/main", Old: old, New: new}}}
	}
	check(t, r.server.Check(t.Context(), store.Deployment{App: testApp, SHA: first}))
	check(t, r.server.Advance(t.Context(), store.Deployment{App: testApp, SHA: first}))
	for range 2 {
		check(t, r.server.Check(t.Context(), at("", first)))
		check(t, r.server.Advance(t.Context(), at("", first)))
		equal(t, "main", r.tip("refs/heads/main"), first)
	}
	check(t, r.server.Check(t.Context(), at("", second))) // it continues first
	check(t, r.server.Advance(t.Context(), at("", second)))
	err := r.server.Check(t.Context(), at(first, aside))
	equal(t, "code", store.CodeOf(err), store.CodeConflict)
	problem, _ := store.AsProblem(err)
	contains(t, problem.Message+problem.Hint, "main moved to "+second[:7], "git pull --rebase")
	check(t, r.server.Check(t.Context(), at(second, first))) // a rollback, or a forced push
	check(t, r.server.Advance(t.Context(), at(second, first)))
	equal(t, "main", r.tip("refs/heads/main"), first)

	// What moved with it and has moved on stays there when Advance is repeated.
	d := at(first, second)
	d.Updates = append(d.Updates, store.RefUpdate{Name: "refs/heads/y", Old: aside, New: second}, store.RefUpdate{Name: "refs/heads/x", Old: second})
	check(t, r.server.Advance(t.Context(), d))
	equal(t, "y", r.tip("refs/heads/y"), second)
	equal(t, "x", r.tip("refs/heads/x"), "")
	c.git("push", "-q", "--force", "shipgate", first+":refs/heads/y")
	check(t, r.server.Advance(t.Context(), d))
	equal(t, "y", r.tip("refs/heads/y"), first)
	r.clean()
}

func TestSweepAndDestroy(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	c.mustPush("HEAD:x")
	for _, left := range []string{"quarantine-1/pack", "refs/heads/y.lock", "objects/pack/pack-1111111111111111111111111111111111111111.pack", "packed-refs.lock"} {
		path := filepath.Join(r.bare(), left)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, []byte("x"), 0o644))
	}
	check(t, os.MkdirAll(filepath.Join(r.server.dir, ".destroyed-1", "git"), 0o755))
	again, err := New(Options{Store: r.store, Dir: r.server.dir})
	check(t, err)
	r.clean()
	equal(t, "files of packs", r.packs(), 2)
	snapshot, err := again.Snapshot(t.Context(), testApp, sha)
	check(t, err)
	_, err = snapshot.Entries()
	check(t, err)
	check(t, again.Close())

	check(t, r.server.Destroy(t.Context(), testApp))
	check(t, r.server.Destroy(t.Context(), testApp))
	left, err := os.ReadDir(r.server.dir)
	check(t, err)
	equal(t, "left", len(left), 0)
	if err := r.server.Destroy(t.Context(), "../x"); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("a bad name: %v", err)
	}
	c.mustPush("HEAD:x")
	r.clean()
}
