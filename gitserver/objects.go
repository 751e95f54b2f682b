package gitserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
)

// pack is one pack of a repository, open for reading from any number of goroutines.
type pack struct {
	name    string // its checksum
	file    *os.File
	index   *idxfile.MemoryIndex
	scratch scratch // where its larger objects are built
}

// openPack opens DIR/pack-NAME.pack with its index.
func openPack(dir, name string) (*pack, error) {
	index, err := readIndex(filepath.Join(dir, "pack-"+name+".idx"))
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(dir, "pack-"+name+".pack"))
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	return &pack{name: name, file: file, index: index, scratch: scratch{filepath.Dir(filepath.Dir(dir))}}, nil
}

func readIndex(path string) (*idxfile.MemoryIndex, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open pack index: %w", err)
	}
	defer file.Close()
	index := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(bufio.NewReader(file)).Decode(index); err != nil {
		return nil, fmt.Errorf("read pack index: %w", err)
	}
	return index, nil
}

// objects is an immutable set of packs, the newest first, with the commits whose parents need not be in them.
type objects struct {
	packs     []*pack
	boundary  boundary
	collected int // how often packs were written anew without what was of no use
	built     *built
}

// openObjects opens the packs of a directory. A pack without its index was never promoted whole and is left out.
func openObjects(dir string) (*objects, error) {
	indexes, err := filepath.Glob(filepath.Join(dir, "pack-*.idx"))
	if err != nil {
		return nil, fmt.Errorf("list packs: %w", err)
	}
	o := &objects{}
	for _, index := range indexes {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(index), "pack-"), ".idx")
		p, err := openPack(dir, name)
		if err != nil {
			return nil, errors.Join(err, o.close())
		}
		o.packs = append(o.packs, p)
	}
	return o, nil
}

func (o *objects) with(p *pack) *objects {
	return &objects{packs: append([]*pack{p}, o.packs...), boundary: o.boundary, collected: o.collected}
}

func (o *objects) close() error {
	var errs []error
	for _, p := range o.packs {
		errs = append(errs, p.file.Close())
	}
	return errors.Join(errs...)
}

func (o *objects) has(id plumbing.Hash) bool {
	return slices.ContainsFunc(o.packs, func(p *pack) bool {
		found, _ := p.index.Contains(id)
		return found
	})
}

// found is where an object is.
type found struct {
	pack   *pack
	header entryHeader
	offset int64 // of the header
	data   int64 // of the deflated bytes
	built  *built
}

func (o *objects) find(id plumbing.Hash) (found, error) {
	for _, p := range o.packs {
		if offset, err := p.index.FindOffset(id); err == nil {
			f, err := p.at(offset)
			f.built = o.built
			return f, err
		}
	}
	return found{}, fmt.Errorf("object %s: %w", id, plumbing.ErrObjectNotFound)
}

func (p *pack) at(offset int64) (found, error) {
	var head [32]byte
	n, err := p.file.ReadAt(head[:], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return found{}, fmt.Errorf("read pack: %w", err)
	}
	reader := bytes.NewReader(head[:n])
	header, err := readEntryHeader(reader)
	if err != nil {
		return found{}, fmt.Errorf("read pack: %w", err)
	}
	return found{pack: p, header: header, offset: offset, data: offset + int64(n-reader.Len())}, nil
}

// base goes one delta down.
func (f found) base() (found, error) {
	if f.header.kind == plumbing.OFSDeltaObject {
		return f.beside(f.offset - f.header.back)
	}
	offset, err := f.pack.index.FindOffset(f.header.ref)
	if err != nil {
		return found{}, fmt.Errorf("delta base %s: %w", f.header.ref, err)
	}
	return f.beside(offset)
}

// beside is another object of the same pack.
func (f found) beside(offset int64) (found, error) {
	other, err := f.pack.at(offset)
	other.built = f.built
	return other, err
}

// chain lists the object and the deltas' bases down to one that is no delta.
func (f found) chain() ([]found, error) {
	chain := []found{f}
	for f.header.isDelta() {
		base, err := f.base()
		if err != nil {
			return nil, err
		}
		f, chain = base, append(chain, base)
	}
	return chain, nil
}

// kind is that of the object that the chain of deltas builds.
func (f found) kind() (kind plumbing.ObjectType, err error) {
	at := f
	for at.header.isDelta() {
		if kind, known := f.built.kind(at); known {
			f.built.keepKind(f, kind)
			return kind, nil
		}
		if at, err = at.base(); err != nil {
			return plumbing.InvalidObject, err
		}
	}
	f.built.keepKind(f, at.header.kind)
	return at.header.kind, nil
}

func (f found) deflated() io.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(f.pack.file, f.data, 1<<62), int(min(max(f.header.size, 512), 32<<10)))
}

// whole inflates an object that is no delta.
func (f found) whole() (body, error) {
	filling, err := f.pack.scratch.fill(f.header.size, true, nil)
	if err != nil {
		return body{}, err
	}
	return filling.inflate(f.deflated())
}

