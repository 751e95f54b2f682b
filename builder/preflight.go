package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shipgate/shipgate/store"
)

const (
	neededForSites  = 512 << 20 // bytes
	neededForStacks = 256 << 20 // bytes
	neededForImages = 2 << 30   // bytes
)

// Preflight refuses a build, a fetch or a stack when a disk it would fill has too little free space left. It looks at the engine's disk
// only when the engine is on this host.
func (b *Builder) Preflight(ctx context.Context) error {
	if err := b.checkSpace(b.sites.dir, neededForSites); err != nil {
		return err
	}
	if b.stacksDir != "" {
		if err := b.checkSpace(b.stacksDir, neededForStacks); err != nil {
			return err
		}
	}
	if b.docker == nil {
		return nil
	}
	info, err := b.docker.Info(ctx)
	if err != nil {
		return nil // a site needs no engine, and an image build says itself that there is none
	}
	if _, err := os.Stat(info.DockerRootDir); err != nil {
		return nil
	}
	return b.checkSpace(info.DockerRootDir, neededForImages)
}

// checkSpace refuses when fewer than the needed bytes are free for us on the disk of a directory.
func (b *Builder) checkSpace(dir string, needed int64) error {
	free, err := b.freeSpace(existing(dir))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up free space on %s: %w", dir, err)
	}
	if free >= needed {
		return nil
	}
	return store.Problemf(store.CodeErrored, "%s free on the disk of %s, %s needed", size(free), dir, size(needed)).
		WithHint("shipgate gc")
}

// existing gives the directory or the nearest one above it that is there: the data directory is made on first use.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
