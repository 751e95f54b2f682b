package gitserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// entry is one object of a pack.
type entry struct {
	offset int64 // of its header
	data   int64 // of its deflated bytes
	size   int64 // of what is deflated: the object, or its delta
	result int64 // of the object
	base   int64 // OFS delta: offset of the base
	ref    plumbing.Hash
	id     plumbing.Hash
	crc    uint32
	stored plumbing.ObjectType
	kind   plumbing.ObjectType // InvalidObject until a delta is resolved
}

// scan reads an untrusted pack once, within the limits, before anything else may look at it. Objects that are no deltas
// are hashed and checked on the way.
type scan struct {
	stream  *packStream
	budget  *budget
	links   *links
	entries []entry
	hasher  objectHasher
	scratch scratch
	copying []byte
	fault   error // of our disk
}

const packHeaderSize, packTrailerSize = 12, 20

// scanPack reads the whole of r. Memory grows with the bytes that came, not with what they declare.
func scanPack(r io.Reader, budget *budget, links *links, scratch scratch) ([]entry, plumbing.Hash, error) {
	s := &scan{stream: newPackStream(r), budget: budget, links: links, scratch: scratch, copying: make([]byte, 32<<10)}
	count, err := s.header()
	if err != nil {
		return nil, plumbing.ZeroHash, packError(err)
	}
	for range count {
		if err := s.object(); err != nil && s.fault != nil {
			return nil, plumbing.ZeroHash, err
		} else if err != nil {
			return nil, plumbing.ZeroHash, packError(err)
		}
	}
	sum, err := s.trailer()
	return s.entries, sum, packError(err)
}

var errEndsEarly = errors.New("the pack ends too early")

// packError says in the user's terms what is wrong with a pack.
func packError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refusal("%w", errEndsEarly)
	}
	if _, said := store.AsProblem(err); said {
		return err
	}
	return refusal("the pack is damaged: %w", err)
}

func (s *scan) header() (int, error) {
	var header [packHeaderSize]byte
	if _, err := io.ReadFull(s.stream, header[:]); err != nil {
		return 0, err
	}
	if version := binary.BigEndian.Uint32(header[4:]); string(header[:4]) != "PACK" || version != 2 {
		return 0, refusal("this is no pack of version 2")
	}
	count := binary.BigEndian.Uint32(header[8:])
	if int64(count) > int64(s.budget.limits.Objects) {
		return 0, refusal("the pack declares %d objects, and %d are allowed", count, s.budget.limits.Objects)
	}
	return int(count), nil
}

func (s *scan) object() error {
	offset := s.stream.position()
	s.stream.beginObject()
	header, err := readEntryHeader(s.stream)
	if err != nil {
		return err
	}
	e := entry{offset: offset, data: s.stream.position(), size: header.size, stored: header.kind, ref: header.ref}
	s.budget.received = e.data
	if err := s.budget.object(e.size); err != nil {
		return err
	}
	if header.isDelta() {
		err = s.delta(&e, header)
	} else {
		err = s.whole(&e)
	}
	if err != nil {
		return err
	}
	e.crc = s.stream.endObject()
	s.entries = append(s.entries, e)
	return nil
}

func (s *scan) whole(e *entry) error {
	e.kind, e.result = e.stored, e.size
	inflater, err := newInflater(s.stream)
	if err != nil {
		return err
	}
	defer releaseInflater(inflater)
	if e.kind != plumbing.BlobObject {
		return s.structure(e, inflater)
	}
	s.hasher.begin(e.kind, e.size)
	n, err := io.CopyBuffer(s.hasher.sha1, io.LimitReader(inflater, e.size+1), s.copying)
	if err != nil {
		return err
	}
	if n != e.size {
		return wrongSize(n, e.size)
	}
	e.id, err = s.hasher.sum()
	return err
}

func (s *scan) structure(e *entry, inflater io.Reader) error {
	if err := s.budget.structure(e.kind, e.size); err != nil {
		return err
	}
	s.hasher.begin(e.kind, e.size)
	filling, err := s.scratch.fill(e.size, true, s.hasher.sha1)
	if err != nil {
		return s.ours(err)
	}
	_, err = io.CopyBuffer(filling, inflater, s.copying)
	content, err := filling.end(err)
	defer content.release()
	if filling.fault != nil {
		return s.ours(filling.fault)
	}
	if err != nil {
		return err
	}
	if e.id, err = s.hasher.sum(); err != nil {
		return err
	}
	return s.links.add(e.id, e.kind, content.content)
}

// ours marks an error that is no fault of the pack.
func (s *scan) ours(err error) error {
	s.fault = err
	return err
}

// delta inflates a delta only to learn its sizes; it is applied when all bases are known.
func (s *scan) delta(e *entry, header entryHeader) error {
	inflater, err := newInflater(s.stream)
	if err != nil {
		return err
	}
	defer releaseInflater(inflater)
	var head bytes.Buffer
	start, err := io.CopyN(&head, inflater, min(e.size, 20))
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(io.Discard, io.LimitReader(inflater, e.size-start+1), s.copying)
	if err != nil {
		return err
	}
	if n += start; n != e.size {
		return wrongSize(n, e.size)
	}
	base, result, err := deltaSizes(&head)
	if err != nil {
		return err
	}
	e.result = result
	if err := s.budget.object(result); err != nil {
		return err
	}
	if header.kind == plumbing.OFSDeltaObject {
		return s.baseOf(e, header.back, base)
	}
	return nil
}

// baseOf checks that the base is an object in front of the delta, of the size that the delta was made for.
func (s *scan) baseOf(e *entry, back, size int64) error {
	e.base = e.offset - back
	at, found := slices.BinarySearchFunc(s.entries, e.base, func(e entry, offset int64) int {
		return int(min(max(e.offset-offset, -1), 1))
	})
	if !found {
		return refusal("the base of a delta is not where an object starts")
	}
	if s.entries[at].result != size {
		return refusal("a delta is for a base of %d bytes, and its base has %d", size, s.entries[at].result)
	}
	return nil
}

func (s *scan) trailer() (sum plumbing.Hash, err error) {
	s.stream.settle()
	copy(sum[:], s.stream.sum.Sum(nil))
	var trailer [packTrailerSize]byte
	if _, err := io.ReadFull(s.stream, trailer[:]); err != nil {
		return sum, err
	}
	if plumbing.Hash(trailer) != sum {
		return sum, refusal("the checksum of the pack is wrong")
	}
	if _, err := s.stream.ReadByte(); err == nil {
		return sum, refusal("there is something behind the end of the pack")
	} else if !errors.Is(err, io.EOF) {
		return sum, err
	}
	return sum, nil
}
