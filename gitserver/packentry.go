package gitserver

import (
	"bufio"
	"compress/zlib"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	githash "github.com/go-git/go-git/v5/plumbing/hash"

	"github.com/shipgate/shipgate/store"
)

// entryHeader is what stands in front of each deflated object of a pack.
// The format is that of git's gitformat-pack(5).
type entryHeader struct {
	kind plumbing.ObjectType
	size int64         // of what is deflated: the object, or the delta
	back int64         // OFS delta: how far in front of this entry its base starts
	ref  plumbing.Hash // REF delta: its base
}

func (h entryHeader) isDelta() bool {
	return h.kind == plumbing.OFSDeltaObject || h.kind == plumbing.REFDeltaObject
}

func readEntryHeader(r io.ByteReader) (entryHeader, error) {
	b, err := r.ReadByte()
	if err != nil {
		return entryHeader{}, err
	}
	h := entryHeader{kind: plumbing.ObjectType(b >> 4 & 7), size: int64(b & 15)}
	for shift := 4; b&0x80 != 0; shift += 7 {
		if shift > 53 {
			return h, errors.New("object size does not fit into 60 bits")
		}
		if b, err = r.ReadByte(); err != nil {
			return h, err
		}
		h.size |= int64(b&0x7f) << shift
	}
	switch h.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		return h, nil
	case plumbing.OFSDeltaObject:
		h.back, err = readBack(r)
		return h, err
	case plumbing.REFDeltaObject:
		for i := range h.ref {
			if h.ref[i], err = r.ReadByte(); err != nil {
				return h, err
			}
		}
		return h, nil
	}
	return h, fmt.Errorf("object type %d does not exist", h.kind)
}

func readBack(r io.ByteReader) (int64, error) {
	b, err := r.ReadByte()
	back := int64(b & 0x7f)
	for err == nil && b&0x80 != 0 {
		if back > 1<<47 {
			return 0, errors.New("delta base offset does not fit into 55 bits")
		}
		b, err = r.ReadByte()
		back = (back+1)<<7 | int64(b&0x7f)
	}
	return back, err
}

func appendEntryHeader(to []byte, kind plumbing.ObjectType, size int64) []byte {
	b := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		to = append(to, b|0x80)
		b = byte(size & 0x7f)
	}
	return append(to, b)
}

// deltaSizes reads the two sizes that a delta starts with.
func deltaSizes(delta io.ByteReader) (base, result int64, err error) {
	if base, err = deltaSize(delta); err == nil {
		result, err = deltaSize(delta)
	}
	return base, result, err
}

func deltaSize(delta io.ByteReader) (int64, error) {
	var size int64
	for i := range 9 {
		b, err := delta.ReadByte()
		if err != nil {
			break
		}
		size |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return size, nil
		}
	}
	return 0, errors.New("delta has no sizes")
}

// applyDelta writes what a delta makes of its base. Everything in the delta is checked against both sizes, and the result
// against the size that is expected.
func applyDelta(base []byte, delta *bufio.Reader, size int64, out io.Writer) error {
	baseSize, resultSize, err := deltaSizes(delta)
	if err != nil {
		return err
	}
	if baseSize != int64(len(base)) {
		return fmt.Errorf("delta is for a base of %d bytes, not %d", baseSize, len(base))
	}
	if resultSize != size {
		return fmt.Errorf("delta makes %d bytes, not %d", resultSize, size)
	}
	var literal [127]byte
	for left := resultSize; ; {
		op, err := delta.ReadByte()
		if errors.Is(err, io.EOF) {
			if left > 0 {
				return errors.New("delta makes less than it says")
			}
			return nil
		}
		if err != nil {
			return err
		}
		piece, err := deltaPiece(base, op, delta, literal[:])
		if err != nil {
			return err
		}
		if left -= int64(len(piece)); left < 0 {
			return errors.New("delta makes more than it says")
		}
		if _, err := out.Write(piece); err != nil {
			return err
		}
	}
}

var errDeltaEnds = errors.New("delta ends inside an instruction")

// deltaPiece carries out one instruction: it gives a part of the base, or literal bytes of the delta.
func deltaPiece(base []byte, op byte, delta *bufio.Reader, literal []byte) ([]byte, error) {
	if op == 0 {
		return nil, errors.New("delta has a reserved instruction")
	}
	if op&0x80 == 0 {
		if _, err := io.ReadFull(delta, literal[:op]); err != nil {
			return nil, errDeltaEnds
		}
		return literal[:op], nil
	}
	var fields [7]int64 // four bytes of offset, three of size; those not sent are zero
	for i := range fields {
		if op>>i&1 == 0 {
			continue
		}
		b, err := delta.ReadByte()
		if err != nil {
			return nil, errDeltaEnds
		}
		fields[i] = int64(b)
	}
	offset := fields[0] | fields[1]<<8 | fields[2]<<16 | fields[3]<<24
	size := fields[4] | fields[5]<<8 | fields[6]<<16
	if size == 0 {
		size = 0x10000
	}
	if offset+size > int64(len(base)) {
		return nil, errors.New("delta copies from beyond its base")
	}
	return base[offset : offset+size], nil
}

func newSHA1() hash.Hash { return githash.New(crypto.SHA1) }

// objectHasher computes object ids and notices blocks made for SHA-1 collision attacks.
type objectHasher struct{ sha1 hash.Hash }

func (h *objectHasher) begin(kind plumbing.ObjectType, size int64) {
	if h.sha1 == nil {
		h.sha1 = newSHA1()
	}
	h.sha1.Reset()
	_, _ = fmt.Fprintf(h.sha1, "%s %d\x00", kind, size)
}

func (h *objectHasher) sum() (id plumbing.Hash, err error) {
	detecting, ok := h.sha1.(interface {
		CollisionResistantSum(in []byte) ([]byte, bool)
	})
	if !ok {
		copy(id[:], h.sha1.Sum(nil))
		return id, nil
	}
	sum, collision := detecting.CollisionResistantSum(nil)
	copy(id[:], sum)
	if collision {
		return id, refusal("object %s is a SHA-1 collision attack", id)
	}
	return id, nil
}

var inflaters sync.Pool // of io.ReadCloser that are zlib.Resetter

// newInflater borrows a zlib reader; give it back with releaseInflater.
func newInflater(r io.Reader) (io.ReadCloser, error) {
	if reader, ok := inflaters.Get().(io.ReadCloser); ok {
		if err := reader.(zlib.Resetter).Reset(r, nil); err != nil {
			inflaters.Put(reader)
			return nil, err
		}
		return reader, nil
	}
	return zlib.NewReader(r)
}

func releaseInflater(reader io.ReadCloser) { inflaters.Put(reader) }

func wrongSize(got, declared int64) error {
	if got > declared {
		return refusal("an object inflates to more than the %d bytes it declares", declared)
	}
	return refusal("an object inflates to %d bytes and declares %d", got, declared)
}

// refusal is a push that is refused for what it holds.
func refusal(format string, args ...any) *store.Problem {
	return store.Problemf(store.CodeUsage, format, args...)
}
