package gitserver

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/go-git/go-git/v5/plumbing"
)

// complete makes a thin pack whole: bases that only the repository has are appended to it. It gives the checksum of
// the pack as it is then.
func complete(r *resolver, file *os.File, there *objects, limits Limits, sum plumbing.Hash) (plumbing.Hash, error) {
	sent := len(r.entries)
	end, err := file.Seek(-packTrailerSize, io.SeekEnd)
	if err != nil {
		return sum, fmt.Errorf("complete thin pack: %w", err)
	}
	for _, id := range r.outside() {
		size, known, err := sizeOf(there, id)
		if err != nil {
			return sum, err
		}
		if !known || r.byID[id] == nil {
			continue // or it was resolved meanwhile
		}
		if size > limits.ObjectBytes {
			return sum, refusal("an object has %d bytes, and %d are allowed", size, limits.ObjectBytes)
		}
		if end, err = appendBase(r, file, end, there, id); err != nil {
			return sum, err
		}
	}
	if r.unresolved() && len(there.boundary) > 0 {
		return sum, refusal("%w, and not the base of a delta", errBeyondBoundary)
	}
	if r.unresolved() {
		return sum, refusal("the base of a delta is missing")
	}
	if len(r.entries) == sent {
		return sum, nil
	}
	return finishPack(file, end, len(r.entries))
}

func sizeOf(there *objects, id plumbing.Hash) (size int64, known bool, err error) {
	f, err := there.find(id)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return 0, false, nil
	}
	if err == nil {
		size, err = f.size()
	}
	return size, true, err
}

// appendBase writes one object at the end of the pack and resolves what builds on it.
func appendBase(r *resolver, file *os.File, end int64, there *objects, id plumbing.Hash) (int64, error) {
	kind, content, err := there.read(id)
	if err != nil {
		return end, err
	}
	var stored bytes.Buffer
	head := appendEntryHeader(nil, kind, int64(len(content)))
	stored.Write(head)
	deflater := zlib.NewWriter(&stored)
	_, _ = deflater.Write(content)
	_ = deflater.Close() // a bytes.Buffer takes everything
	if _, err := file.WriteAt(stored.Bytes(), end); err != nil {
		return end, fmt.Errorf("complete thin pack: %w", err)
	}
	size := int64(len(content))
	r.entries = append(r.entries, entry{
		offset: end, data: end + int64(len(head)), size: size, result: size,
		id: id, crc: crc32.ChecksumIEEE(stored.Bytes()), stored: kind, kind: kind,
	})
	at := len(r.entries) - 1
	if err := r.note(at); err != nil {
		return end, err
	}
	return end + int64(stored.Len()), r.descend(at, content)
}

// finishPack writes the new object count and the new checksum.
func finishPack(file *os.File, end int64, count int) (sum plumbing.Hash, err error) {
	if _, err := file.WriteAt(binary.BigEndian.AppendUint32(nil, uint32(count)), 8); err != nil {
		return sum, fmt.Errorf("complete thin pack: %w", err)
	}
	hasher := newSHA1()
	if _, err := io.Copy(hasher, io.NewSectionReader(file, 0, end)); err != nil {
		return sum, fmt.Errorf("complete thin pack: %w", err)
	}
	copy(sum[:], hasher.Sum(nil))
	if _, err := file.WriteAt(sum[:], end); err != nil {
		return sum, fmt.Errorf("complete thin pack: %w", err)
	}
	return sum, file.Truncate(end + packTrailerSize)
}
