package gitserver

import (
	"bytes"
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

// deltaSizes reads the two sizes that a delta starts with, and gives the instructions behind them.
func deltaSizes(delta []byte) (base, result int64, rest []byte, err error) {
	if base, rest, err = deltaSize(delta); err == nil {
		result, rest, err = deltaSize(rest)
	}
	return base, result, rest, err
}

func deltaSize(delta []byte) (int64, []byte, error) {
	var size int64
	for i, b := range delta {
		if i > 8 {
			break
		}
		size |= int64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return size, delta[i+1:], nil
		}
	}
	return 0, nil, errors.New("delta has no sizes")
}

// applyDelta rebuilds an object from its base. Everything in the delta is checked against both sizes.
func applyDelta(base, delta []byte) ([]byte, error) {
	baseSize, resultSize, code, err := deltaSizes(delta)
	if err != nil {
		return nil, err
	}
	if baseSize != int64(len(base)) {
		return nil, fmt.Errorf("delta is for a base of %d bytes, not %d", baseSize, len(base))
	}
	result := make([]byte, 0, resultSize)
	for len(code) > 0 {
		var piece []byte
		if piece, code, err = deltaPiece(base, code); err != nil {
			return nil, err
		}
		if int64(len(result)+len(piece)) > resultSize {
			return nil, errors.New("delta makes more than it says")
		}
		result = append(result, piece...)
	}
	if int64(len(result)) != resultSize {
		return nil, errors.New("delta makes less than it says")
	}
	return result, nil
}

// deltaPiece carries out one instruction: it gives a part of the base, or literal bytes of the delta.
func deltaPiece(base, code []byte) (piece, rest []byte, err error) {
	op, code := code[0], code[1:]
	if op == 0 {
		return nil, nil, errors.New("delta has a reserved instruction")
	}
	if op&0x80 == 0 {
		if int(op) > len(code) {
			return nil, nil, errors.New("delta ends inside an instruction")
		}
		return code[:op], code[op:], nil
	}
	var fields [7]int64 // four bytes of offset, three of size; those not sent are zero
	for i := range fields {
		if op>>i&1 == 0 {
			continue
		}
		if len(code) == 0 {
			return nil, nil, errors.New("delta ends inside an instruction")
		}
		fields[i], code = int64(code[0]), code[1:]
	}
	offset := fields[0] | fields[1]<<8 | fields[2]<<16 | fields[3]<<24
	size := fields[4] | fields[5]<<8 | fields[6]<<16
	if size == 0 {
		size = 0x10000
	}
	if offset+size > int64(len(base)) {
		return nil, nil, errors.New("delta copies from beyond its base")
	}
	return base[offset : offset+size], code, nil
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

func (h *objectHasher) of(kind plumbing.ObjectType, content []byte) (plumbing.Hash, error) {
	h.begin(kind, int64(len(content)))
	_, _ = h.sha1.Write(content)
	return h.sum()
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

// readInflated reads exactly size bytes and the checksum behind them. Memory grows with what is there, not with what
// is declared.
func readInflated(r io.Reader, size int64) ([]byte, error) {
	var content bytes.Buffer
	content.Grow(int(min(size, 1<<20)) + bytes.MinRead)
	n, err := io.Copy(&content, io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, wrongSize(n, size)
	}
	return content.Bytes(), nil
}

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
