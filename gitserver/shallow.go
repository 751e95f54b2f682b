package gitserver

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// boundary holds the commits whose parents need not be here: their history stayed at the forge. It is kept in the file
// "shallow" of the repository, in the format that git itself reads there: one id to a line.
type boundary map[plumbing.Hash]bool

func shallowFile(dir string) string { return filepath.Join(dir, "shallow") }

func readBoundary(dir string) (boundary, error) {
	content, err := os.ReadFile(shallowFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return boundary{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read shallow boundary: %w", err)
	}
	b := boundary{}
	for line := range strings.Lines(string(content)) {
		id := strings.TrimSpace(line)
		if !plumbing.IsHash(id) {
			return nil, fmt.Errorf("read shallow boundary: it holds %.60q", id)
		}
		b[plumbing.NewHash(id)] = true
	}
	return b, nil
}

func (b boundary) sorted() []plumbing.Hash {
	ids := slices.Collect(maps.Keys(b))
	plumbing.HashesSort(ids)
	return ids
}

// with gives the boundary enlarged by these commits.
func (b boundary) with(ids []plumbing.Hash) boundary {
	larger := maps.Clone(b)
	for _, id := range ids {
		larger[id] = true
	}
	return larger
}

// enlargeBoundary records commits as cut off from their parents. It has to be durable before such a commit is in the
// repository: a boundary that names a commit which never came harms nobody, a commit without its parents is damage.
// In this order no crash makes that damage. A repository that came to it otherwise opens all the same; what needs the
// missing history is refused then, by isAncestor's callers and by the check of links.
func (r *repository) enlargeBoundary(ids []plumbing.Hash) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	packs := r.packs.Load()
	return r.setBoundary(packs.boundary.withoutComplete(packs).with(ids))
}

// setBoundary makes it the repository's, durably. The repository is locked.
func (r *repository) setBoundary(b boundary) error {
	packs := r.packs.Load()
	if maps.Equal(b, packs.boundary) {
		return nil
	}
	var content strings.Builder
	for _, id := range b.sorted() {
		content.WriteString(id.String() + "\n")
	}
	if err := writeDurably(shallowFile(r.dir), content.String()); err != nil {
		return fmt.Errorf("write shallow boundary: %w", err)
	}
	r.packs.Store(&objects{packs: packs.packs, boundary: b, collected: packs.collected})
	return nil
}

// settleBoundary forgets the commits that are gone, and those whose parents have come. No fetch may be under way.
func (r *repository) settleBoundary() error {
	r.lock.Lock()
	defer r.lock.Unlock()
	packs := r.packs.Load()
	return r.setBoundary(packs.boundary.incomplete(packs))
}

// incomplete leaves those of the boundary's commits that are here without their history.
func (b boundary) incomplete(o *objects) boundary {
	smaller := b.withoutComplete(o)
	maps.DeleteFunc(smaller, func(id plumbing.Hash, _ bool) bool { return !o.has(id) })
	return smaller
}

// withoutComplete takes out commits whose history a push has brought. A parent that was itself fetched alone is none: as
// a version of its own it may go before its child does.
func (b boundary) withoutComplete(o *objects) boundary {
	smaller := maps.Clone(b)
	for before := -1; before != len(smaller); {
		before = len(smaller)
		maps.DeleteFunc(smaller, func(id plumbing.Hash, _ bool) bool { return o.complete(id, smaller) })
	}
	return smaller
}

// complete says whether a commit is here with all its parents, none of them cut off itself.
func (o *objects) complete(id plumbing.Hash, cut boundary) bool {
	commit, err := o.commit(id)
	missing := func(parent plumbing.Hash) bool { return !o.has(parent) || cut[parent] }
	return err == nil && !slices.ContainsFunc(commit.ParentHashes, missing)
}

// shallows lists the boundary's commits that are here, as clients are told of them.
func (o *objects) shallows() []plumbing.Hash {
	return slices.DeleteFunc(o.boundary.sorted(), func(id plumbing.Hash) bool { return !o.has(id) })
}
