package builder

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/shipgate/shipgate/store"
)

// buildContext is a directory of the commit as BuildKit reads one. It gives contents only for the files that are asked for.
type buildContext struct {
	tree    *tree
	root    *node
	refused atomic.Pointer[store.Problem] // the first file that must not get into an image
}

func newBuildContext(t *tree, directory string) (*buildContext, error) {
	root := t.find(directory)
	if root == nil || !root.isDirectory() {
		return nil, store.Problemf(store.CodeFailed, "the build context %s is not a directory of the commit", directory)
	}
	return &buildContext{tree: t, root: root}, nil
}

// relative gives a node's path inside the context.
func (c *buildContext) relative(n *node) string {
	if c.root.Path == "" {
		return n.Path
	}
	return strings.TrimPrefix(n.Path, c.root.Path+"/")
}

func (c *buildContext) find(name string) *node {
	return c.tree.find(path.Join(c.root.Path, filepath.ToSlash(name)))
}

// Walk visits everything at and under a path in the order fsutil wants: a directory before its files, all by name.
func (c *buildContext) Walk(ctx context.Context, target string, visit fs.WalkDirFunc) error {
	start := c.find(target)
	if start == nil {
		return nil
	}
	err := c.walk(ctx, start, visit)
	if errors.Is(err, fs.SkipDir) || errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (c *buildContext) walk(ctx context.Context, n *node, visit fs.WalkDirFunc) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n != c.root {
		stat, err := c.stat(n)
		if err != nil {
			return err
		}
		if err := visit(stat.Path, &fsutil.DirEntryInfo{Stat: stat}, nil); err != nil {
			return err
		}
	}
	for _, child := range n.children {
		if child.Mode == store.ModeSubmodule {
			continue // one that is not ignored was refused before the build
		}
		err := c.walk(ctx, child, visit)
		if errors.Is(err, fs.SkipDir) {
			if child.isDirectory() {
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *buildContext) stat(n *node) (*types.Stat, error) {
	stat := &types.Stat{Path: c.relative(n), Size: n.Size, ModTime: fileTime(n.Blob).UnixNano()}
	switch n.Mode {
	case store.ModeDirectory:
		stat.Mode = uint32(os.ModeDir | 0o755)
	case store.ModeExecutable:
		stat.Mode = 0o755
	case store.ModeSymlink:
		target, err := c.tree.linkTarget(n)
		if err != nil {
			return nil, err
		}
		stat.Mode, stat.Linkname = uint32(os.ModeSymlink|0o777), target
	default:
		stat.Mode = 0o644
	}
	return stat, nil
}

// fileTime derives a file's time from its content: BuildKit takes a file of equal size and time for an unchanged one.
// The nanoseconds are never zero, which BuildKit would take for a file system that has none.
func fileTime(blob string) time.Time {
	day := time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)
	var id [8]byte
	if _, err := hex.Decode(id[:], []byte(blob[:min(len(blob), 2*len(id))])); err != nil || blob == "" {
		return day.Add(time.Nanosecond)
	}
	var number uint64
	for _, b := range id {
		number = number<<8 | uint64(b)
	}
	seconds, nanoseconds := number>>32%86400, 1+number&0xffffffff%999_999_999
	return day.Add(time.Duration(seconds)*time.Second + time.Duration(nanoseconds))
}

// Open reads a file. An error comes from the reader, for fsutil would send an empty file where Open itself fails.
func (c *buildContext) Open(name string) (io.ReadCloser, error) {
	n := c.find(name)
	if n == nil || n.isDirectory() {
		return failing(fmt.Errorf("read %s: %w", name, fs.ErrNotExist)), nil
	}
	content, err := c.tree.snapshot.Open(n.Path)
	if err != nil {
		return failing(fmt.Errorf("open %s of the commit: %w", n.Path, err)), nil
	}
	if !maybeLFS(n.TreeEntry) {
		return content, nil
	}
	return c.withoutLFS(n, content), nil
}

func (c *buildContext) withoutLFS(n *node, content io.ReadCloser) io.ReadCloser {
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, lfsMaxSize))
	if err != nil {
		return failing(fmt.Errorf("read %s of the commit: %w", n.Path, err))
	}
	if isLFS(data) {
		problem := lfsProblem(n.Path)
		c.refused.CompareAndSwap(nil, problem)
		return failing(problem)
	}
	return io.NopCloser(bytes.NewReader(data))
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func failing(err error) io.ReadCloser { return io.NopCloser(failingReader{err}) }

// check refuses before the build what cannot be built: submodules, names that BuildKit cannot carry, and, where the
// commit says that it uses Git LFS, pointer files. Other pointer files are refused when the build asks for them.
func (c *buildContext) check(dockerfile string) error {
	ignored, err := c.ignored(dockerfile)
	if err != nil {
		return err
	}
	usesLFS, err := c.usesLFS()
	if err != nil {
		return err
	}
	var refused error
	c.root.files(func(n *node) {
		if refused != nil {
			return
		}
		suspect := n.Mode == store.ModeSubmodule || !utf8.ValidString(n.Path) || usesLFS && maybeLFS(n.TreeEntry)
		if suspect && !ignored(c.relative(n)) {
			refused = c.examine(n)
		}
	})
	return refused
}

func (c *buildContext) examine(n *node) error {
	switch {
	case n.Mode == store.ModeSubmodule:
		return submoduleProblem(n.Path)
	case !utf8.ValidString(n.Path):
		return store.Problemf(store.CodeFailed, "file name %q is not UTF-8, which BuildKit needs", n.Path).
			WithHint("git mv it to another name, or add it to .dockerignore")
	}
	head, err := c.tree.read(n, int64(len(lfsPrefix)))
	if err != nil {
		return err
	}
	if isLFS(head) {
		return lfsProblem(n.Path)
	}
	return nil
}

func (c *buildContext) usesLFS() (uses bool, err error) {
	c.root.files(func(n *node) {
		if n.name() != ".gitattributes" || uses || err != nil {
			return
		}
		var attributes []byte
		attributes, err = c.tree.read(n, 1<<20)
		uses = bytes.Contains(attributes, []byte("filter=lfs"))
	})
	return uses, err
}

// ignored reads the patterns as the Dockerfile frontend does: the Dockerfile's own ignore file goes before the common one.
func (c *buildContext) ignored(dockerfile string) (func(name string) bool, error) {
	nothing := func(string) bool { return false }
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		n, err := c.resolve(name)
		if err != nil {
			continue
		}
		data, err := c.tree.read(n, 1<<20)
		if err != nil {
			return nil, err
		}
		patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
		if err != nil {
			return nil, store.Problemf(store.CodeFailed, "%s: %w", n.Path, err)
		}
		matcher, err := patternmatcher.New(patterns)
		if err != nil {
			return nil, store.Problemf(store.CodeFailed, "%s: %w", n.Path, err)
		}
		return func(name string) bool {
			matches, err := matcher.MatchesOrParentMatches(name)
			return err == nil && matches
		}, nil
	}
	return nothing, nil
}

// resolve gives the regular file at a path of the context.
func (c *buildContext) resolve(name string) (*node, error) {
	n, err := c.tree.resolve(path.Join(c.root.Path, name))
	if err == nil && (n.isDirectory() || n.Mode == store.ModeSubmodule) {
		return nil, errNothing
	}
	return n, err
}
