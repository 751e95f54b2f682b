package gitserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mirror sends all refs there are, and takes away what is there no more.
func TestMirror(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.git("remote", "remove", "shipgate")
	c.git("remote", "add", "--mirror=push", "shipgate", r.url()) // another has refs of its own of what it pushed, and mirrors these
	first := c.commit("One", "a", "1")
	c.git("branch", "side")
	c.git("tag", "-a", "-m", "x", "v1")
	c.git("notes", "add", "-m", "a note")
	contains(t, c.mustPush(), "deployment 1", "side stored")
	for _, ref := range []string{"refs/heads/main", "refs/heads/side", "refs/tags/v1^{commit}"} {
		equal(t, ref, r.tip(ref), first)
	}
	c.git("branch", "-D", "side")
	c.git("tag", "-d", "v1")
	second := c.commit("Two", "a", "2")
	contains(t, c.mustPush(), "deployment 2")
	equal(t, "main", r.tip("refs/heads/main"), second)
	equal(t, "side", r.tip("refs/heads/side"), "")
	equal(t, "v1", r.tip("refs/tags/v1"), "")
	r.clean()
}

// A clone that has no blobs of its own sends what it changed.
func TestPartialClone(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "a", "1", "b/c", "2")
	c.mustPush("main")
	c.git("config", "uploadpack.allowFilter", "true")
	for _, filter := range []string{"blob:none", "tree:0"} {
		partial := &clone{rig: r, dir: t.TempDir()}
		partial.git("clone", "-q", "--filter="+filter, "--no-checkout", "file://"+c.dir, "p")
		partial.dir = filepath.Join(partial.dir, "p")
		partial.git("checkout", "-q", "main")
		partial.git("remote", "add", "shipgate", r.url())
		sha := partial.commit("From "+filter, "b/d", filter)
		partial.mustPush("--force", "main")
		equal(t, filter, r.tip("refs/heads/main"), sha)
	}
	r.clean()
}

// Two versions that replace each other, again and again: each push is a deployment, and nothing is lost on the way.
func TestForcedBackAndForth(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	base := c.commit("Base", "a", "0")
	one := c.commit("One", "a", "1")
	c.git("reset", "-q", "--hard", base)
	two := c.commit("Two", "a", "2")
	for i, sha := range []string{one, two, base, two, one, base, one} {
		contains(t, c.mustPush("--force", sha+":refs/heads/main"), fmt.Sprintf("deployment %d", i+1))
		equal(t, "main", r.tip("refs/heads/main"), sha)
	}
	r.clean()
}

// Files that only change their name, folders that become files, and the other way round.
func TestRenames(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "readme", "1", "dir/a", "2", "dir/b", "3")
	c.mustPush("main")
	for _, moves := range [][]string{{"readme", "README"}, {"dir", "folder"}, {"README", "dir"}, {"folder", "a b"}, {"dir", "a b/dir"}} {
		c.git("mv", moves[0], moves[1])
		sha := c.commit("Move " + moves[0])
		c.mustPush("main")
		snapshot, err := r.server.Snapshot(t.Context(), testApp, sha)
		check(t, err)
		entries, err := snapshot.Entries()
		check(t, err)
		var got []string
		for _, entry := range entries {
			got = append(got, entry.Path)
		}
		equal(t, "files", strings.Join(got, "\n"), c.git("-c", "core.quotePath=false", "ls-files"))
	}
	r.clean()
}

// The subject of a commit is anybody's text, and is shown in terminals.
func TestSubjectsAreShownPlain(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	for i, subject := range []string{"\x1b[2J\x1b[31mred\x1b[0m", "a\u202egnp.exe", "\x1b]0;title\x07x", "\u009b31mx", "bell\x07\x08\x08", "a\u2066b\u2069"} {
		file := filepath.Join(c.dir, ".git", "message")
		check(t, os.WriteFile(file, []byte(subject), 0o600))
		c.git("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", file)
		out := c.mustPush("main")
		d, err := r.store.Deployment(t.Context(), int64(i+1))
		check(t, err)
		for what, text := range map[string]string{"push": strings.ReplaceAll(out, "\x1b[K", ""), "subject": d.Subject} { // git's own
			if strings.ContainsAny(text, "\x1b\x07\x08\u202e\u009b\u2066\u2069") {
				t.Errorf("%q: the %s is %q", subject, what, text)
			}
		}
	}
}
