package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/shipgate/shipgate/store"
)

// siteStore keeps sites below one directory:
//
//	objects/ab/cdef…        contents by git's object id, and their encoded forms beside them; never changed
//	releases/APP/DEPLOYMENT hard links to objects, by path, with a manifest; complete or not there
//	tmp/…                   what builds are making now
type siteStore struct {
	dir        string
	sweeping   sync.Once
	sweepError error
	// using is held for reading while a build counts on objects, for writing while those without a link are removed.
	using sync.RWMutex
}

// release is one release tree in the making.
type release struct {
	*siteStore
	tmp     string // holds new objects, then the tree
	request store.BuildRequest
	tree    *tree

	objects []*wanted // each blob once
	files   []siteFile
	rules   rules
	fresh   int
	written int64
	total   int64
}

// wanted is a blob that the release needs.
type wanted struct {
	object
	node     *node
	compress bool     // one of its names is worth it
	made     []string // keys of the objects that were not there yet
	written  int64
}

// path gives where an object is. The key is a git object id, with the suffix of its coding if it is an encoded form.
func (s *siteStore) path(key string) string { return filepath.Join(s.dir, "objects", key[:2], key[2:]) }

// publish makes the release tree of a deployment, in place of one that was there.
func (s *siteStore) publish(ctx context.Context, request store.BuildRequest, build *siteBuild) (*release, error) {
	s.using.RLock()
	defer s.using.RUnlock()
	if err := os.MkdirAll(s.temporary(), 0o755); err != nil {
		return nil, fmt.Errorf("make site directory: %w", err)
	}
	tmp, err := os.MkdirTemp(s.temporary(), "")
	if err != nil {
		return nil, fmt.Errorf("make site directory: %w", err)
	}
	defer os.RemoveAll(tmp)
	r := &release{siteStore: s, tmp: tmp, request: request, tree: build.tree, files: build.files, rules: build.rules}
	byBlob := r.want()
	if err := r.store(ctx, r.known()); err != nil {
		return nil, fmt.Errorf("store site files: %w", err)
	}
	if err := r.link(ctx, byBlob); err != nil {
		return nil, fmt.Errorf("link site files: %w", err)
	}
	if err := r.install(); err != nil {
		return nil, fmt.Errorf("install site release: %w", err)
	}
	return r, nil
}

// want lists each blob once.
func (r *release) want() map[string]*wanted {
	byBlob := make(map[string]*wanted, len(r.files))
	for _, f := range r.files {
		w, known := byBlob[f.node.Blob]
		if !known {
			w = &wanted{node: f.node, object: object{size: f.node.Size}}
			byBlob[f.node.Blob] = w
			r.objects = append(r.objects, w)
		}
		w.compress = w.compress || worthCompressing(f.path, f.node.Size)
		r.total += f.node.Size
	}
	return byBlob
}

// known reads what the app's newest release knows of its objects.
func (r *release) known() catalogue {
	directory := filepath.Join(r.dir, "releases", r.request.App)
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil
	}
	newest := int64(-1)
	for _, entry := range entries {
		if number, err := strconv.ParseInt(entry.Name(), 10, 64); err == nil && number > newest {
			newest = number
		}
	}
	if newest < 0 {
		return nil
	}
	return readCatalogue(filepath.Join(directory, strconv.FormatInt(newest, 10)))
}

// store puts the objects that are not there yet, written and synced before they get their names, so that no
// half-written one is ever taken for a whole one.
func (r *release) store(ctx context.Context, known catalogue) error {
	if err := parallel(ctx, len(r.objects), func(i int) error { return r.prepare(r.objects[i], known) }); err != nil {
		return err
	}
	var fresh []string
	for _, w := range r.objects {
		fresh = append(fresh, w.made...)
		if len(w.made) > 0 {
			r.fresh++
			r.written += w.written
		}
	}
	if err := r.sync(ctx, fresh); err != nil {
		return err
	}
	return parallel(ctx, len(fresh), func(i int) error { return r.adopt(fresh[i]) })
}

// prepare makes sure that a blob and its encoded forms are stored or waiting in the temporary directory.
func (r *release) prepare(w *wanted, known catalogue) error {
	if o, ok := known[w.node.Blob]; ok && (o.tried || !w.compress) && r.intact(w.node.Blob, o) {
		w.object = o
		return nil
	}
	if !w.compress {
		if hasSize(r.path(w.node.Blob), w.size) {
			return nil
		}
		return r.copyBlob(w)
	}
	data, err := r.readBlob(w)
	if err != nil {
		return err
	}
	w.tried = true
	if !hasSize(r.path(w.node.Blob), w.size) {
		if err := r.put(w, w.node.Blob, data); err != nil {
			return err
		}
	}
	return r.encode(w, data)
}

