package gitserver

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// deepestCopy is how long a chain of deltas may become that were copied from several packs.
const deepestCopy = 100

// packWriter writes a pack, each base in front of its deltas.
type packWriter struct {
	out     *bufio.Writer
	sum     hash.Hash
	offset  int64
	plan    *repackPlan
	written map[plumbing.Hash]position
}

// position is where an object was written. Its offset is 0 while its base is being written.
type position struct {
	offset int64
	depth  int // of its chain of deltas
}

func newPackWriter(to io.Writer, plan *repackPlan) *packWriter {
	w := &packWriter{sum: newSHA1(), plan: plan, written: map[plumbing.Hash]position{}}
	w.out = bufio.NewWriterSize(io.MultiWriter(to, w.sum), 64<<10)
	return w
}

func (w *packWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	w.offset += int64(n)
	return n, err
}

func (w *packWriter) header(count int) error {
	header := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(count))
	_, err := w.Write(header)
	return err
}

func (w *packWriter) trailer() error {
	if err := w.out.Flush(); err != nil {
		return err
	}
	_, err := w.out.Write(w.sum.Sum(nil))
	if err != nil {
		return err
	}
	return w.out.Flush()
}

// put writes an object, unless it was written for one that builds on it. Copies from several packs may build on each other
// in a circle: there one is written whole.
func (w *packWriter) put(id plumbing.Hash) error {
	if _, begun := w.written[id]; begun {
		return nil
	}
	w.written[id] = position{}
	f, end, base, err := w.plan.find(id)
	if err != nil {
		return err
	}
	if !f.header.isDelta() {
		w.written[id] = position{offset: w.offset}
		return w.copy(f, end, appendEntryHeader(nil, f.header.kind, f.header.size))
	}
	if _, taken := w.plan.chosen[base]; taken {
		if err := w.put(base); err != nil {
			return err
		}
		if at := w.written[base]; at.offset > 0 && at.depth < deepestCopy {
			w.written[id] = position{offset: w.offset, depth: at.depth + 1}
			head := appendEntryHeader(nil, plumbing.OFSDeltaObject, f.header.size)
			return w.copy(f, end, appendBack(head, w.offset-at.offset))
		}
	}
	w.written[id] = position{offset: w.offset}
	return w.whole(f)
}

// copy takes over what is deflated as it is.
func (w *packWriter) copy(f found, end int64, head []byte) error {
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(f.pack.file, f.data, end-f.data))
	return err
}

func (w *packWriter) whole(f found) error {
	kind, built, err := f.rebuild()
	if err != nil {
		return err
	}
	defer built.release()
	if _, err := w.Write(appendEntryHeader(nil, kind, int64(len(built.content)))); err != nil {
		return err
	}
	deflater := zlib.NewWriter(w)
	if _, err := io.Copy(deflater, bytes.NewReader(built.content)); err != nil {
		return err
	}
	return deflater.Close()
}

// appendBack writes how far in front of an entry its base starts, as readBack reads it.
func appendBack(to []byte, back int64) []byte {
	digits := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		digits = append([]byte{byte(back&0x7f) | 0x80}, digits...)
	}
	return append(to, digits...)
}
