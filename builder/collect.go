package builder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/shipgate/shipgate/store"
)

// keeps says of a deployment's artefacts that they stay.
type keeps func(app string, deployment int64) bool

// Collect removes what no kept deployment needs: release trees, objects and stacks, images with our labels, and the old
// part of BuildKit's cache. A dry run only lists. Each part is done although another fails; the errors are joined.
func (b *Builder) Collect(ctx context.Context, kept store.Kept, dry bool) ([]store.Garbage, error) {
	b.collecting.Lock()
	defer b.collecting.Unlock()
	var errs []error
	if !dry {
		errs = append(errs, b.sites.sweep())
	}
	sites, err := b.sites.collect(ctx, kept.Has, dry)
	errs = append(errs, err)
	stacks, err := b.collectStacks(ctx, kept.Has, dry)
	errs = append(errs, err)
	found := append(sites, stacks...)
	if b.docker == nil {
		return found, errors.Join(errs...)
	}
	if _, err := b.docker.Ping(ctx); err != nil {
		return found, errors.Join(append(errs, b.engineProblem("look for images that can go", err))...)
	}
	images, err := b.collectImages(ctx, kept.Has, dry)
	errs = append(errs, err)
	pins, err := b.collectPins(ctx, kept.Has, dry)
	errs = append(errs, err)
	cache, err := b.collectCache(ctx, dry)
	errs = append(errs, err)
	return slices.Concat(found, images, pins, cache), errors.Join(errs...)
}

// deploymentFolder is what one deployment built, in DIR/APP/DEPLOYMENT.
type deploymentFolder struct {
	app        string
	deployment int64
	path       string
}

// unkept lists the folders below a directory that are not kept. Other names than those of deployments are not looked at.
func unkept(dir string, keep keeps) ([]deploymentFolder, error) {
	var found []deploymentFolder
	apps, err := readDirectory(dir)
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		if store.ValidateAppName(app.Name()) != nil || !app.IsDir() {
			continue
		}
		entries, err := readDirectory(filepath.Join(dir, app.Name()))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			number, err := strconv.ParseInt(entry.Name(), 10, 64)
			if err == nil && number > 0 && entry.IsDir() && !keep(app.Name(), number) {
				found = append(found, deploymentFolder{app.Name(), number, filepath.Join(dir, app.Name(), entry.Name())})
			}
		}
	}
	return found, nil
}

// readDirectory lists a directory; one that is not there is empty.
func readDirectory(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// abandoned is the age at which the folder of an unfinished stack belongs to no build any more.
const abandoned = 24 * time.Hour

// collectStacks removes checkouts. The folder data of an app is not one of them.
func (b *Builder) collectStacks(ctx context.Context, keep keeps, dry bool) ([]store.Garbage, error) {
	if b.stacksDir == "" {
		return nil, nil
	}
	folders, err := unkept(b.stacksDir, keep)
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(b.stacksDir, "*", unfinished+"*"))
	if err != nil {
		return nil, err
	}
	for _, folder := range left {
		if info, err := os.Lstat(folder); err == nil && time.Since(info.ModTime()) > abandoned {
			folders = append(folders, deploymentFolder{app: filepath.Base(filepath.Dir(folder)), path: folder})
		}
	}
	var found []store.Garbage
	var errs []error
	for _, folder := range folders {
		if ctx.Err() != nil {
			return found, errors.Join(append(errs, ctx.Err())...)
		}
		garbage := store.Garbage{Kind: "stack", App: folder.app, Name: folder.app + "/" + filepath.Base(folder.path), Bytes: sizeBelow(folder.path)}
		if !dry {
			if err := removeWhole(folder.path); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		found = append(found, garbage)
	}
	return found, errors.Join(errs...)
}

// removeWhole removes a folder under a name that nobody takes for a whole one, should the removal be cut off.
func removeWhole(folder string) error {
	going := filepath.Join(filepath.Dir(folder), unfinished+"removed-"+filepath.Base(folder))
	if err := os.Rename(folder, going); err != nil {
		return err
	}
	return os.RemoveAll(going)
}

// sizeBelow adds up the files of a folder, as far as they can be seen.
func sizeBelow(folder string) int64 {
	var total int64
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}
