package builder

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pjbgf/sha1cd"

	"github.com/shipgate/shipgate/store"
)

// output is a Snapshot of files that a build made. It lies among the temporary files, which a crash leaves to sweep.
type output struct {
	dir  string
	root *os.Root // keeps symlinks that the build made from leading out
}

func (s *siteStore) newOutput() (*output, error) {
	if err := os.MkdirAll(s.temporary(), 0o755); err != nil {
		return nil, fmt.Errorf("make directory for build output: %w", err)
	}
	dir, err := os.MkdirTemp(s.temporary(), "output")
	if err != nil {
		return nil, fmt.Errorf("make directory for build output: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open directory for build output: %w", err), os.RemoveAll(dir))
	}
	return &output{dir: dir, root: root}, nil
}

// remove ends the use of the files. What cannot be removed is swept before the next process's first build.
func (o *output) remove() {
	o.root.Close()
	os.RemoveAll(o.dir)
}

// Entries reads all files, to name each by git's id of its content. Sockets, pipes and devices are no files.
func (o *output) Entries() ([]store.TreeEntry, error) {
	var entries []store.TreeEntry
	err := fs.WalkDir(o.root.FS(), ".", func(name string, found fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entry := store.TreeEntry{Path: filepath.ToSlash(name)}
		switch found.Type() {
		case 0:
			entry.Mode = store.ModeFile
		case fs.ModeSymlink:
			entry.Mode = store.ModeSymlink
		default:
			return nil
		}
		if entry.Blob, entry.Size, err = o.identify(name); err != nil {
			return fmt.Errorf("read %s of the build's output: %w", name, err)
		}
		entries = append(entries, entry)
		return nil
	})
	return entries, err
}

// identify gives git's object id of a file: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
func (o *output) identify(name string) (id string, size int64, err error) {
	content, size, err := o.open(name)
	if err != nil {
		return "", 0, err
	}
	defer content.Close()
	hash := sha1cd.New()
	fmt.Fprintf(hash, "blob %d\x00", size)
	if _, err := io.Copy(hash, content); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(hash.Sum(nil)), size, nil
}

// Open reads the file, or the target of the symlink.
func (o *output) Open(name string) (io.ReadCloser, error) {
	content, _, err := o.open(name)
	return content, err
}

func (o *output) open(name string) (io.ReadCloser, int64, error) {
	info, err := o.root.Lstat(name)
	if err != nil {
		return nil, 0, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := o.root.Readlink(name)
		return io.NopCloser(strings.NewReader(target)), int64(len(target)), err
	}
	content, err := o.root.Open(name)
	return content, info.Size(), err
}
