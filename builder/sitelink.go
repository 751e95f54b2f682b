package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"
)

func (r *release) place(parts ...string) string {
	return filepath.Join(append([]string{r.tmp, "release"}, parts...)...)
}

// link makes the tree of hard links and the manifest that describes it.
func (r *release) link(ctx context.Context, byBlob map[string]*wanted) error {
	if err := r.makeDirectories(byBlob); err != nil {
		return err
	}
	entries := make([]manifestEntry, len(r.files))
	err := parallel(ctx, len(r.files), func(i int) (err error) {
		entries[i], err = r.linkFile(r.files[i], byBlob[r.files[i].node.Blob])
		return err
	})
	if err != nil {
		return err
	}
	listed := manifest{Version: manifestVersion, Files: make(map[string]manifestEntry, len(entries)), rules: r.rules}
	for i, f := range r.files {
		listed.Files[f.path] = entries[i]
	}
	found := make(catalogue, len(byBlob))
	for blob, w := range byBlob {
		found[blob] = w.object
	}
	if err := found.write(r.place()); err != nil {
		return err
	}
	return listed.write(r.place())
}

func (r *release) makeDirectories(byBlob map[string]*wanted) error {
	if err := os.MkdirAll(r.place("files"), 0o755); err != nil { // a site of redirects alone has no other
		return err
	}
	made := map[string]bool{}
	for _, f := range r.files {
		parents := []string{path.Join("files", path.Dir(f.path))}
		if f.isEncoded(byBlob) {
			parents = append(parents, path.Join("encoded", path.Dir(f.path)))
		}
		for _, parent := range parents {
			if made[parent] {
				continue
			}
			if err := os.MkdirAll(r.place(parent), 0o755); err != nil {
				return err
			}
			made[parent] = true
		}
	}
	return nil
}

func (f siteFile) isEncoded(byBlob map[string]*wanted) bool {
	return worthCompressing(f.path, f.node.Size) && byBlob[f.node.Blob].encoded != [len(codings)]int64{}
}

func (r *release) linkFile(f siteFile, w *wanted) (manifestEntry, error) {
	entry := manifestEntry{Blob: f.node.Blob, Size: f.node.Size}
	if err := r.linkObject(f.node.Blob, r.place("files", f.path)); err != nil {
		return entry, err
	}
	if !worthCompressing(f.path, f.node.Size) {
		return entry, nil
	}
	for i, coding := range codings {
		if w.encoded[i] == 0 {
			continue
		}
		err := r.linkObject(f.node.Blob+coding.suffix, r.place("encoded", f.path+coding.suffix))
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENAMETOOLONG) {
			continue // a directory x.html.gz beside a file x.html, or no room for the suffix: it goes without
		}
		if err != nil {
			return entry, err
		}
		entry.add(coding.name, w.encoded[i])
	}
	return entry, nil
}

// linkObject links an object to a place, and copies it where the file system has no link left for it.
func (r *release) linkObject(key, to string) error {
	err := os.Link(r.path(key), to)
	if !errors.Is(err, syscall.EMLINK) {
		return err
	}
	from, err := os.Open(r.path(key))
	if err != nil {
		return err
	}
	defer from.Close()
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(copied, from)
	return errors.Join(err, copied.Sync(), copied.Close())
}

// install makes the tree durable and puts it in its place, whole.
func (r *release) install() error {
	if err := syncFile(r.place()); err != nil {
		return err
	}
	parent := filepath.Join(r.dir, "releases", r.request.App)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	final := filepath.Join(parent, strconv.FormatInt(r.request.Deployment, 10))
	if err := os.Rename(final, filepath.Join(r.tmp, "replaced")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace release of the same deployment: %w", err)
	}
	if err := os.Rename(r.place(), final); err != nil {
		return err
	}
	return syncFile(parent)
}
