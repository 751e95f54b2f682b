package gitserver

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

const (
	maxSnapshot = 1_000_000 // files and directories; small trees can name each other so that they unfold to any number
	maxPath     = 4096
)

// Snapshot is one commit's tree, read straight from the repository.
type Snapshot struct {
	objects *objects
	tree    plumbing.Hash
	entries func() ([]store.TreeEntry, error)
	byPath  func() (map[string]store.TreeEntry, error)
}

// Snapshot opens the tree of a commit. It gives a not_found Problem when the app has no such commit.
func (s *Server) Snapshot(_ context.Context, app, sha string) (*Snapshot, error) {
	r, err := s.repository(app)
	if err != nil {
		return nil, err
	}
	objects := r.packs.Load()
	commit, err := objects.commit(plumbing.NewHash(sha))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, store.Problemf(store.CodeNotFound, "%s has no commit %s", app, sha).WithHint("push it first")
	}
	if err != nil {
		return nil, err
	}
	snapshot := &Snapshot{objects: objects, tree: commit.TreeHash}
	snapshot.entries = sync.OnceValues(snapshot.walk)
	snapshot.byPath = sync.OnceValues(snapshot.index)
	return snapshot, nil
}

// Entries lists every file in the order of their paths, symlinks and submodules among them, directories not. Sizes are
// in bytes; a submodule's is 0.
func (s *Snapshot) Entries() ([]store.TreeEntry, error) { return s.entries() }

// Open reads the file, or the target of the symlink, at a path of Entries.
func (s *Snapshot) Open(path string) (io.ReadCloser, error) {
	entries, err := s.byPath()
	if err != nil {
		return nil, err
	}
	e, ok := entries[path]
	if !ok || e.Mode == store.ModeSubmodule {
		return nil, store.Problemf(store.CodeNotFound, "the commit has no file %s", path)
	}
	return s.OpenBlob(e.Blob)
}

// OpenBlob reads a file's content by its object id.
func (s *Snapshot) OpenBlob(id string) (io.ReadCloser, error) {
	kind, _, content, err := s.objects.open(plumbing.NewHash(id))
	if err != nil {
		return nil, err
	}
	if kind != plumbing.BlobObject {
		return nil, errors.Join(refusal("object %s is a %s, not a file", id, kind), content.Close())
	}
	return content, nil
}

func (s *Snapshot) index() (map[string]store.TreeEntry, error) {
	entries, err := s.entries()
	if err != nil {
		return nil, err
	}
	byPath := make(map[string]store.TreeEntry, len(entries))
	for _, e := range entries {
		byPath[e.Path] = e
	}
	return byPath, nil
}

func (s *Snapshot) walk() ([]store.TreeEntry, error) {
	w := &treeWalk{objects: s.objects.remembering(), left: maxSnapshot}
	err := w.dir("", s.tree)
	return w.entries, err
}

type treeWalk struct {
	objects *objects
	entries []store.TreeEntry
	left    int
}

func (w *treeWalk) dir(prefix string, id plumbing.Hash) error {
	content, err := w.objects.readKind(id, plumbing.TreeObject)
	if err != nil {
		return err
	}
	for len(content) > 0 {
		e, rest, err := nextTreeEntry(content)
		if err != nil {
			return err
		}
		content = rest
		if w.left--; w.left < 0 {
			return refusal("the commit has more than %d files and directories", maxSnapshot)
		}
		if len(prefix)+len(e.name) > maxPath {
			return refusal("a path of the commit is longer than %d bytes", maxPath)
		}
		if err := w.entry(prefix+e.name, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWalk) entry(path string, e treeEntry) error {
	if e.mode == store.ModeDirectory {
		return w.dir(path+"/", e.id)
	}
	listed := store.TreeEntry{Path: path, Mode: e.mode, Blob: e.id.String()}
	if e.mode == groupWritable {
		listed.Mode = store.ModeFile
	}
	if e.mode != store.ModeSubmodule {
		f, err := w.objects.find(e.id)
		if err != nil {
			return err
		}
		if listed.Size, err = f.size(); err != nil {
			return err
		}
	}
	w.entries = append(w.entries, listed)
	return nil
}
