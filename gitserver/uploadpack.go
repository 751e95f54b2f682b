package gitserver

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5/plumbing"
)

// uploadPack spools the objects of an upload as a pack, each once. How many there are is known only at the end.
type uploadPack struct {
	file     *os.File
	out      *bufio.Writer
	deflater *zlib.Writer
	hasher   objectHasher
	offset   int64
	seen     map[plumbing.Hash]struct{}
	fault    error // of our disk
}

func newUploadPack(dir string) (*uploadPack, error) {
	file, err := os.OpenFile(filepath.Join(dir, "upload"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	deflater, err := zlib.NewWriterLevel(io.Discard, zlib.BestSpeed)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create deflater: %w", err), file.Close())
	}
	return &uploadPack{file: file, out: bufio.NewWriterSize(file, 64<<10), deflater: deflater, seen: map[plumbing.Hash]struct{}{}}, nil
}

// errCutOff says that less came than was announced.
var errCutOff = errors.New("it is cut off")

// add writes an object of a known size, and takes it back when it is there already.
func (p *uploadPack) add(kind plumbing.ObjectType, size int64, content io.Reader) (plumbing.Hash, error) {
	start := p.offset
	if err := p.entry(kind, size, content); err != nil {
		return plumbing.ZeroHash, err
	}
	id, err := p.hasher.sum()
	if err != nil {
		return id, err
	}
	if _, twice := p.seen[id]; !twice {
		p.seen[id] = struct{}{}
		return id, nil
	}
	p.offset = start
	err = errors.Join(p.out.Flush(), p.file.Truncate(start))
	if err == nil {
		_, err = p.file.Seek(start, io.SeekStart)
	}
	return id, p.fail(err)
}

func (p *uploadPack) entry(kind plumbing.ObjectType, size int64, content io.Reader) error {
	if _, err := p.Write(appendEntryHeader(nil, kind, size)); err != nil {
		return err
	}
	p.hasher.begin(kind, size)
	p.deflater.Reset(p)
	n, err := io.Copy(io.MultiWriter(p.hasher.sha1, p.deflater), io.LimitReader(content, size))
	if err == nil && n < size {
		err = errCutOff
	}
	return errors.Join(err, p.deflater.Close())
}

// Write writes where the pack's next byte belongs.
func (p *uploadPack) Write(b []byte) (int, error) {
	if p.offset == 0 {
		p.offset = packHeaderSize // which is written when the count is known
		if _, err := p.out.Write(make([]byte, packHeaderSize)); err != nil {
			return 0, p.fail(err)
		}
	}
	n, err := p.out.Write(b)
	p.offset += int64(n)
	return n, p.fail(err)
}

func (p *uploadPack) fail(err error) error {
	if err == nil {
		return nil
	}
	p.fault = fmt.Errorf("spool upload: %w", err)
	return p.fault
}

// stream gives the whole pack, with its header and its checksum.
func (p *uploadPack) stream() (io.Reader, error) {
	if err := p.out.Flush(); err != nil {
		return nil, fmt.Errorf("spool upload: %w", err)
	}
	header := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(p.seen)))
	if _, err := p.file.WriteAt(header, 0); err != nil {
		return nil, fmt.Errorf("spool upload: %w", err)
	}
	sum := newSHA1()
	content := io.TeeReader(io.NewSectionReader(p.file, 0, p.offset), sum)
	return io.MultiReader(content, &trailer{sum: func() []byte { return sum.Sum(nil) }}), nil
}

// trailer is read after what it sums up.
type trailer struct {
	sum  func() []byte
	rest []byte
}

func (t *trailer) Read(p []byte) (int, error) {
	if t.sum != nil {
		t.rest, t.sum = t.sum(), nil
	}
	if len(t.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}
