package gitserver

import (
	"math"

	"github.com/go-git/go-git/v5/plumbing"
)

// Limits bound what one push may cost. Zero means the default.
type Limits struct {
	PackBytes     int64 // of a pack as it is sent; default 2 GiB
	ObjectBytes   int64 // of one object, inflated; default 512 MiB
	InflatedBytes int64 // of all objects of a pack together, and all their deltas; default 16 GiB
	Objects       int   // in one pack; default 2 million
	Commands      int   // refs in one push; default 1000
	UploadBytes   int64 // of the files of one upload together; default 512 MiB
	UploadFiles   int   // and directories of one upload; default 100,000
}

const (
	maxTree = 16 << 20 // of one tree: some 350,000 entries
	maxText = 1 << 20  // of one commit or tag

	// A pack may cost freeWork bytes of inflating and rebuilding, and workRatio for each byte that it has. What git packs by
	// itself costs some ten to sixty times its size.
	freeWork  = 512 << 20
	workRatio = 256
)

// budget counts what a pack costs against the limits.
type budget struct {
	limits   Limits
	received int64 // bytes of the pack so far
	spent    int64 // bytes that were inflated or built, also again
}

// object counts one object before it is inflated or built.
func (b *budget) object(size int64) error {
	if size > b.limits.ObjectBytes {
		return refusal("an object has %d bytes, and %d are allowed", size, b.limits.ObjectBytes)
	}
	return b.spend(size)
}

// structure bounds commits, trees and tags, which are read whole.
func (b *budget) structure(kind plumbing.ObjectType, size int64) error {
	most := int64(maxText)
	if kind == plumbing.TreeObject {
		most = maxTree
	}
	if size > most && !b.ours() {
		return refusal("a %s has %d bytes, and %d are allowed", kind, size, most)
	}
	return nil
}

// ours reports whether the pack was made here, of what was let in before or is bounded otherwise.
func (b *budget) ours() bool { return b.limits.InflatedBytes == math.MaxInt64 }

func (b *budget) spend(size int64) error {
	if b.ours() {
		return nil
	}
	b.spent += size
	if b.spent > b.limits.InflatedBytes {
		return refusal("the objects of the pack have more than %d bytes together", b.limits.InflatedBytes)
	}
	if allowed := freeWork + workRatio*b.received; b.spent > allowed {
		return refusal("a pack of %d bytes may be unpacked to %d bytes, and this one is larger", b.received, allowed).
			WithHint("git repack -adf, then push again; or push the history in several steps")
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	return Limits{
		PackBytes:     orDefault(l.PackBytes, 2<<30),
		ObjectBytes:   orDefault(l.ObjectBytes, 512<<20),
		InflatedBytes: orDefault(l.InflatedBytes, 16<<30),
		Objects:       orDefault(l.Objects, 2_000_000),
		Commands:      orDefault(l.Commands, 1000),
		UploadBytes:   orDefault(l.UploadBytes, 512<<20),
		UploadFiles:   orDefault(l.UploadFiles, 100_000),
	}
}

func orDefault[N int | int64](n, fallback N) N {
	if n <= 0 {
		return fallback
	}
	return n
}
