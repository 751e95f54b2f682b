package gitserver

import (
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
	f, err := there.find(id)
	if err != nil {
		return end, err
	}
	kind, content, err := f.rebuild()
	if err != nil {
		return end, err
	}
	size := int64(len(content.content))
	if err := r.budget.spend(size); err != nil {
		content.release()
		return end, err
	}
	head := appendEntryHeader(nil, kind, size)
	crc := crc32.NewIEEE()
	stored := io.NewOffsetWriter(file, end)
	after, err := storeWhole(io.MultiWriter(stored, crc), stored, head, content.content)
	if err != nil {
		content.release()
		return end, fmt.Errorf("complete thin pack: %w", err)
	}
	r.entries = append(r.entries, entry{
		offset: end, data: end + int64(len(head)), size: size, result: size,
		id: id, crc: crc.Sum32(), stored: kind, kind: kind,
	})
	at := len(r.entries) - 1
	if err := r.note(at); err != nil {
		content.release()
		return end, err
	}
	return end + after, r.descend(at, content)
}

// storeWhole writes an object as a pack holds it, and gives how many bytes that are.
func storeWhole(to io.Writer, at io.Seeker, head, content []byte) (int64, error) {
	if _, err := to.Write(head); err != nil {
		return 0, err
	}
	deflater := zlib.NewWriter(to)
	_, err := deflater.Write(content)
	if err = errors.Join(err, deflater.Close()); err != nil {
		return 0, err
	}
	return at.Seek(0, io.SeekCurrent)
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
