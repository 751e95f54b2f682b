package gitserver

import (
	"bufio"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"
)

// inMemory is the size up to which the content of an object is held on the heap. What is larger is in a file without a
// name, which is mapped: the kernel can take its pages back, so that memory does not grow with what objects inflate to.
const inMemory = 1 << 20

// body is the content of an object.
type body struct {
	content []byte
	mapped  bool
	held    bool // false: there is none
}

func (b *body) release() {
	if b.mapped {
		_ = syscall.Munmap(b.content)
	}
	*b = body{}
}

// scratch makes bodies; Dir is where their files are.
type scratch struct{ dir string }

// filling is a body of a known size on its way.
type filling struct {
	size   int64
	done   int64
	memory []byte
	file   *os.File
	out    *bufio.Writer
	hash   hash.Hash // of what is written; may be nil
	fault  error     // of our disk
}

// fill begins a body. Keep is false when only its hash is wanted.
func (s scratch) fill(size int64, keep bool, hash hash.Hash) (*filling, error) {
	f := &filling{size: size, hash: hash}
	switch {
	case !keep:
	case size <= inMemory:
		f.memory = make([]byte, 0, size)
	default:
		file, err := os.CreateTemp(s.dir, quarantinePrefix+"content-")
		if err != nil {
			return nil, fmt.Errorf("create scratch file: %w", err)
		}
		if err := os.Remove(file.Name()); err != nil {
			return nil, errors.Join(fmt.Errorf("unlink scratch file: %w", err), file.Close())
		}
		f.file, f.out = file, bufio.NewWriterSize(file, 64<<10)
	}
	return f, nil
}

func (f *filling) Write(p []byte) (int, error) {
	f.done += int64(len(p))
	if f.done > f.size {
		return 0, wrongSize(f.done, f.size)
	}
	if f.hash != nil {
		_, _ = f.hash.Write(p)
	}
	if f.memory != nil {
		f.memory = append(f.memory, p...)
	}
	if f.out != nil {
		if _, err := f.out.Write(p); err != nil {
			f.fault = fmt.Errorf("write scratch file: %w", err)
			return 0, f.fault
		}
	}
	return len(p), nil
}

// end gives the body when err is nil and all of it came. The filling is of no use afterwards.
func (f *filling) end(err error) (body, error) {
	if err == nil && f.done != f.size {
		err = wrongSize(f.done, f.size)
	}
	if f.file == nil {
		return body{content: f.memory, held: f.memory != nil}, err
	}
	defer f.file.Close() // what is mapped stays
	if err == nil {
		err = f.out.Flush()
	}
	if err != nil {
		return body{}, err
	}
	content, err := syscall.Mmap(int(f.file.Fd()), 0, int(f.size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return body{}, fmt.Errorf("map scratch file: %w", err)
	}
	return body{content: content, mapped: true, held: true}, nil
}

// inflate fills a body with what is deflated in r.
func (f *filling) inflate(r io.Reader) (body, error) {
	inflater, err := newInflater(r)
	if err != nil {
		return f.end(fmt.Errorf("inflate object: %w", err))
	}
	defer releaseInflater(inflater)
	_, err = io.Copy(f, inflater)
	return f.end(err)
}

// apply fills a body with what the deflated delta in r makes of a base.
func (f *filling) apply(base []byte, r io.Reader) (body, error) {
	inflater, err := newInflater(r)
	if err != nil {
		return f.end(fmt.Errorf("inflate delta: %w", err))
	}
	defer releaseInflater(inflater)
	most := min(f.size+1, 16<<10) // instructions may give few bytes each
	small := bufio.NewWriterSize(f, int(most))
	if err = applyDelta(base, bufio.NewReaderSize(inflater, int(most)), f.size, small); err == nil {
		err = small.Flush()
	}
	return f.end(err)
}
