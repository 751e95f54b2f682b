package gitserver

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// uploadTree gathers the files of a tar stream.
type uploadTree struct {
	limits  Limits
	root    *uploadDir
	entries int
	files   int
	bytes   int64
}

// uploadDir is a directory on its way to a tree object.
type uploadDir struct {
	dirs  map[string]*uploadDir
	files map[string]treeEntry
}

func newUploadDir() *uploadDir {
	return &uploadDir{dirs: map[string]*uploadDir{}, files: map[string]treeEntry{}}
}

func newUploadTree(limits Limits) *uploadTree {
	return &uploadTree{limits: limits, root: newUploadDir()}
}

// take reads the stream to its end, and has the pack keep the content of each file.
func (t *uploadTree) take(ctx context.Context, content io.Reader, pack *uploadPack) error {
	stream := tar.NewReader(&boundedStream{content: content, left: t.limits.UploadBytes + headersOfEntry*int64(t.limits.UploadFiles+1), limit: t.limits.UploadBytes})
	for {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("take upload: %w", err)
		}
		header, err := stream.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return unreadable(pack, "the tar stream", err)
		}
		if err := t.takeEntry(header, stream, pack); err != nil {
			return unreadable(pack, fmt.Sprintf("entry %.200q", header.Name), err)
		}
	}
	if t.files == 0 {
		return refusal("the upload has no files").WithHint("tar -C DIRECTORY -cf - .")
	}
	return nil
}

// headersOfEntry is what the stream may have of an entry besides its content: headers, long names, and what fills blocks up.
const headersOfEntry = 8 << 10

// boundedStream ends a stream that has far more than files: what repeats headers is never done.
type boundedStream struct {
	content     io.Reader
	left, limit int64
}

func (b *boundedStream) Read(p []byte) (int, error) {
	n, err := b.content.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, refusal("the upload has more than %d bytes", b.limit)
	}
	return n, err
}

// unreadable says what is wrong with the stream: all that is not our disk's fault.
func unreadable(pack *uploadPack, what string, err error) error {
	if _, known := store.AsProblem(err); known || pack.fault != nil {
		return fmt.Errorf("take upload: %w", err)
	}
	return refusal("%s cannot be read: %w", what, err).WithHint("tar -C DIRECTORY -cf - .")
}

func (t *uploadTree) takeEntry(header *tar.Header, content io.Reader, pack *uploadPack) error {
	if t.entries++; t.entries > t.limits.UploadFiles {
		return refusal("the upload has more than %d entries", t.limits.UploadFiles)
	}
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil // what git archive begins with
	}
	parts, err := uploadName(header.Name)
	if err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		_, err := t.dir(parts, header.Name)
		return err
	case tar.TypeReg:
		mode := uint32(store.ModeFile)
		if header.Mode&0o100 != 0 {
			mode = store.ModeExecutable
		}
		return t.file(header, parts, mode, header.Size, content, pack)
	case tar.TypeSymlink:
		if err := checkTarget(parts, header.Linkname); err != nil {
			return refusal("entry %.200q: %w", header.Name, err)
		}
		return t.file(header, parts, store.ModeSymlink, int64(len(header.Linkname)), strings.NewReader(header.Linkname), pack)
	}
	return refusal("entry %.200q is neither a file nor a directory nor a symbolic link", header.Name)
}

func (t *uploadTree) file(header *tar.Header, parts []string, mode uint32, size int64, content io.Reader, pack *uploadPack) error {
	if len(parts) == 0 || strings.HasSuffix(header.Name, "/") {
		return refusal("entry %.200q is a file with the name of a directory", header.Name)
	}
	if t.bytes += size; size < 0 || t.bytes > t.limits.UploadBytes {
		return refusal("the upload has more than %d bytes", t.limits.UploadBytes)
	}
	last := len(parts) - 1
	dir, err := t.dir(parts[:last], header.Name)
	if err != nil {
		return err
	}
	name := parts[last]
	if _, twice := dir.files[name]; twice || dir.dirs[name] != nil {
		return refusal("entry %.200q is there twice", header.Name)
	}
	id, err := pack.add(plumbing.BlobObject, size, content)
	if err != nil {
		return err
	}
	t.files++
	dir.files[name] = treeEntry{mode: mode, name: name, id: id}
	return nil
}

// dir finds a directory, and makes those that are missing.
func (t *uploadTree) dir(parts []string, entry string) (*uploadDir, error) {
	dir := t.root
	for _, name := range parts {
		if _, file := dir.files[name]; file {
			return nil, refusal("entry %.200q lies below a file", entry)
		}
		next := dir.dirs[name]
		if next == nil {
			next = newUploadDir()
			dir.dirs[name] = next
		}
		dir = next
	}
	return dir, nil
}

// write writes the trees from below. Directories without files are left out, as git does.
func (d *uploadDir) write(pack *uploadPack) (plumbing.Hash, error) {
	entries := slices.Collect(maps.Values(d.files))
	for name, dir := range d.dirs {
		if dir.empty() {
			continue
		}
		id, err := dir.write(pack)
		if err != nil {
			return id, err
		}
		entries = append(entries, treeEntry{mode: store.ModeDirectory, name: name, id: id})
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return cmp.Compare(a.sortName(), b.sortName()) })
	var content bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&content, "%o %s\x00%s", e.mode, e.name, e.id[:])
	}
	return pack.add(plumbing.TreeObject, int64(content.Len()), &content)
}

func (d *uploadDir) empty() bool {
	if len(d.files) > 0 {
		return false
	}
	for _, dir := range d.dirs {
		if !dir.empty() {
			return false
		}
	}
	return true
}

// sortName is what git orders a tree by.
func (e treeEntry) sortName() string {
	if e.mode == store.ModeDirectory {
		return e.name + "/"
	}
	return e.name
}

// deepestUpload bounds how deep the directories of an upload lie in each other.
const deepestUpload = 200

// uploadName takes the name of an entry apart; none for the root itself. A name that is not plainly below it is refused.
func uploadName(name string) (parts []string, err error) {
	refused := func(why string) ([]string, error) { return nil, refusal("entry %.200q: %s", name, why) }
	switch {
	case !utf8.ValidString(name):
		return refused("its name is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return refused("its name has a control character")
	case strings.Contains(name, `\`):
		return refused("its name has a backslash")
	case strings.HasPrefix(name, "/"):
		return refused("its name is absolute")
	case len(name) > 4096:
		return refused("its name is too long")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		if why := refusedName(part); why != "" {
			return refused(why)
		}
		if len(part) > 255 {
			return refused("a part of its name is longer than 255 bytes")
		}
		parts = append(parts, part)
	}
	if len(parts) > deepestUpload {
		return refused("it lies too deep")
	}
	return parts, nil
}

// checkTarget wants a symbolic link to stay inside. Steps up come first in its target and count from where the link is; a
// step up after a name could start from another link.
func checkTarget(link []string, target string) error {
	switch {
	case target == "" || len(target) > 4096 || strings.ContainsRune(target, 0):
		return errors.New("its target is no path")
	case path.IsAbs(target):
		return errors.New("its target is absolute")
	}
	up, named := 0, false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			named = true
		case named:
			return errors.New("its target goes up after it went down")
		default:
			up++
		}
	}
	if up >= len(link) {
		return errors.New("its target lies outside")
	}
	return nil
}
