package proxy

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
)

const (
	smallFile  = 16 << 10 // bytes; opening one costs more than sending it
	smallFiles = 2 << 20  // bytes of one release tree that are kept in memory
	idleFiles  = 16       // of one release tree that are kept open
)

// contents are the files of one release tree. Small ones stay in memory once they were asked for, as far as there is room,
// and larger ones stay open for the next request: a tree never changes.
type contents struct {
	root *os.Root // what a symbolic link leads out of

	mu    sync.RWMutex
	small map[string][]byte
	room  int64
	idle  []*lentFile // the longest idle first
}

func openContents(tree string) (*contents, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	c := &contents{root: root, small: map[string][]byte{}, room: smallFiles}
	runtime.AddCleanup(c, func(root *os.Root) { _ = root.Close() }, root) // read only, and as many targets use it as need it
	return c, nil
}

type content interface {
	io.ReadSeeker
	io.Closer
}

type inMemory struct{ *bytes.Reader }

// Close does nothing: what is in memory stays there.
func (inMemory) Close() error { return nil }

// open gives a form's content.
func (c *contents) open(form form) (content, error) {
	if form.size > smallFile {
		return c.lend(form)
	}
	c.mu.RLock()
	data, held := c.small[form.path]
	c.mu.RUnlock()
	if held {
		return inMemory{bytes.NewReader(data)}, nil
	}
	file, err := c.openFile(form)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if data, err = io.ReadAll(file); err != nil {
		return nil, fmt.Errorf("read site file: %w", err)
	}
	c.hold(form.path, data)
	return inMemory{bytes.NewReader(data)}, nil
}

func (c *contents) hold(path string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, held := c.small[path]; !held && int64(len(data)) <= c.room {
		c.small[path] = data
		c.room -= int64(len(data))
	}
}

// lentFile is an open file that goes back to where it came from. What sends it finds the descriptor, as of any file.
type lentFile struct {
	*os.File
	from *contents
	path string
}

// Close keeps the file open for the next request, in place of the one that was not asked for the longest.
func (l *lentFile) Close() error {
	l.from.mu.Lock()
	defer l.from.mu.Unlock()
	l.from.idle = append(l.from.idle, l)
	if len(l.from.idle) <= idleFiles {
		return nil
	}
	oldest := l.from.idle[0]
	l.from.idle = slices.Delete(l.from.idle, 0, 1)
	return oldest.File.Close()
}

// lend gives a file at its beginning, which nobody else reads meanwhile: to open one takes a good part of the time that it
// takes to send 100 KB.
func (c *contents) lend(form form) (content, error) {
	if file := c.takeIdle(form.path); file != nil {
		if _, err := file.Seek(0, io.SeekStart); err == nil {
			return file, nil
		}
		_ = file.File.Close() // read only
	}
	file, err := c.openFile(form)
	if err != nil {
		return nil, err
	}
	return &lentFile{file, c, form.path}, nil
}

// takeIdle gives a file that is open already, or nil.
func (c *contents) takeIdle(path string) *lentFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.idle, func(l *lentFile) bool { return l.path == path })
	if at < 0 {
		return nil
	}
	found := c.idle[at]
	c.idle = slices.Delete(c.idle, at, at+1)
	return found
}

// openFile opens a form's file. A symbolic link may not lead out of the tree.
func (c *contents) openFile(form form) (*os.File, error) {
	file, err := c.root.Open(form.path)
	if err != nil {
		return nil, fmt.Errorf("open site file: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != form.size {
		err = &fs.PathError{Op: "open", Path: form.path, Err: fs.ErrInvalid}
	}
	if err != nil {
		_ = file.Close() // read only
		return nil, err
	}
	return file, nil
}
