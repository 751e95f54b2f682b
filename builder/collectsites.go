package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/shipgate/shipgate/store"
)

// looseObjects are the objects that no release links when the trees that are to go have gone.
type looseObjects struct {
	paths []string
	bytes int64
}

// collect removes release trees, and then the objects that none links any more. No build of a site goes on meanwhile.
func (s *siteStore) collect(ctx context.Context, keep keeps, dry bool) ([]store.Garbage, error) {
	s.using.Lock()
	defer s.using.Unlock()
	trees, err := unkept(filepath.Join(s.dir, "releases"), keep)
	if err != nil {
		return nil, fmt.Errorf("look for release trees that can go: %w", err)
	}
	loose, err := s.loose(ctx, trees)
	if err != nil {
		return nil, fmt.Errorf("look for site objects that can go: %w", err)
	}
	var found []store.Garbage
	var errs []error
	for _, tree := range trees {
		if !dry {
			if err := s.removeTree(tree); err != nil {
				errs = append(errs, fmt.Errorf("remove release tree: %w", err))
				continue
			}
		}
		// What it frees is counted with the objects.
		found = append(found, store.Garbage{Kind: "site", App: tree.app, Name: path.Join(tree.app, strconv.FormatInt(tree.deployment, 10))})
	}
	if !dry {
		if loose, err = removeObjects(ctx, loose); err != nil {
			errs = append(errs, fmt.Errorf("remove site objects: %w", err))
		}
	}
	if len(loose.paths) > 0 {
		found = append(found, store.Garbage{Kind: "site objects", Name: fmt.Sprintf("%d files", len(loose.paths)), Bytes: loose.bytes})
	}
	return found, errors.Join(errs...)
}

// removeTree takes a tree away whole, then removes it. The app's directory goes with its last tree.
func (s *siteStore) removeTree(tree deploymentFolder) error {
	if err := os.MkdirAll(s.temporary(), 0o755); err != nil {
		return err
	}
	trash, err := os.MkdirTemp(s.temporary(), "removed")
	if err != nil {
		return err
	}
	if err := os.Rename(tree.path, filepath.Join(trash, "release")); err != nil {
		return errors.Join(err, os.RemoveAll(trash))
	}
	_ = os.Remove(filepath.Dir(tree.path)) // it stays while there is another release
	return os.RemoveAll(trash)
}

// loose lists the objects whose links are all in the given trees. Encoded forms are objects like the others.
func (s *siteStore) loose(ctx context.Context, trees []deploymentFolder) (looseObjects, error) {
	going := map[fileID]uint64{}
	for _, tree := range trees {
		err := eachFile(ctx, tree.path, func(_ string, info fs.FileInfo) {
			if id, _, ok := linksOf(info); ok {
				going[id]++
			}
		})
		if err != nil {
			return looseObjects{}, err
		}
	}
	var found looseObjects
	err := eachFile(ctx, filepath.Join(s.dir, "objects"), func(name string, info fs.FileInfo) {
		if id, links, ok := linksOf(info); ok && links == 1+going[id] {
			found.paths = append(found.paths, name)
			found.bytes += info.Size()
		}
	})
	return found, err
}

// removeObjects removes those that have no other link now, and gives what was removed.
func removeObjects(ctx context.Context, loose looseObjects) (removed looseObjects, err error) {
	var errs []error
	for _, name := range loose.paths {
		if ctx.Err() != nil {
			return removed, errors.Join(append(errs, ctx.Err())...)
		}
		info, err := os.Lstat(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if _, links, ok := linksOf(info); !ok || links != 1 {
			continue // a tree that could not be removed has it
		}
		if err := os.Remove(name); err != nil {
			errs = append(errs, err)
			continue
		}
		removed.paths = append(removed.paths, name)
		removed.bytes += info.Size()
	}
	return removed, errors.Join(errs...)
}

// eachFile visits the regular files below a directory, which need not be there.
func eachFile(ctx context.Context, dir string, visit func(name string, info fs.FileInfo)) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err == nil {
			visit(name, info)
		}
		return err
	})
}
