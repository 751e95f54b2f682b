package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

const (
	manyPacks      = 20 // beyond them each look-up costs, and they are made one
	garbageShare   = 10 // the packs are written anew when more than one part in so many is of no use
	repackAttempts = 3  // a push may bring back into use what was just found to be of none
)

// lastLook is what the last collection of a repository saw, so that the next one need not look where nothing was lost.
type lastLook struct {
	roots []plumbing.Hash // nil: there was none in this process
	again time.Time       // when packs that were young then are not; zero: there were none
}

// collectObjects writes those packs anew, as one, that hold much of no use, or are many. Readers of the old ones go on
// reading their open files, which the runtime closes behind the last of them.
func (c *collection) collectObjects(ctx context.Context) error {
	for range repackAttempts {
		plan, look, err := c.plan(ctx)
		if err != nil {
			return err
		}
		if c.dry {
			c.found(plan, plan.kept)
			return nil
		}
		if plan.worth() {
			size, done, err := c.repack(ctx, plan)
			if err != nil {
				return fmt.Errorf("repack: %w", err)
			}
			if !done {
				continue
			}
			c.found(plan, size)
		}
		c.repository.look = look
		return nil
	}
	c.server.log.Info("repository changes too much to be repacked now", "app", c.repository.app)
	return nil
}

func (c *collection) found(plan *repackPlan, size int64) {
	if freed := plan.size - size; plan.worth() && freed > 0 {
		name := fmt.Sprintf("%d objects in %d packs", plan.useless, len(plan.old))
		c.garbage = append(c.garbage, store.Garbage{Kind: "objects", App: c.repository.app, Name: name, Bytes: freed})
	}
}

// plan says what is of use in the old packs, unless nothing can have been lost since the last look: then it is empty.
func (c *collection) plan(ctx context.Context) (*repackPlan, lastLook, error) {
	last := c.repository.look
	packs, roots, err := c.present(ctx)
	if err != nil {
		return nil, last, err
	}
	old, young, newest, err := c.byAge(packs.packs)
	if err != nil || len(old) == 0 {
		return &repackPlan{}, last, err
	}
	all := &objects{packs: packs.packs, boundary: packs.boundary.incomplete(packs)}
	if !c.dry && len(old) <= manyPacks && !last.due() {
		if same, err := all.leadTo(ctx, roots, last.roots); err != nil || same {
			return &repackPlan{}, last, err
		}
	}
	look := lastLook{roots: roots}
	if len(young) > 0 {
		look.again = newest.Add(c.server.youngAge)
	}
	lately, err := structureOf(young)
	if err != nil {
		return nil, last, err
	}
	reached, err := all.reachable(ctx, slices.Concat(roots, lately))
	if err != nil {
		return nil, last, err
	}
	plan, err := newRepackPlan(old, young, all.boundary, reached)
	return plan, look, err
}

// present gives the packs and the roots of one moment: a push between the two would name what these packs do not have.
func (c *collection) present(ctx context.Context) (*objects, []plumbing.Hash, error) {
	c.repository.lock.Lock()
	defer c.repository.lock.Unlock()
	roots, err := c.roots(ctx)
	return c.repository.packs.Load(), roots, err
}

// due says that the repository has to be looked through, whatever is reached now.
func (l lastLook) due() bool {
	return l.roots == nil || (!l.again.IsZero() && time.Now().After(l.again))
}

