package gitserver

import (
	"context"
	"errors"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// Changed says whether a path that matches differs between two commits: added, removed, of other content or other mode.
// Both commits have to be here; it gives a not_found Problem otherwise.
func (s *Server) Changed(ctx context.Context, app, from, to string, match func(path string) bool) (bool, error) {
	r, err := s.repository(app)
	if err != nil {
		return false, err
	}
	c := &comparison{ctx: ctx, objects: r.packs.Load(), match: match, left: maxSnapshot}
	var trees [2]plumbing.Hash
	for i, sha := range []string{from, to} {
		commit, err := c.objects.commit(plumbing.NewHash(sha))
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return false, store.Problemf(store.CodeNotFound, "%s has no commit %s", app, sha).WithHint("shipgate deploy %s", app)
		}
		if err != nil {
			return false, err
		}
		trees[i] = commit.TreeHash
	}
	return c.trees("", trees[0], trees[1])
}

// comparison walks two trees side by side and never enters what both have.
type comparison struct {
	ctx     context.Context
	objects *objects
	match   func(path string) bool
	left    int
}

func (c *comparison) trees(prefix string, before, after plumbing.Hash) (bool, error) {
	if before == after {
		return false, nil
	}
	if err := c.ctx.Err(); err != nil {
		return false, err
	}
	old, err := c.list(before)
	if err != nil {
		return false, err
	}
	new, err := c.list(after)
	if err != nil {
		return false, err
	}
	if len(prefix) > maxPath {
		return false, refusal("a path of the commit is longer than %d bytes", maxPath)
	}
	for name, e := range new {
		if found, err := c.entry(prefix+name, old[name], e); found || err != nil {
			return found, err
		}
		delete(old, name)
	}
	for name, e := range old {
		if found, err := c.entry(prefix+name, e, treeEntry{}); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// entry compares what two trees have under one name. One of them may have nothing there.
func (c *comparison) entry(path string, before, after treeEntry) (bool, error) {
	if before == after {
		return false, nil
	}
	if (isFile(before) || isFile(after)) && c.match(path) {
		return true, nil
	}
	return c.trees(path+"/", directory(before), directory(after))
}

func isFile(e treeEntry) bool { return e.mode != 0 && e.mode != store.ModeDirectory }

// directory gives the tree of an entry, zero when it is none.
func directory(e treeEntry) plumbing.Hash {
	if e.mode == store.ModeDirectory {
		return e.id
	}
	return plumbing.ZeroHash
}

func (c *comparison) list(id plumbing.Hash) (map[string]treeEntry, error) {
	if id.IsZero() {
		return nil, nil
	}
	content, err := c.objects.readKind(id, plumbing.TreeObject)
	if err != nil {
		return nil, err
	}
	entries := map[string]treeEntry{}
	for len(content) > 0 {
		e, rest, err := nextTreeEntry(content)
		if err != nil {
			return nil, err
		}
		if c.left--; c.left < 0 {
			return nil, refusal("the commits differ in more than %d files and directories", maxSnapshot)
		}
		entries[e.name], content = e, rest
	}
	return entries, nil
}
