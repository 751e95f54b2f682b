package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// repository is one app's bare repository. Every pack in it is closed: what its objects refer to is in the repository.
type repository struct {
	app   string
	dir   string
	refs  refs
	lock  sync.Mutex // held while refs or the set of packs change; never while a deployment runs
	packs atomic.Pointer[objects]

	unpacking chan struct{} // of the server: holds a token for each pack at work; nil: there is no bound
	fetching  chan struct{} // full while a fetch or a collection runs; a channel, so that waiting for it can be given up
	look      lastLook      // of the collection whose turn it is
	alive     context.Context
	destroy   context.CancelFunc // ends alive
}

func (r *repository) packDir() string { return filepath.Join(r.dir, "objects", "pack") }

// openRepository opens DIR and makes it first when it is missing.
func openRepository(app, dir string) (*repository, error) {
	if err := makeRepository(dir); err != nil {
		return nil, fmt.Errorf("create repository of %s: %w", app, err)
	}
	r := &repository{app: app, dir: dir, refs: refs{dir}, fetching: make(chan struct{}, 1)}
	r.alive, r.destroy = context.WithCancel(context.Background())
	packs, err := openObjects(r.packDir())
	if err != nil {
		return nil, fmt.Errorf("open repository of %s: %w", app, err)
	}
	if packs.boundary, err = readBoundary(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open repository of %s: %w", app, err), packs.close())
	}
	r.packs.Store(packs)
	return r, nil
}

// makeRepository makes what native git takes for a bare repository. HEAD comes last: with it the repository is whole.
func makeRepository(dir string) error {
	head := filepath.Join(dir, "HEAD")
	if _, err := os.Stat(head); err == nil {
		return nil
	}
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags"} {
		if err := makeDirs(filepath.Join(dir, filepath.FromSlash(sub))); err != nil {
			return err
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"
	if err := writeDurably(filepath.Join(dir, "config"), config); err != nil {
		return err
	}
	return writeDurably(head, "ref: refs/heads/main\n")
}

// sweep removes what a process that died left in the repository: quarantines, packs that got no index, and lock files.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, quarantinePrefix+"*"))
	if err != nil {
		return fmt.Errorf("list quarantines: %w", err)
	}
	packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "pack-*.pack"))
	if err != nil {
		return fmt.Errorf("list packs: %w", err)
	}
	for _, pack := range packs {
		if _, err := os.Stat(strings.TrimSuffix(pack, ".pack") + ".idx"); errors.Is(err, fs.ErrNotExist) {
			left = append(left, pack)
		}
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("sweep repository: %w", err)
		case e.IsDir() && path == filepath.Join(dir, "objects"):
			return fs.SkipDir
		case !e.IsDir() && strings.HasSuffix(path, ".lock"):
			return os.Remove(path)
		}
		return nil
	})
}
