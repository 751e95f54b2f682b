package gitserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// youngAge is how long a pack is left as it came: a fetch for a deployment that is only about to be asked for may have
// brought it.
const youngAge = time.Hour

// Collect removes from the repositories what nothing needs any more, and lists it: refs of deployments that are not kept,
// the objects that only those reached, and what a destroyed app left. A dry run only lists. Branches and tags stay, and
// pushes go on meanwhile. What could not be looked through is in the error, beside what was found.
func (s *Server) Collect(ctx context.Context, kept store.Kept, dry bool) ([]store.Garbage, error) {
	if !s.begin() {
		return nil, store.Problemf(store.CodeErrored, "collect garbage: %w", errClosing)
	}
	defer s.pushes.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.closing, func() { cancel(errClosing) })()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	var garbage []store.Garbage
	var errs []error
	for _, e := range entries {
		app, ours := strings.CutSuffix(e.Name(), ".git")
		if !ours || !e.IsDir() || store.ValidateAppName(app) != nil || ctx.Err() != nil {
			continue
		}
		found, err := s.collectApp(ctx, app, kept, dry)
		garbage = append(garbage, found...)
		if err != nil {
			errs = append(errs, fmt.Errorf("collect garbage of repository %s: %w", app, err))
		}
	}
	return garbage, errors.Join(append(errs, context.Cause(ctx))...)
}

func (s *Server) collectApp(ctx context.Context, app string, kept store.Kept, dry bool) ([]store.Garbage, error) {
	_, err := s.store.App(ctx, app)
	if store.CodeOf(err) == store.CodeNotFound {
		return s.collectRemnant(ctx, app, dry)
	}
	if err != nil {
		return nil, err
	}
	r, err := s.repository(app)
	if store.CodeOf(err) == store.CodeNotFound {
		return nil, nil // it is being destroyed
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.alive, cancel)()
	done, err := r.takeTurn(ctx)
	if err == nil {
		defer done()
		c := &collection{server: s, repository: r, kept: kept, dry: dry, dropped: map[int64]bool{}}
		err = c.run(ctx)
		if r.alive.Err() == nil {
			return c.garbage, err
		}
	}
	if r.alive.Err() != nil {
		return nil, nil // all of it goes with the app
	}
	return nil, err
}

// collection is one look through one repository. It has the turn among the repository's fetches.
type collection struct {
	server     *Server
	repository *repository
	kept       store.Kept
	dry        bool
	dropped    map[int64]bool // deployments whose ref is removed
	garbage    []store.Garbage
}

func (c *collection) run(ctx context.Context) error {
	if err := c.dropRefs(ctx); err != nil {
		return err
	}
	if err := c.collectObjects(ctx); err != nil {
		return err
	}
	if c.dry {
		return nil
	}
	return c.repository.settleBoundary()
}

// dropRefs removes the refs of deployments that are not kept. A push creates ref and deployment under the same lock, so
// none is overlooked that is not in the history yet. The newest ref stays: clients are told of it.
func (c *collection) dropRefs(ctx context.Context) error {
	r := c.repository
	r.lock.Lock()
	defer r.lock.Unlock()
	all, err := r.refs.deployments()
	if err != nil || len(all) == 0 {
		return err
	}
	atWork, err := c.server.store.Unfinished(ctx, r.app)
	if err != nil {
		return err
	}
	numbers := slices.Sorted(maps.Keys(all))
	for _, number := range numbers[:len(numbers)-1] {
		if c.kept.Has(r.app, number) || slices.ContainsFunc(atWork, func(d store.Deployment) bool { return d.ID == number }) {
			continue
		}
		c.dropped[number] = true
		c.garbage = append(c.garbage, store.Garbage{Kind: "ref", App: r.app, Name: hiddenRef(number)})
		if c.dry {
			continue
		}
		if err := r.refs.remove(hiddenRef(number)); err != nil {
			return err
		}
	}
	return nil
}

// roots lists what everything that stays is reached from: refs, and what deployments at work will make refs.
func (c *collection) roots(ctx context.Context) ([]plumbing.Hash, error) {
	r := c.repository
	named, err := r.refs.all()
	if err != nil {
		return nil, err
	}
	roots := slices.Collect(maps.Values(named))
	hidden, err := r.refs.deployments()
	if err != nil {
		return nil, err
	}
	for number, id := range hidden {
		if !c.dropped[number] {
			roots = append(roots, id)
		}
	}
	atWork, err := c.server.store.Unfinished(ctx, r.app)
	if err != nil {
		return nil, err
	}
	packs := r.packs.Load()
	for _, d := range atWork {
		for _, sha := range promised(d) {
			if id := plumbing.NewHash(sha); packs.has(id) { // else it is at the forge still
				roots = append(roots, id)
			}
		}
	}
	return roots, nil
}

// promised lists the objects that a deployment at work reads or will make refs.
func promised(d store.Deployment) []string {
	promised := []string{d.SHA}
	for _, update := range d.Updates {
		promised = append(promised, update.New)
	}
	return slices.DeleteFunc(promised, func(sha string) bool { return !plumbing.IsHash(sha) })
}

// collectRemnant removes the repository that a destroyed app has left, or that was made while it was being destroyed. One
// with anything in it that is not from us is not touched.
func (s *Server) collectRemnant(ctx context.Context, app string, dry bool) ([]store.Garbage, error) {
	size, ours, err := remnant(s.path(app))
	if err != nil || !ours {
		return nil, err
	}
	found := []store.Garbage{{Kind: "objects", App: app, Name: app + ".git", Bytes: size}}
	if dry {
		return found, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock() // nobody opens it meanwhile
	if _, err := s.store.App(ctx, app); store.CodeOf(err) != store.CodeNotFound {
		return nil, err // there is one of this name by now
	}
	doomed, err := s.moveAside(app)
	return found, errors.Join(err, os.RemoveAll(doomed))
}

// remnant says whether a repository is one that we made, by what is in it: deployments, or nothing at all.
func remnant(dir string) (size int64, ours bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		return 0, false, ignoreMissing(err)
	}
	deployments, err := refs{dir}.deployments()
	if err != nil {
		return 0, false, err
	}
	objects, err := filepath.Glob(filepath.Join(dir, "objects", "??", "*"))
	if err != nil {
		return 0, false, fmt.Errorf("list objects: %w", err)
	}
	packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*"))
	if err != nil {
		return 0, false, fmt.Errorf("list packs: %w", err)
	}
	for _, path := range packs {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false, fmt.Errorf("measure repository: %w", err)
		}
		size += info.Size()
	}
	_, gits := os.Stat(filepath.Join(dir, "hooks")) // git makes it, and we do not
	return size, len(deployments) > 0 || (len(packs)+len(objects) == 0 && gits != nil), nil
}
