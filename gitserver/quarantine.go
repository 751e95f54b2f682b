package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"

	"github.com/shipgate/shipgate/store"
)

const quarantinePrefix = "quarantine-"

// quarantine holds what one push brought until everything about it is checked. Nothing outside it has changed before
// promote, and discard leaves nothing of it.
type quarantine struct {
	dir       string
	pack      *pack // nil when the push brought no objects
	collected int   // that of the objects it was checked against
}

// ingest takes a pack off the wire into a quarantine: scanned while it is spooled, completed where it is thin, indexed,
// and checked for links that lead nowhere.
func (r *repository) ingest(ctx context.Context, body io.Reader, how intake) (*quarantine, error) {
	dir, err := os.MkdirTemp(r.dir, quarantinePrefix)
	if err != nil {
		return nil, fmt.Errorf("create quarantine: %w", err)
	}
	there := r.packs.Load()
	q := &quarantine{dir: dir, collected: there.collected}
	if err := q.fill(ctx, r, body, how, there); err != nil {
		return nil, errors.Join(err, q.discard())
	}
	return q, nil
}

func (q *quarantine) fill(ctx context.Context, r *repository, body io.Reader, how intake, there *objects) error {
	file, err := os.OpenFile(filepath.Join(q.dir, "pack"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("create spool: %w", err)
	}
	q.pack = &pack{file: file, scratch: scratch{filepath.Dir(q.dir)}}
	links := newLinks(how.cut)
	budget := &budget{limits: how.limits}
	spool := &spool{body: body, file: file, left: how.limits.PackBytes, limit: how.limits.PackBytes}
	entries, sum, err := scanPack(spool, budget, links, scratch{q.dir})
	if spool.fault != nil {
		return fmt.Errorf("spool pack: %w", spool.fault)
	}
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		q.pack = nil
		return file.Close()
	}
	done, err := r.takeTurnToUnpack(ctx, how.waits)
	if err != nil {
		return err
	}
	defer done()
	links.objects, links.there = len(entries), there
	resolver := newResolver(ctx, file, entries, links, budget, scratch{q.dir})
	if err := resolver.inside(); err != nil {
		return err
	}
	if sum, err = complete(resolver, file, there, how.limits, sum); err != nil {
		return err
	}
	if to, from, broken := links.missing(resolver.kinds, there); broken {
		return brokenLink(to, from, how.shallow, len(there.boundary) > 0)
	}
	q.pack.name = sum.String()
	q.pack.index, err = q.writeIndex(resolver.entries, sum)
	return err
}

var errBeyondBoundary = errors.New("the server has single commits of this app from the forge")

func brokenLink(to plumbing.Hash, from link, shallow []plumbing.Hash, partial bool) error {
	for _, boundary := range shallow {
		if boundary == from.from {
			return refusal("this clone is shallow, and the server does not have the parents of its commit %.7s", boundary.String()).
				WithHint("git fetch --unshallow, then push again")
		}
	}
	if partial {
		return refusal("%w: not %s %.7s, which %.7s refers to", errBeyondBoundary, from.kind, to.String(), from.from.String()).
			WithHint("push a commit that continues what is live, or push it to the forge")
	}
	return refusal("object %s refers to %s %s, which is missing", from.from, from.kind, to).
		WithHint("git fsck in your clone shows what is wrong with it")
}

func (q *quarantine) writeIndex(entries []entry, sum plumbing.Hash) (*idxfile.MemoryIndex, error) {
	var writer idxfile.Writer
	if err := writer.OnHeader(uint32(len(entries))); err != nil {
		return nil, fmt.Errorf("index pack: %w", err)
	}
	for _, e := range entries {
		writer.Add(e.id, uint64(e.offset), e.crc)
	}
	if err := writer.OnFooter(sum); err != nil {
		return nil, fmt.Errorf("index pack: %w", err)
	}
	index, err := writer.Index()
	if err != nil {
		return nil, fmt.Errorf("index pack: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(q.dir, "idx"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create pack index: %w", err)
	}
	buffered := bufio.NewWriter(file)
	_, err = idxfile.NewEncoder(buffered).Encode(index)
	var syncPack error
	var syncing sync.WaitGroup
	syncing.Go(func() { syncPack = q.pack.file.Sync() })
	err = errors.Join(err, buffered.Flush(), file.Sync(), file.Close())
	syncing.Wait()
	if err = errors.Join(err, syncPack); err != nil {
		return nil, fmt.Errorf("write pack index: %w", err)
	}
	return index, nil
}

// promote moves the pack into the repository. The repository is locked.
func (q *quarantine) promote(r *repository) error {
	if q.pack == nil {
		return nil
	}
	next := r.packs.Load().with(q.pack)
	if next.collected != q.collected {
		if closed, err := next.closes(q.pack); err != nil {
			return err
		} else if !closed {
			return store.Problemf(store.CodeConflict, "what these commits build on was removed meanwhile, as nothing needed it").
				WithHint("push again")
		}
	}
	if err := q.install(r.packDir()); err != nil {
		return err
	}
	r.packs.Store(next)
	q.pack = nil
	return nil
}

// install moves the pack into a directory, the pack before its index, and makes it durable there.
func (q *quarantine) install(dir string) error {
	name := filepath.Join(dir, "pack-"+q.pack.name)
	if err := os.Rename(filepath.Join(q.dir, "pack"), name+".pack"); err != nil {
		return fmt.Errorf("promote pack: %w", err)
	}
	if err := os.Rename(filepath.Join(q.dir, "idx"), name+".idx"); err != nil {
		return fmt.Errorf("promote pack index: %w", err)
	}
	return syncDir(dir)
}

// discard removes what was not promoted.
func (q *quarantine) discard() error {
	var err error
	if q.pack != nil {
		err = q.pack.file.Close()
		q.pack = nil
	}
	if err = errors.Join(err, os.RemoveAll(q.dir)); err != nil {
		return fmt.Errorf("remove quarantine: %w", err)
	}
	return nil
}

// spool copies what is read into a file, up to a limit. Its fault is an error of ours, not of the client.
type spool struct {
	body        io.Reader
	file        io.Writer
	left, limit int64
	fault       error
}

func (s *spool) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, store.Problemf(store.CodeUsage, "the pack is larger than %d bytes", s.limit)
	}
	if _, failed := s.file.Write(p[:n]); failed != nil {
		s.fault = failed
		return 0, failed
	}
	return n, err
}
