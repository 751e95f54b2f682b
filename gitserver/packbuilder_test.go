package gitserver

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

// packBuilder makes packs by hand, with whatever is to be wrong with them.
type packBuilder struct {
	entries [][]byte
	count   uint32 // what the header declares; 0: as many as there are
}

var deflaters = sync.Pool{New: func() any { return zlib.NewWriter(nil) }} // making one costs far more than a small object

func deflated(content []byte) []byte {
	var b bytes.Buffer
	w := deflaters.Get().(*zlib.Writer)
	defer deflaters.Put(w)
	w.Reset(&b)
	_, _ = w.Write(content)
	_ = w.Close()
	return b.Bytes()
}

func idOf(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	return plumbing.ComputeHash(kind, content)
}

// add appends an object and gives its id.
func (p *packBuilder) add(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	p.declare(kind, int64(len(content)), content)
	return idOf(kind, content)
}

// declare appends an object that says it has another size.
func (p *packBuilder) declare(kind plumbing.ObjectType, size int64, content []byte) {
	p.entries = append(p.entries, append(appendEntryHeader(nil, kind, size), deflated(content)...))
}

func (p *packBuilder) refDelta(base plumbing.Hash, delta []byte) {
	head := append(appendEntryHeader(nil, plumbing.REFDeltaObject, int64(len(delta))), base[:]...)
	p.entries = append(p.entries, append(head, deflated(delta)...))
}

// ofsDelta appends a delta whose base starts back bytes in front of it; less than 128.
func (p *packBuilder) ofsDelta(back byte, delta []byte) {
	head := append(appendEntryHeader(nil, plumbing.OFSDeltaObject, int64(len(delta))), back)
	p.entries = append(p.entries, append(head, deflated(delta)...))
}

func (p *packBuilder) bytes() []byte {
	count := p.count
	if count == 0 {
		count = uint32(len(p.entries))
	}
	pack := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), count)
	for _, e := range p.entries {
		pack = append(pack, e...)
	}
	sum := sha1.Sum(pack)
	return append(pack, sum[:]...)
}

func treeLine(mode, name string, id plumbing.Hash) []byte {
	return append([]byte(mode+" "+name+"\x00"), id[:]...)
}

func commitText(tree plumbing.Hash, parents ...plumbing.Hash) []byte {
	text := fmt.Sprintf("tree %s\n", tree)
	for _, parent := range parents {
		text += fmt.Sprintf("parent %s\n", parent)
	}
	return []byte(text + "author A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000\n\nSubject\n")
}

func tagText(target plumbing.Hash, kind string) []byte {
	return fmt.Appendf(nil, "object %s\ntype %s\ntag v1\ntagger A <a@example.com> 1700000000 +0000\n\nText\n", target, kind)
}

// varint is a size as a delta writes it.
func varint(n int64) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func deltaOf(base, result int64, code ...byte) []byte {
	return append(append(varint(base), varint(result)...), code...)
}

// commitOf adds a commit of a tree with these lines, and gives its id.
func (p *packBuilder) commitOf(lines ...[]byte) plumbing.Hash {
	tree := p.add(plumbing.TreeObject, bytes.Join(lines, nil))
	return p.add(plumbing.CommitObject, commitText(tree))
}
