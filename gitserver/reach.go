package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// reach finds everything that some objects lead to.
type reach struct {
	objects *objects
	reached map[plumbing.Hash]struct{}
	todo    []plumbing.Hash // found and not looked into
}

// reachable gives the ids of these objects and of all that they lead to, not beyond the boundary. It is an error when one
// of them is missing: then nothing may be said to be of no use.
func (o *objects) reachable(ctx context.Context, roots []plumbing.Hash) (map[plumbing.Hash]struct{}, error) {
	w := &reach{objects: o.remembering(), reached: map[plumbing.Hash]struct{}{}}
	for _, id := range roots {
		kind, known := o.kind(id)
		if !known {
			return nil, fmt.Errorf("object %s: %w", id, plumbing.ErrObjectNotFound)
		}
		if err := w.find(id, kind); err != nil {
			return nil, err
		}
	}
	for len(w.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		id := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := w.enter(id); err != nil {
			return nil, fmt.Errorf("look into object %s: %w", id, err)
		}
	}
	return w.reached, nil
}

func (w *reach) find(id plumbing.Hash, kind plumbing.ObjectType) error {
	if _, known := w.reached[id]; known {
		return nil
	}
	if !w.objects.has(id) {
		return fmt.Errorf("%s %s: %w", kind, id, plumbing.ErrObjectNotFound)
	}
	w.reached[id] = struct{}{}
	if kind != plumbing.BlobObject {
		w.todo = append(w.todo, id)
	}
	return nil
}

func (w *reach) enter(id plumbing.Hash) error {
	kind, content, err := w.objects.read(id)
	if err != nil {
		return err
	}
	switch kind {
	case plumbing.CommitObject:
		return checkCommit(content, func(to plumbing.Hash, kind plumbing.ObjectType) error {
			if kind == plumbing.CommitObject && w.objects.boundary[id] {
				return nil
			}
			return w.find(to, kind)
		})
	case plumbing.TreeObject:
		return checkTree(content, w.find)
	}
	return checkTag(content, w.find)
}

// leadTo says whether all of the commits in old are reached from those in now, without looking into any tree.
func (o *objects) leadTo(ctx context.Context, now, old []plumbing.Hash) (bool, error) {
	o = o.remembering()
	left, seen := map[plumbing.Hash]bool{}, map[plumbing.Hash]bool{}
	for _, id := range old {
		left[id] = true
	}
	queue := []plumbing.Hash{}
	visit := func(id plumbing.Hash) {
		if !seen[id] {
			seen[id] = true
			delete(left, id)
			queue = append(queue, id)
		}
	}
	for _, id := range now {
		visit(id)
	}
	for ; len(left) > 0 && len(queue) > 0; queue = queue[1:] {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if kind, _ := o.kind(queue[0]); kind != plumbing.CommitObject {
			continue
		}
		commit, err := o.commit(queue[0])
		if err != nil {
			return false, err
		}
		for _, parent := range commit.ParentHashes {
			if o.has(parent) && !o.boundary[queue[0]] {
				visit(parent)
			}
		}
	}
	return len(left) == 0, nil
}

// structure calls what for each object of the pack that leads to others.
func (p *pack) structure(what func(id plumbing.Hash, kind plumbing.ObjectType, content []byte) error) error {
	entries, err := p.index.Entries()
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	walk := (&objects{}).remembering()
	for {
		e, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		f, err := p.at(int64(e.Offset))
		if err != nil {
			return err
		}
		f.built = walk.built
		if kind, err := f.kind(); err != nil {
			return err
		} else if kind == plumbing.BlobObject {
			continue
		}
		kind, content, err := f.build()
		if err != nil {
			return err
		}
		if err := what(e.Hash, kind, content); err != nil {
			return err
		}
	}
}

// closes says whether everything that the pack's objects refer to is among these objects.
func (o *objects) closes(p *pack) (bool, error) {
	links := newLinks(o.boundary)
	if err := p.structure(links.add); err != nil {
		return false, err
	}
	_, _, broken := links.missing(nil, o)
	return !broken, nil
}
