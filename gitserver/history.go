package gitserver

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

func (o *objects) commit(id plumbing.Hash) (*object.Commit, error) {
	content, err := o.readKind(id, plumbing.CommitObject)
	if err != nil {
		return nil, err
	}
	var encoded plumbing.MemoryObject
	encoded.SetType(plumbing.CommitObject)
	_, _ = encoded.Write(content)
	commit := &object.Commit{}
	if err := commit.Decode(&encoded); err != nil {
		return nil, fmt.Errorf("decode commit %s: %w", id, err)
	}
	return commit, nil
}

// mostLooking bounds what isAncestor may build: some 800,000 commits.
const mostLooking = 1 << 30

// isAncestor says whether old can be reached from new. Where the history is cut off or too long, or new is not here, a
// false is not known to be one.
func (o *objects) isAncestor(old, new plumbing.Hash) (reached, known bool, err error) {
	if !o.has(new) {
		return false, false, nil
	}
	o = o.remembering()
	known = true
	seen := map[plumbing.Hash]bool{new: true}
	for queue := []plumbing.Hash{new}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == old {
			return true, true, nil
		}
		if o.built.cost > mostLooking {
			return false, false, nil
		}
		commit, err := o.commit(queue[0])
		if err != nil {
			return false, false, err
		}
		for _, parent := range commit.ParentHashes {
			if !o.has(parent) { // a boundary, or a repository that was damaged: neither makes the answer known
				if parent == old {
					return true, true, nil
				}
				known = false
				continue
			}
			if !seen[parent] {
				seen[parent] = true
				queue = append(queue, parent)
			}
		}
	}
	return false, known, nil
}

// commitsWithPrefix lists the commits whose id starts with these hex digits.
func (o *objects) commitsWithPrefix(prefix string) ([]plumbing.Hash, error) {
	var ids []plumbing.Hash
	for _, p := range o.packs {
		entries, err := p.index.Entries()
		if err != nil {
			return nil, fmt.Errorf("list objects: %w", err)
		}
		for {
			e, err := entries.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("list objects: %w", err)
			}
			if !strings.HasPrefix(e.Hash.String(), prefix) || slices.Contains(ids, e.Hash) {
				continue
			}
			if kind, _ := o.kind(e.Hash); kind == plumbing.CommitObject {
				ids = append(ids, e.Hash)
			}
		}
	}
	return ids, nil
}

// peel follows annotated tags to the commit.
func (o *objects) peel(id plumbing.Hash) (*object.Commit, error) {
	const deepest = 10
	for range deepest {
		kind, content, err := o.read(id)
		if err != nil {
			return nil, err
		}
		if kind != plumbing.TagObject {
			return o.commit(id)
		}
		id, _, _ = takeID(content, "object ")
	}
	return nil, fmt.Errorf("tag %s: more than %d tags lie over each other", id, deepest)
}
