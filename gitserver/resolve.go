package gitserver

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	maxDeltaDepth = 4095 // git's own limit
	// heldDeltas bounds the bytes of bases kept while their deltas are resolved. What does not fit is built again.
	heldDeltas = 64 << 20
)

// resolver rebuilds the objects that a scanned pack holds as deltas, to learn their ids. It goes down from each base to
// the deltas made for it, and from those to theirs, so that each object is built once.
type resolver struct {
	ctx     context.Context
	pack    io.ReaderAt
	entries []entry
	links   *links
	kinds   map[plumbing.Hash]plumbing.ObjectType
	hasher  objectHasher

	byOffset map[int64][]int         // deltas by the offset of their base
	byID     map[plumbing.Hash][]int // and by its id
	path     []pathStep
	held     int
}

// pathStep is one object on the way from a base down to the delta at hand. Content is nil when it had to give way.
type pathStep struct {
	entry   int
	content []byte
}

func newResolver(ctx context.Context, pack io.ReaderAt, entries []entry, links *links) *resolver {
	r := &resolver{
		ctx: ctx, pack: pack, entries: entries, links: links,
		kinds: map[plumbing.Hash]plumbing.ObjectType{}, byOffset: map[int64][]int{}, byID: map[plumbing.Hash][]int{},
	}
	for i, e := range entries {
		switch e.stored {
		case plumbing.OFSDeltaObject:
			r.byOffset[e.base] = append(r.byOffset[e.base], i)
		case plumbing.REFDeltaObject:
			r.byID[e.ref] = append(r.byID[e.ref], i)
		}
	}
	return r
}

// inside resolves all deltas whose bases are in the pack.
func (r *resolver) inside() error {
	for i := range r.entries {
		if r.entries[i].stored.IsDelta() {
			continue
		}
		if err := r.note(i); err != nil {
			return err
		}
	}
	for i := range r.entries {
		if r.entries[i].stored.IsDelta() || !r.hasDeltas(i) {
			continue
		}
		if err := r.from(i); err != nil {
			return err
		}
	}
	return nil
}

// from resolves everything that builds on this object, which is no delta.
func (r *resolver) from(i int) error {
	content, err := r.inflate(i)
	if err != nil {
		return err
	}
	return r.descend(i, content)
}

// outside lists the bases that are not in the pack, in a fixed order.
func (r *resolver) outside() []plumbing.Hash {
	var bases []plumbing.Hash
	for base := range r.byID {
		bases = append(bases, base)
	}
	plumbing.HashesSort(bases)
	return bases
}

// unresolved says whether the base of some delta was found nowhere.
func (r *resolver) unresolved() bool {
	return slices.ContainsFunc(r.entries, func(e entry) bool { return e.kind == plumbing.InvalidObject })
}

func (r *resolver) hasDeltas(i int) bool {
	return len(r.byOffset[r.entries[i].offset]) > 0 || len(r.byID[r.entries[i].id]) > 0
}

func (r *resolver) takeDeltas(i int) []int {
	offset, id := r.entries[i].offset, r.entries[i].id
	deltas := append(r.byOffset[offset], r.byID[id]...)
	delete(r.byOffset, offset)
	delete(r.byID, id)
	return deltas
}

func (r *resolver) descend(i int, content []byte) error {
	if len(r.path) == maxDeltaDepth {
		return refusal("a chain of deltas is longer than %d", maxDeltaDepth)
	}
	r.push(pathStep{i, content})
	defer r.pop()
	deltas := r.takeDeltas(i)
	for n, child := range deltas {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		result, err := r.build(len(r.path)-1, child)
		if err != nil {
			return err
		}
		if n == len(deltas)-1 {
			r.drop(len(r.path) - 1) // nothing needs it any more
		}
		if err := r.settle(child, r.entries[i].kind, result); err != nil {
			return err
		}
		if r.hasDeltas(child) {
			if err := r.descend(child, result); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *resolver) push(step pathStep) {
	r.path = append(r.path, step)
	r.held += len(step.content)
	for at := 0; r.held > heldDeltas && at < len(r.path)-1; at++ {
		r.drop(at)
	}
}

func (r *resolver) pop() {
	r.drop(len(r.path) - 1)
	r.path = r.path[:len(r.path)-1]
}

func (r *resolver) drop(at int) {
	r.held -= len(r.path[at].content)
	r.path[at].content = nil
}

// build applies a delta to the object at this place of the path.
func (r *resolver) build(at, delta int) ([]byte, error) {
	base, err := r.content(at)
	if err != nil {
		return nil, err
	}
	code, err := r.inflate(delta)
	if err != nil {
		return nil, err
	}
	result, err := applyDelta(base, code)
	if err != nil {
		return nil, refusal("the pack is damaged: %w", err)
	}
	return result, nil
}

func (r *resolver) content(at int) ([]byte, error) {
	if content := r.path[at].content; content != nil {
		return content, nil
	}
	if at == 0 {
		return r.inflate(r.path[0].entry)
	}
	return r.build(at-1, r.path[at].entry)
}

func (r *resolver) inflate(i int) ([]byte, error) {
	e := r.entries[i]
	inflater, err := newInflater(io.NewSectionReader(r.pack, e.data, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("inflate object: %w", err)
	}
	defer releaseInflater(inflater)
	return readInflated(inflater, e.size)
}

// settle records what a delta turned out to be.
func (r *resolver) settle(i int, kind plumbing.ObjectType, content []byte) error {
	id, err := r.hasher.of(kind, content)
	if err != nil {
		return err
	}
	r.entries[i].id, r.entries[i].kind = id, kind
	if kind != plumbing.BlobObject {
		if len(content) > maxStructure {
			return refusal("a %s has %d bytes, and %d are allowed", kind, len(content), maxStructure)
		}
		if err := r.links.add(id, kind, content); err != nil {
			return err
		}
	}
	return r.note(i)
}

// note refuses a second object of one id: git could not read such a pack.
func (r *resolver) note(i int) error {
	e := r.entries[i]
	if _, twice := r.kinds[e.id]; twice {
		return refusal("object %s is in the pack twice", e.id)
	}
	r.kinds[e.id] = e.kind
	return nil
}
