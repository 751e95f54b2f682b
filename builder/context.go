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
	tree *tree
	root *node
	// stop ends the build that reads the context: fsutil has no way to say that a file cannot be had. It sends an empty
	// one where Open fails, and waits for ever where Read does.
	stop context.CancelCauseFunc
}

func newBuildContext(t *tree, directory string) (*buildContext, error) {
	root := t.find(directory)
	if root == nil || !root.isDirectory() {
		return nil, store.Problemf(store.CodeFailed, "the build context %s is not a directory of the commit", directory).
			WithHint(`commit it, or correct "context": shipgate app update NAME --config-json FILE`)
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
			c.stop(err)
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

// Open reads a file.
func (c *buildContext) Open(name string) (io.ReadCloser, error) {
	content, err := c.open(name)
	if err != nil {
		return c.broken(err), nil
	}
	return content, nil
}

func (c *buildContext) open(name string) (io.ReadCloser, error) {
	n := c.find(name)
	if n == nil || n.isDirectory() {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	if maybeLFS(n.TreeEntry) {
		return c.openSmall(n)
	}
	content, err := c.tree.snapshot.Open(n.Path)
	if err != nil {
		return nil, fmt.Errorf("open %s of the commit: %w", n.Path, err)
	}
	return &contentReader{content: content, context: c, node: n, left: n.Size}, nil
}

// openSmall reads a file that is small enough to be a Git LFS pointer.
func (c *buildContext) openSmall(n *node) (io.ReadCloser, error) {
	data, err := c.tree.read(n, lfsMaxSize)
	if err != nil {
		return nil, err
	}
	if isLFS(data) {
		return nil, lfsProblem(n.Path)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// broken stops the build and gives a reader that has nothing.
func (c *buildContext) broken(err error) io.ReadCloser {
	c.stop(err)
	return io.NopCloser(bytes.NewReader(nil))
}

// contentReader stops the build when a file's content cannot be read, or is not as long as the commit says.
type contentReader struct {
	content io.ReadCloser
	context *buildContext
	node    *node
	left    int64
}

func (r *contentReader) Read(into []byte) (int, error) {
	n, err := r.content.Read(into)
	r.left -= int64(n)
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		r.context.stop(fmt.Errorf("read %s of the commit: %w", r.node.Path, err))
	case r.left != 0:
		r.context.stop(fmt.Errorf("read %s of the commit: %d bytes are missing", r.node.Path, r.left))
	}
	return n, err
}

func (r *contentReader) Close() error { return r.content.Close() }

// check refuses before the build what cannot be built: submodules, names that BuildKit cannot carry, and, where the
// commit says that it uses Git LFS, pointer files. Other pointer files are refused when the build asks for them.
func (c *buildContext) check(dockerfile string, whole bool) error {
	ignored := func(string) bool { return false }
	var err error
	if !whole {
		if ignored, err = c.ignored(dockerfile); err != nil {
			return err
		}
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
