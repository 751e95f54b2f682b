package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

const contentFolder = ".content" // in the app's folder: files of commits that services mount, by their content

// binds gives what services mount a place that stays the same as long as its content does: Compose starts a service again
// when the path of a mount changes, and each release has a folder of its own.
type binds struct {
	model *Model
	data  string // the app's folder
	used  map[string]bool
}

func (b *binds) place(volume *types.ServiceVolumeConfig) error {
	if volume.Type != types.VolumeTypeBind || !b.model.inside(volume.Source) {
		return nil
	}
	if b.model.ofCommit(*volume) {
		volume.ReadOnly = true
		return b.file(&volume.Source)
	}
	name := flat.Replace(b.model.short(volume.Source))
	volume.Source = filepath.Join(b.data, name)
	return b.makeFolder(name)
}

// flat names a folder of the app's own without a folder above it that some service could mount: what is in there is in
// the hands of that service, which could put a symlink in the place of what another one mounts.
var flat = strings.NewReplacer("%", "%25", "/", "%2F")

// file places what the model names by its path in the checkout.
func (b *binds) file(path *string) (err error) {
	if *path != "" && b.model.inside(*path) {
		*path, err = b.content(*path)
	}
	return err
}

// makeFolder makes a folder of the app's own.
func (b *binds) makeFolder(name string) error {
	if err := os.MkdirAll(b.data, 0o755); err != nil {
		return fmt.Errorf("make the app's folder: %w", err)
	}
	root, err := os.OpenRoot(b.data)
	if err != nil {
		return fmt.Errorf("open the app's folder: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(name, 0o755); err != nil {
		return b.model.problem("folder %s of the app's own cannot be made: %s", name, err)
	}
	info, err := root.Lstat(name)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return b.model.problem("folder %s of the app's own is a symlink", name)
	}
	return err
}

// content gives the place of a file or folder of the commit, made of hard links when it is not there yet.
func (b *binds) content(source string) (string, error) {
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		return "", fmt.Errorf("find %s of the commit: %w", b.model.short(source), err)
	}
	sum := sha256.New()
	if err := digest(sum, resolved); err != nil {
		return "", fmt.Errorf("read %s of the commit: %w", b.model.short(source), err)
	}
	name := hex.EncodeToString(sum.Sum(nil))[:32]
	b.used[name] = true
	place := filepath.Join(b.data, contentFolder, name)
	if _, err := os.Lstat(place); err == nil {
		return place, nil
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return "", fmt.Errorf("make the app's folder: %w", err)
	}
	making, err := os.MkdirTemp(filepath.Dir(place), "making-")
	if err != nil {
		return "", fmt.Errorf("make the app's folder: %w", err)
	}
	defer os.RemoveAll(making)
	if err := link(resolved, filepath.Join(making, "it")); err != nil {
		return "", fmt.Errorf("link %s of the commit: %w", b.model.short(source), err)
	}
	if err := os.Rename(filepath.Join(making, "it"), place); err != nil {
		return "", fmt.Errorf("link %s of the commit: %w", b.model.short(source), err)
	}
	return place, nil
}

// sweep removes what no service of the stack mounts any more.
func (b *binds) sweep() error {
	entries, err := os.ReadDir(filepath.Join(b.data, contentFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if !b.used[entry.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(b.data, contentFolder, entry.Name())))
		}
	}
	return err
}

// digest goes over names, modes and contents.
func digest(sum hash.Hash, top string) error {
	return filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %o\n", relative, info.Mode())
		switch {
		case entry.IsDir():
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(sum, "%q\n", target)
			return err
		}
		fmt.Fprintf(sum, "%d\n", info.Size())
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(sum, file)
		return err
	})
}

// link makes the same tree again of hard links.
func link(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return errors.Join(os.Mkdir(at, 0o755), os.Chmod(at, 0o755))
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, at)
		}
		return os.Link(path, at)
	})
}