// over applies a delta to its base.
func (f found) over(base []byte) (body, error) {
	size, err := f.size()
	if err != nil {
		return body{}, err
	}
	filling, err := f.pack.scratch.fill(size, true, nil)
	if err != nil {
		return body{}, err
	}
	return filling.apply(base, f.deflated())
}

// size is that of the object itself, read without building it.
func (f found) size() (int64, error) {
	if !f.header.isDelta() {
		return f.header.size, nil
	}
	inflater, err := newInflater(f.deflated())
	if err != nil {
		return 0, fmt.Errorf("inflate delta: %w", err)
	}
	defer releaseInflater(inflater)
	head := make([]byte, min(f.header.size, 20))
	if _, err := io.ReadFull(inflater, head); err != nil {
		return 0, fmt.Errorf("inflate delta: %w", err)
	}
	_, size, err := deltaSizes(bytes.NewReader(head))
	return size, err
}

// kind gives what an object is; false when it is not there or cannot be read.
func (o *objects) kind(id plumbing.Hash) (plumbing.ObjectType, bool) {
	f, err := o.find(id)
	if err != nil {
		return plumbing.InvalidObject, false
	}
	kind, err := f.kind()
	return kind, err == nil
}

// open reads an object. One that is no delta streams; one that is a delta is built first.
func (o *objects) open(id plumbing.Hash) (plumbing.ObjectType, int64, io.ReadCloser, error) {
	f, err := o.find(id)
	if err != nil {
		return plumbing.InvalidObject, 0, nil, err
	}
	if f.header.isDelta() {
		kind, built, err := f.rebuild()
		return kind, int64(len(built.content)), &bodyReader{Reader: bytes.NewReader(built.content), body: built}, err
	}
	inflater, err := newInflater(f.deflated())
	if err != nil {
		return plumbing.InvalidObject, 0, nil, fmt.Errorf("inflate object: %w", err)
	}
	return f.header.kind, f.header.size, &borrowedInflater{ReadCloser: inflater}, nil
}

// bodyReader reads a body, and releases it when it is closed.
type bodyReader struct {
	*bytes.Reader
	body body
}

func (b *bodyReader) Close() error {
	b.Reset(nil)
	b.body.release()
	return nil
}

// borrowedInflater gives its reader back once.
type borrowedInflater struct{ io.ReadCloser }

func (b *borrowedInflater) Close() error {
	if b.ReadCloser != nil {
		releaseInflater(b.ReadCloser)
		b.ReadCloser = nil
	}
	return nil
}

func (b *borrowedInflater) Read(p []byte) (int, error) {
	if b.ReadCloser == nil {
		return 0, os.ErrClosed
	}
	return b.ReadCloser.Read(p)
}

func (o *objects) read(id plumbing.Hash) (plumbing.ObjectType, []byte, error) {
	f, err := o.find(id)
	if err != nil {
		return plumbing.InvalidObject, nil, err
	}
	return f.build()
}

// build is rebuild for what is small: commits, trees and tags.
func (f found) build() (plumbing.ObjectType, []byte, error) {
	kind, built, err := f.rebuild()
	if err != nil || !built.mapped {
		return kind, built.content, err
	}
	defer built.release()
	return kind, bytes.Clone(built.content), nil
}

// rebuild gives the content of an object. The caller releases it.
func (f found) rebuild() (plumbing.ObjectType, body, error) {
	kind, content, err := f.rebuildChain()
	if err != nil {
		return plumbing.InvalidObject, body{}, fmt.Errorf("build object: %w", err)
	}
	return kind, content, nil
}

func (f found) rebuildChain() (kind plumbing.ObjectType, content body, err error) {
	var above []found // what builds on the object at hand
	for at := f; ; {
		var known bool
		if kind, content, known = f.built.content(at); known {
			break
		}
		if !at.header.isDelta() {
			kind = at.header.kind
			if content, err = at.whole(); err != nil {
				return kind, body{}, err
			}
			f.built.keep(at, kind, content)
			break
		}
		above = append(above, at)
		if at, err = at.base(); err != nil {
			return kind, body{}, err
		}
	}
	for _, next := range slices.Backward(above) {
		base := content
		content, err = next.over(base.content)
		base.release()
		if err != nil {
			return kind, body{}, err
		}
		f.built.keep(next, kind, content)
	}
	return kind, content, nil
}

func (o *objects) isKind(id plumbing.Hash, kind plumbing.ObjectType) bool {
	actual, known := o.kind(id)
	return known && actual == kind
}

// readKind reads an object that has to be of one kind.
func (o *objects) readKind(id plumbing.Hash, kind plumbing.ObjectType) ([]byte, error) {
	actual, content, err := o.read(id)
	if err != nil {
		return nil, err
	}
	if actual != kind {
		return nil, fmt.Errorf("object %s is a %s, not a %s", id, actual, kind)
	}
	return content, nil
}