// encode stores the encoded forms that are worth their space.
func (r *release) encode(w *wanted, data []byte) error {
	forms, err := encodeAll(data)
	if err != nil {
		return err
	}
	for i, form := range forms {
		if form == nil {
			continue
		}
		w.encoded[i] = int64(len(form))
		if err := r.put(w, w.node.Blob+codings[i].suffix, form); err != nil {
			return err
		}
	}
	return nil
}

// intact says that an object and its encoded forms are there with the sizes that are known of them.
func (r *release) intact(blob string, o object) bool {
	if !hasSize(r.path(blob), o.size) {
		return false
	}
	for i, coding := range codings {
		if o.encoded[i] != 0 && !hasSize(r.path(blob+coding.suffix), o.encoded[i]) {
			return false
		}
	}
	return true
}

func hasSize(name string, size int64) bool {
	info, err := os.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

func (r *release) readBlob(w *wanted) ([]byte, error) {
	data, err := r.tree.read(w.node, w.size+1)
	if err != nil {
		return nil, err
	}
	return data, w.check(int64(len(data)), data)
}

// check refuses a Git LFS pointer, and content that is not what the commit lists.
func (w *wanted) check(size int64, head []byte) error {
	if size != w.size {
		return fmt.Errorf("%s has %d bytes, but the commit lists %d", w.node.Path, size, w.size)
	}
	if maybeLFS(w.node.TreeEntry) && isLFS(head) {
		return lfsProblem(w.node.Path)
	}
	return nil
}

// copyBlob stores a blob of any size without reading it whole.
func (r *release) copyBlob(w *wanted) error {
	if w.size <= maxCompressed {
		data, err := r.readBlob(w)
		if err != nil {
			return err
		}
		return r.put(w, w.node.Blob, data)
	}
	content, err := r.tree.snapshot.Open(w.node.Path)
	if err != nil {
		return fmt.Errorf("open %s of the commit: %w", w.node.Path, err)
	}
	defer content.Close()
	return r.write(w, w.node.Blob, content, w.size)
}

func (r *release) put(w *wanted, key string, data []byte) error {
	return r.write(w, key, bytes.NewReader(data), int64(len(data)))
}

func (r *release) write(w *wanted, key string, content io.Reader, size int64) error {
	f, err := createIn(r.waiting(key))
	if err != nil {
		return err
	}
	written, err := io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if written != size {
		return fmt.Errorf("%s has %d bytes, but the commit lists %d", w.node.Path, written, size)
	}
	w.made = append(w.made, key)
	w.written += written
	return nil
}

// createIn makes a file that is not to change, and its directory where that is missing.
func createIn(name string) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(name, flags, 0o444)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(name, flags, 0o444)
}

// waiting gives where an object is until it is synced. As among the objects, many directories keep each of them small.
func (r *release) waiting(key string) string {
	return filepath.Join(r.tmp, "objects", key[:2], key[2:])
}

// sync makes the waiting objects durable: one by one when they are few, else the whole file system at once.
func (r *release) sync(ctx context.Context, keys []string) error {
	const few = 32
	if len(keys) > few && syncFileSystem(r.tmp) {
		return nil
	}
	return parallel(ctx, len(keys), func(i int) error { return syncFile(r.waiting(keys[i])) })
}

// adopt gives a waiting object its place. One that came there meanwhile stays: another build may be about to link it.
func (r *release) adopt(key string) error {
	from, to := r.waiting(key), r.path(key)
	err := renameNew(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		err = renameNew(from, to)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(from)
	if err != nil || hasSize(to, info.Size()) {
		return err
	}
	return os.Rename(from, to)
}

// parallel does something for each index below n on all cores, and stops at the first error. Each core gets a stretch
// of its own: neighbours often lie in one directory, on which the cores would wait for each other.
func parallel(ctx context.Context, n int, do func(i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	cores := min(n, runtime.GOMAXPROCS(0))
	for core := range cores {
		group.Go(func() error {
			for i := core * n / cores; i < (core+1)*n/cores; i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
