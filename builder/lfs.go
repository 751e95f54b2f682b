package builder

import (
	"bytes"

	"github.com/shipgate/shipgate/store"
)

// What a Git LFS pointer file looks like: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
const (
	lfsPrefix  = "version https://git-lfs.github.com/spec/v1"
	lfsMaxSize = 1024
)

// maybeLFS says that the file is small enough to be a pointer, so that a look at its content is worth it.
func maybeLFS(entry store.TreeEntry) bool {
	return entry.Size < lfsMaxSize && entry.Size >= int64(len(lfsPrefix)) && entry.Mode != store.ModeSymlink
}

func isLFS(head []byte) bool { return bytes.HasPrefix(head, []byte(lfsPrefix)) }

func lfsProblem(name string) *store.Problem {
	return store.Problemf(store.CodeFailed, "%s is a Git LFS pointer, and the file itself was not pushed", name).
		WithHint("git lfs migrate export --include=%q, then push again", name)
}

func submoduleProblem(name string) *store.Problem {
	return store.Problemf(store.CodeFailed, "%s is a submodule, and its files were not pushed", name).
		WithHint("git rm --cached %s, then commit its files, or leave it out of the build", name)
}
