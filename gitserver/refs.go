package gitserver

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing"
)

// hiddenRefs keep the commit of each deployment, also of those that failed. They are not shown to clients.
const hiddenRefs = "refs/deployments/"

func hiddenRef(deployment int64) string { return hiddenRefs + strconv.FormatInt(deployment, 10) }

// refs reads and writes the refs of one repository: loose files, and what git packed into one. Writers exclude each
// other by the lock of the repository.
type refs struct{ dir string }

// get gives the value of a ref, zero when it does not exist.
func (r refs) get(name string) (plumbing.Hash, error) {
	id, err := r.loose(name)
	if err != nil || !id.IsZero() {
		return id, err
	}
	packed, err := r.packed()
	return packed[name], err
}

func (r refs) loose(name string) (plumbing.Hash, error) {
	content, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) {
		return plumbing.ZeroHash, nil
	}
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("read ref: %w", err)
	}
	text := strings.TrimSpace(string(content))
	if strings.HasPrefix(text, "ref: ") {
		return plumbing.ZeroHash, nil // one that names another is not ours
	}
	if !plumbing.IsHash(text) {
		return plumbing.ZeroHash, fmt.Errorf("read ref %s: it holds %.60q", name, text)
	}
	return plumbing.NewHash(text), nil
}

func (r refs) packed() (map[string]plumbing.Hash, error) {
	file, err := os.Open(filepath.Join(r.dir, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open packed refs: %w", err)
	}
	defer file.Close()
	packed := map[string]plumbing.Hash{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if id, name, ok := strings.Cut(lines.Text(), " "); ok && plumbing.IsHash(id) {
			packed[name] = plumbing.NewHash(id)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read packed refs: %w", err)
	}
	return packed, nil
}

// all lists every ref but the hidden ones.
func (r refs) all() (map[string]plumbing.Hash, error) {
	all, err := r.packed()
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = map[string]plumbing.Hash{}
	}
	for name := range all {
		if strings.HasPrefix(name, hiddenRefs) {
			delete(all, name)
		}
	}
	return all, r.walk("refs", all)
}

func (r refs) walk(dir string, into map[string]plumbing.Hash) error {
	entries, err := os.ReadDir(filepath.Join(r.dir, filepath.FromSlash(dir)))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			if name+"/" == hiddenRefs {
				continue
			}
			if err := r.walk(name, into); err != nil {
				return err
			}
			continue
		}
		if strings.HasSuffix(name, ".lock") {
			continue
		}
		id, err := r.loose(name)
		if err != nil {
			return err
		}
		if !id.IsZero() {
			into[name] = id
		}
	}
	return nil
}

// deployments gives the commit that each deployment's ref keeps, wherever it is kept.
func (r refs) deployments() (map[int64]plumbing.Hash, error) {
	packed, err := r.packed()
	if err != nil {
		return nil, err
	}
	kept := map[int64]plumbing.Hash{}
	for name, id := range packed {
		if number, err := strconv.ParseInt(strings.TrimPrefix(name, hiddenRefs), 10, 64); err == nil && hiddenRef(number) == name {
			kept[number] = id
		}
	}
	entries, err := os.ReadDir(filepath.Join(r.dir, filepath.FromSlash(hiddenRefs)))
	for _, e := range entries {
		number, notOurs := strconv.ParseInt(e.Name(), 10, 64)
		if notOurs != nil {
			continue
		}
		id, err := r.loose(hiddenRef(number))
		if err != nil {
			return nil, err
		}
		if !id.IsZero() {
			kept[number] = id
		}
	}
	return kept, ignoreMissing(err)
}

// newestHidden gives the commit of the newest deployment, zero when there is none.
func (r refs) newestHidden() (plumbing.Hash, error) {
	newest, err := r.hidden(1)
	if err != nil || len(newest) == 0 {
		return plumbing.ZeroHash, err
	}
	return newest[0], nil
}

// hidden gives the commits of the newest deployments, the newest first, at most so many.
func (r refs) hidden(most int) ([]plumbing.Hash, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, filepath.FromSlash(hiddenRefs)))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var numbers []int64
	for _, e := range entries {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	var newest []plumbing.Hash
	for _, n := range numbers[:min(most, len(numbers))] {
		id, err := r.loose(hiddenRef(n))
		if err != nil {
			return nil, err
		}
		newest = append(newest, id)
	}
	return newest, nil
}

// set moves a ref, or creates it.
func (r refs) set(name string, id plumbing.Hash) error {
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write ref %s: %w", name, err)
	}
	if err := removeEmptyDirs(path); err != nil {
		return fmt.Errorf("write ref %s: %w", name, err)
	}
	return writeDurably(path, id.String()+"\n")
}

// removeEmptyDirs clears the way for a ref where only the directories of deleted refs are left.
func removeEmptyDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeEmptyDirs(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Remove(dir))
}

// remove deletes a ref wherever it is kept, and the directories that are empty without it.
func (r refs) remove(name string) error {
	if err := r.removePacked(name); err != nil {
		return err
	}
	path := filepath.Join(r.dir, filepath.FromSlash(name))
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove ref %s: %w", name, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	for dir := filepath.Dir(path); strings.Count(strings.TrimPrefix(dir, r.dir), string(filepath.Separator)) > 2; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // another ref is in it
		}
	}
	return nil
}

func (r refs) removePacked(name string) error {
	packed, err := r.packed()
	if err != nil || packed[name].IsZero() {
		return err
	}
	path := filepath.Join(r.dir, "packed-refs")
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read packed refs: %w", err)
	}
	var kept strings.Builder
	dropped := false
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "^") && dropped {
			continue // what the dropped tag points to
		}
		if dropped = strings.TrimSpace(line) == packed[name].String()+" "+name; !dropped {
			kept.WriteString(line)
		}
	}
	return writeDurably(path, kept.String())
}

// clash names a ref that a new one cannot exist beside: a file system has no directory where a file is.
func clash(existing map[string]plumbing.Hash, name string) (string, bool) {
	for other := range existing {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return other, true
		}
	}
	return "", false
}