// structureOf lists what leads to other objects in the packs.
func structureOf(packs []*pack) (ids []plumbing.Hash, err error) {
	for _, p := range packs {
		err := p.structure(func(id plumbing.Hash, _ plumbing.ObjectType, _ []byte) error {
			ids = append(ids, id)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// byAge tells packs that may be written anew from those that came lately, and from those that git was told to keep.
func (c *collection) byAge(packs []*pack) (old, young []*pack, newest time.Time, err error) {
	for _, p := range packs {
		info, err := p.file.Stat()
		if err != nil {
			return nil, nil, newest, fmt.Errorf("look at pack: %w", err)
		}
		_, kept := os.Stat(filepath.Join(c.repository.packDir(), "pack-"+p.name+".keep"))
		if kept != nil && time.Since(info.ModTime()) >= c.server.youngAge {
			old = append(old, p)
			continue
		}
		young = append(young, p)
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return old, young, newest, nil
}

// everything is no limit: what is repacked was let in before.
var everything = Limits{PackBytes: math.MaxInt64, ObjectBytes: math.MaxInt64, InflatedBytes: math.MaxInt64, Objects: math.MaxUint32}

// repack writes the new pack into a quarantine, checked like one that was pushed, and puts it in the place of the old ones.
// It is not done when what came meanwhile needs an object that is to go. It gives the size of the new pack.
func (c *collection) repack(ctx context.Context, plan *repackPlan) (size int64, done bool, err error) {
	r := c.repository
	dir, err := os.MkdirTemp(r.dir, quarantinePrefix)
	if err != nil {
		return 0, false, fmt.Errorf("create quarantine: %w", err)
	}
	q := &quarantine{dir: dir}
	defer func() { err = errors.Join(err, q.discard()) }()
	if err := plan.fill(ctx, q); err != nil {
		return 0, false, err
	}
	if q.pack != nil {
		info, err := q.pack.file.Stat()
		if err != nil {
			return 0, false, fmt.Errorf("measure pack: %w", err)
		}
		size = info.Size()
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	done, err = c.swap(ctx, plan, q)
	return size, done, err
}

// fill has the quarantine take the pack in as it is being written.
func (plan *repackPlan) fill(ctx context.Context, q *quarantine) error {
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := plan.write(ctx, writer)
		writer.CloseWithError(err) // nil: the end of the pack
		written <- err
	}()
	err := q.fill(ctx, &repository{}, reader, intake{limits: everything, cut: plan.boundary}, &objects{packs: plan.young, boundary: plan.boundary})
	reader.CloseWithError(err)
	if failed := <-written; failed != nil && !errors.Is(failed, err) {
		return failed
	}
	if err != nil {
		return err
	}
	for id := range plan.chosen {
		if found, _ := q.pack.index.Contains(id); !found {
			return fmt.Errorf("object %s: %w", id, plumbing.ErrObjectNotFound)
		}
	}
	return nil
}

// swap puts the new pack in the place of the old ones. The new pack and its index are durable before an old one goes, and
// of an old one the index goes first: a pack without an index is swept. The repository is locked.
func (c *collection) swap(ctx context.Context, plan *repackPlan, q *quarantine) (done bool, err error) {
	r := c.repository
	now := r.packs.Load()
	next := &objects{collected: now.collected + 1, boundary: now.boundary}
	var since []*pack
	for _, p := range now.packs {
		if slices.Contains(plan.old, p) {
			continue
		}
		next.packs = append(next.packs, p)
		if !slices.Contains(plan.young, p) {
			since = append(since, p)
		}
	}
	if q.pack != nil {
		next.packs = append(next.packs, q.pack)
	}
	if whole, err := c.holds(ctx, next, since); err != nil || !whole {
		return false, err
	}
	var name string
	if q.pack != nil {
		name = q.pack.name
		if err := q.install(r.packDir()); err != nil {
			return false, err
		}
		q.pack = nil
	}
	r.packs.Store(next)
	for _, p := range plan.old {
		if p.name != name {
			err = errors.Join(err, removePack(r.packDir(), p.name))
		}
	}
	return true, errors.Join(err, syncDir(r.packDir()))
}

// holds says whether these objects have all that is needed by now: refs may have moved, and packs may have come.
func (c *collection) holds(ctx context.Context, next *objects, since []*pack) (bool, error) {
	roots, err := c.roots(ctx)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(roots, func(id plumbing.Hash) bool { return !next.has(id) }) {
		return false, nil
	}
	for _, p := range since {
		if closed, err := next.closes(p); err != nil || !closed {
			return false, err
		}
	}
	return true, nil
}

// packFiles are what a pack consists of, with what git may have put beside it. The index goes first.
var packFiles = []string{".idx", ".rev", ".bitmap", ".mtimes", ".pack"}

func removePack(dir, name string) error {
	path := filepath.Join(dir, "pack-"+name)
	var errs []error
	for _, kind := range packFiles {
		if err := ignoreMissing(os.Remove(path + kind)); err != nil {
			errs = append(errs, fmt.Errorf("remove pack: %w", err))
		}
	}
	return errors.Join(errs...)
}
