package gitserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

func TestFile(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("plain", "settings.yaml", "port: 1\n", "dir/inside.yaml", "inside", "big.yaml", strings.Repeat("#", maxFile), "larger.yaml", strings.Repeat("#", maxFile+1))
	check(t, os.WriteFile(filepath.Join(c.dir, "run"), []byte("executable"), 0o755))
	check(t, os.WriteFile(filepath.Join(c.dir, "empty"), nil, 0o644))
	check(t, os.Symlink("settings.yaml", filepath.Join(c.dir, "link.yaml")))
	c.git("add", "-A")
	c.git("update-index", "--add", "--cacheinfo", "160000,1234567890123456789012345678901234567890,sub")
	c.git("commit", "-q", "-m", "more")
	first := c.head()
	c.mustPush("main")
	c.commit("changed", "settings.yaml", "port: 2\n")
	c.mustPush("main")
	for name, want := range map[string]string{"settings.yaml": "port: 1\n", "run": "executable", "empty": "", "big.yaml": strings.Repeat("#", maxFile)} {
		content, found, err := r.server.File(t.Context(), testApp, first, name)
		check(t, err)
		if !found || string(content) != want {
			t.Errorf("%s: found %t, %d bytes, want %d", name, found, len(content), len(want))
		}
	}
	content, _, err := r.server.File(t.Context(), testApp, c.head(), "settings.yaml")
	check(t, err)
	equal(t, "in the next commit", string(content), "port: 2\n")
	for _, name := range []string{"missing", "settings", "dir", "dir/inside.yaml", "inside.yaml", "link.yaml", "sub", "", ".", "..", "../config"} {
		content, found, err := r.server.File(t.Context(), testApp, first, name)
		if found || err != nil || content != nil {
			t.Errorf("%q: found %t, %q, %v, want nothing", name, found, content, err)
		}
	}
	_, found, err := r.server.File(t.Context(), testApp, first, "larger.yaml")
	equal(t, "code of a large one", store.CodeOf(err), store.CodeFailed)
	equal(t, "found of a large one", found, false)
	contains(t, err.Error(), "larger.yaml")
}

func TestFileOfWhatIsNotHere(t *testing.T) {
	r := newRig(t, Limits{})
	_, _, err := r.server.File(t.Context(), testApp, strings.Repeat("ab", 20), "settings.yaml")
	equal(t, "code before anything was pushed", store.CodeOf(err), store.CodeNotFound)
	c := r.collection(keeping(0))
	_, _, err = r.server.File(t.Context(), testApp, strings.Repeat("ab", 20), "settings.yaml")
	equal(t, "code of an unknown commit", store.CodeOf(err), store.CodeNotFound)
	_, _, err = r.server.File(t.Context(), "../"+testApp, strings.Repeat("ab", 20), "settings.yaml")
	equal(t, "code of no app's name", store.CodeOf(err), store.CodeUsage)
	var p packBuilder
	blob := p.add(plumbing.BlobObject, []byte("x"))
	p.commitOf(treeLine("100664", "settings.yaml", blob)) // a mode of git's first years
	r.take(c.repository, p)
	ids, err := c.repository.packs.Load().commitsWithPrefix("")
	check(t, err)
	content, found, err := r.server.File(t.Context(), testApp, ids[0].String(), "settings.yaml")
	check(t, err)
	equal(t, "content", string(content), "x")
	equal(t, "found", found, true)
}
