package builder

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/shipgate/shipgate/store"
)

const (
	maxLinks      = 40 // symlinks followed on the way to one file, as Linux allows
	maxLinkTarget = 4096
)

// node is one file of a snapshot, or one of the directories between them.
type node struct {
	store.TreeEntry         // of a directory only Path and Mode are set
	children        []*node // by name
}

func (n *node) isDirectory() bool { return n.Mode == store.ModeDirectory }
func (n *node) name() string      { return path.Base(n.Path) }

func (n *node) child(name string) *node {
	at, found := slices.BinarySearchFunc(n.children, name, func(c *node, name string) int { return strings.Compare(c.name(), name) })
	if !found {
		return nil
	}
	return n.children[at]
}

// tree is a snapshot with its directories, which git lists only by their files.
type tree struct {
	root     *node
	snapshot Snapshot
}

func newTree(snapshot Snapshot) (*tree, error) {
	entries, err := snapshot.Entries()
	if err != nil {
		return nil, fmt.Errorf("list the commit's files: %w", err)
	}
	directories := map[string]*node{}
	root := &node{TreeEntry: store.TreeEntry{Mode: store.ModeDirectory}}
	directories["."] = root
	var add func(entry store.TreeEntry) *node
	add = func(entry store.TreeEntry) *node {
		parent, known := directories[path.Dir(entry.Path)]
		if !known {
			parent = add(store.TreeEntry{Path: path.Dir(entry.Path), Mode: store.ModeDirectory})
			directories[parent.Path] = parent
		}
		n := &node{TreeEntry: entry}
		parent.children = append(parent.children, n)
		return n
	}
	for _, entry := range entries {
		add(entry)
	}
	// Git sorts a directory as if its name ended in a slash; everybody else goes by the plain name.
	for _, directory := range directories {
		slices.SortFunc(directory.children, func(a, b *node) int { return strings.Compare(a.name(), b.name()) })
	}
	return &tree{root: root, snapshot: snapshot}, nil
}

// find gives the node at a path without following symlinks, or nil.
func (t *tree) find(name string) *node {
	found := t.root
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." || part == "" {
			continue
		}
		if found = found.child(part); found == nil {
			return nil
		}
	}
	return found
}

var (
	errOutside = errors.New("it points out of the repository")
	errNothing = errors.New("it points to nothing")
	errLoop    = errors.New("it points to itself")
)

// resolve gives the file or directory at a path, following the symlinks that stay inside the tree.
func (t *tree) resolve(name string) (*node, error) {
	budget := maxLinks
	return t.follow(t.root, name, &budget)
}

func (t *tree) follow(from *node, name string, budget *int) (*node, error) {
	at := from
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if at == t.root {
				return nil, errOutside
			}
			at = t.find(path.Dir(at.Path))
			continue
		}
		parent := at
		if at = parent.child(part); at == nil {
			return nil, errNothing
		}
		if at.Mode != store.ModeSymlink {
			continue
		}
		if *budget--; *budget < 0 {
			return nil, errLoop
		}
		target, err := t.linkTarget(at)
		if err != nil {
			return nil, err
		}
		if path.IsAbs(target) {
			return nil, errOutside
		}
		if at, err = t.follow(parent, target, budget); err != nil {
			return nil, err
		}
	}
	return at, nil
}

func (t *tree) linkTarget(n *node) (string, error) {
	target, err := t.read(n, maxLinkTarget)
	return string(target), err
}

// read gives a file's content, at most limit bytes of it.
func (t *tree) read(n *node, limit int64) ([]byte, error) {
	content, err := t.snapshot.Open(n.Path)
	if err != nil {
		return nil, fmt.Errorf("open %s of the commit: %w", n.Path, err)
	}
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s of the commit: %w", n.Path, err)
	}
	return data, nil
}

// files goes through all files under a node, by path.
func (n *node) files(visit func(*node)) {
	for _, child := range n.children {
		if child.isDirectory() {
			child.files(visit)
		} else {
			visit(child)
		}
	}
}
