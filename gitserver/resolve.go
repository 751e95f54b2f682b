package gitserver

import (
	"bufio"
	"context"
	"hash"
	"io"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	// maxDeltaDepth bounds what it costs to read one object later. git makes chains of 50, or 250 when it tries hard.
	maxDeltaDepth = 250
	// heldDeltas and mappedDeltas bound the bytes of bases kept, in memory and in scratch files, while their deltas are
	// resolved. What does not fit is built again.
	heldDeltas   = 32 << 20
	mappedDeltas = 1 << 30
)

// resolver rebuilds the objects that a scanned pack holds as deltas, to learn their ids. It goes down from each base to
// the deltas made for it, and from those to theirs, so that each object is built once.
type resolver struct {
	ctx     context.Context
	pack    io.ReaderAt
	entries []entry
	links   *links
	budget  *budget
	scratch scratch
	kinds   map[plumbing.Hash]plumbing.ObjectType
	hasher  objectHasher

	byOffset map[int64][]int         // deltas by the offset of their base
	byID     map[plumbing.Hash][]int // and by its id
	path     []pathStep
	held     int // bytes in memory
	mapped   int // bytes in scratch files
}

// pathStep is one object on the way from a base down to the delta at hand. Its body is not held when it had to give way.
type pathStep struct {
	entry int
	body  body
}

func newResolver(ctx context.Context, pack io.ReaderAt, entries []entry, links *links, budget *budget, scratch scratch) *resolver {
	r := &resolver{
		ctx: ctx, pack: pack, entries: entries, links: links, budget: budget, scratch: scratch,
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
	return r.descend(i, content) // which releases it
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

// descend resolves what builds on an object. The content is its own, to release.
func (r *resolver) descend(i int, content body) error {
	if len(r.path) == maxDeltaDepth {
		content.release()
		return refusal("a chain of deltas is longer than %d", maxDeltaDepth).WithHint("git repack -adf --depth=50, then push again")
	}
	r.push(pathStep{i, content})
	defer r.pop()
	deltas := r.takeDeltas(i)
	for n, child := range deltas {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		result, err := r.resolve(len(r.path)-1, child)
		if err != nil {
			return err
		}
		if n == len(deltas)-1 {
			r.drop(len(r.path) - 1) // nothing needs it any more
		}
		if !r.hasDeltas(child) {
			result.release()
			continue
		}
		if err := r.descend(child, result); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) push(step pathStep) {
	r.path = append(r.path, step)
	r.count(step.body, 1)
	for at := 0; (r.held > heldDeltas || r.mapped > mappedDeltas) && at < len(r.path)-1; at++ {
		r.drop(at)
	}
}

func (r *resolver) pop() {
	r.drop(len(r.path) - 1)
	r.path = r.path[:len(r.path)-1]
}

func (r *resolver) drop(at int) {
	r.count(r.path[at].body, -1)
	r.path[at].body.release()
}

func (r *resolver) count(b body, sign int) {
	if b.mapped {
		r.mapped += sign * len(b.content)
	} else {
		r.held += sign * len(b.content)
	}
}

// resolve builds the object of a delta for the first time, and records what it is. The budget has counted it already.
func (r *resolver) resolve(at, delta int) (body, error) {
	e := &r.entries[delta]
	kind := r.entries[r.path[at].entry].kind
	if kind != plumbing.BlobObject {
		if err := r.budget.structure(kind, e.result); err != nil {
			return body{}, err
		}
	}
	r.hasher.begin(kind, e.result)
	keep := kind != plumbing.BlobObject || len(r.byOffset[e.offset]) > 0 || len(r.byID) > 0
	result, err := r.apply(at, delta, keep, r.hasher.sha1)
	if err != nil {
		return result, err
	}
	if e.id, err = r.hasher.sum(); err == nil && kind != plumbing.BlobObject {
		err = r.links.add(e.id, kind, result.content)
	}
	if err == nil {
		e.kind = kind
		err = r.note(delta)
	}
	if err != nil {
		result.release()
	}
	return result, err
}

// apply applies a delta to the object at this place of the path.
func (r *resolver) apply(at, delta int, keep bool, hash hash.Hash) (result body, err error) {
	base := r.path[at].body
	if !base.held {
		if base, err = r.rebuilt(at); err != nil {
			return body{}, err
		}
		defer base.release()
	}
	filling, err := r.scratch.fill(r.entries[delta].result, keep, hash)
	if err != nil {
		return body{}, err
	}
	result, err = filling.apply(base.content, r.deflated(delta))
	if filling.fault != nil {
		return body{}, filling.fault
	}
	if err != nil {
		return body{}, refusal("the pack is damaged: %w", err)
	}
	return result, nil
}

// rebuilt builds an object of the path again that had to give way.
func (r *resolver) rebuilt(at int) (body, error) {
	if at == 0 {
		return r.inflate(r.path[0].entry)
	}
	return r.content(at-1, r.path[at].entry)
}

// content builds the object of a delta again.
func (r *resolver) content(at, delta int) (body, error) {
	if err := r.ctx.Err(); err != nil {
		return body{}, err
	}
	if err := r.budget.spend(r.entries[delta].size + r.entries[delta].result); err != nil {
		return body{}, err
	}
	return r.apply(at, delta, true, nil)
}

// inflate reads an object that is no delta, for those that build on it.
func (r *resolver) inflate(i int) (body, error) {
	if err := r.budget.spend(r.entries[i].size); err != nil {
		return body{}, err
	}
	filling, err := r.scratch.fill(r.entries[i].size, true, nil)
	if err != nil {
		return body{}, err
	}
	return filling.inflate(r.deflated(i))
}

func (r *resolver) deflated(i int) io.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(r.pack, r.entries[i].data, 1<<62), int(min(max(r.entries[i].size, 512), 32<<10)))
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
