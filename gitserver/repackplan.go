package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// repackPlan says what goes from the old packs into a new one.
type repackPlan struct {
	old, young []*pack
	boundary   boundary
	stored     [][]storedEntry         // of each old pack, by offset
	chosen     map[plumbing.Hash]place // which copy of each object is taken
	size       int64                   // of the old packs, in bytes
	kept       int64                   // about that of the new one
	useless    int                     // objects that are not taken
}

// storedEntry is where an object lies in a pack.
type storedEntry struct {
	id         plumbing.Hash
	start, end int64
}

type place struct{ pack, entry int }

// newRepackPlan takes each object that is reached once, unless a young pack has it.
func newRepackPlan(old, young []*pack, cut boundary, reached map[plumbing.Hash]struct{}) (*repackPlan, error) {
	plan := &repackPlan{old: old, young: young, boundary: cut, chosen: map[plumbing.Hash]place{}, kept: packHeaderSize + packTrailerSize}
	lately := &objects{packs: young}
	useless := map[plumbing.Hash]struct{}{}
	for i, p := range old {
		entries, size, err := p.layout()
		if err != nil {
			return nil, err
		}
		plan.stored, plan.size = append(plan.stored, entries), plan.size+size
		for n, e := range entries {
			if _, used := reached[e.id]; !used {
				useless[e.id] = struct{}{}
				continue
			}
			if _, taken := plan.chosen[e.id]; taken || lately.has(e.id) {
				continue
			}
			plan.chosen[e.id] = place{i, n}
			plan.kept += e.end - e.start
		}
	}
	plan.useless = len(useless)
	return plan, nil
}

// worth says whether to write the packs anew.
func (plan *repackPlan) worth() bool {
	return len(plan.old) > manyPacks || (plan.size-plan.kept)*garbageShare > plan.size
}

// layout lists what is in the pack by offset, and gives its size.
func (p *pack) layout() ([]storedEntry, int64, error) {
	info, err := p.file.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("measure pack: %w", err)
	}
	entries, err := p.index.EntriesByOffset()
	if err != nil {
		return nil, 0, fmt.Errorf("list objects: %w", err)
	}
	var stored []storedEntry
	for {
		e, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("list objects: %w", err)
		}
		if n := len(stored); n > 0 {
			stored[n-1].end = int64(e.Offset)
		}
		stored = append(stored, storedEntry{id: e.Hash, start: int64(e.Offset), end: info.Size() - packTrailerSize})
	}
	return stored, info.Size(), nil
}

// write puts out the new pack. Deltas are copied as they are where their base is taken too.
func (plan *repackPlan) write(ctx context.Context, to io.Writer) error {
	w := newPackWriter(to, plan)
	if err := w.header(len(plan.chosen)); err != nil {
		return err
	}
	for i, entries := range plan.stored {
		for n, e := range entries {
			if at, taken := plan.chosen[e.id]; !taken || at != (place{i, n}) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.put(e.id); err != nil {
				return fmt.Errorf("copy object %s: %w", e.id, err)
			}
		}
	}
	return w.trailer()
}

// find gives the copy that is taken, with the id of its base when it is a delta.
func (plan *repackPlan) find(id plumbing.Hash) (f found, end int64, base plumbing.Hash, err error) {
	at := plan.chosen[id]
	entries := plan.stored[at.pack]
	if f, err = plan.old[at.pack].at(entries[at.entry].start); err != nil {
		return f, 0, base, err
	}
	switch f.header.kind {
	case plumbing.REFDeltaObject:
		base = f.header.ref
	case plumbing.OFSDeltaObject:
		n, there := slices.BinarySearchFunc(entries, f.offset-f.header.back, func(e storedEntry, offset int64) int {
			return int(min(max(e.start-offset, -1), 1))
		})
		if !there {
			return f, 0, base, errors.New("the base of the delta is not where an object starts")
		}
		base = entries[n].id
	}
	return f, entries[at.entry].end, base, nil
}
