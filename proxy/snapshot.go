package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/shipgate/shipgate/store"
)

// snapshotVersion is raised when an older proxy could misread a newer file.
const snapshotVersion = 2

// snapshots keeps the routes on disk, so that the proxy can start without the server. There is always the last one and
// the one before it.
type snapshots struct{ dir string }

// snapshot is the form of proxy.json.
type snapshot struct {
	Version  int             `json:"version"`
	Settings *Settings       `json:"settings,omitempty"` // from version 2 on
	Internal store.CallTable `json:"internal,omitzero"`
	Routes   []store.Route   `json:"routes"`
}

func (s snapshots) file() string     { return filepath.Join(s.dir, "proxy.json") }
func (s snapshots) previous() string { return filepath.Join(s.dir, "proxy.json.prev") }
func (s snapshots) damaged() string  { return filepath.Join(s.dir, "proxy.json.bad") }

// save returns when the routes have reached the disk. After a crash at any point there is a whole file to load.
func (s snapshots) save(kept snapshot) error {
	kept.Version = snapshotVersion
	data, err := json.MarshalIndent(kept, "", "\t")
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	fresh := s.file() + ".new"
	if err := writeDurably(fresh, append(data, '\n')); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := s.keepPrevious(); err != nil {
		return fmt.Errorf("keep previous snapshot: %w", err)
	}
	if err := os.Rename(fresh, s.file()); err != nil {
		return fmt.Errorf("put snapshot in place: %w", err)
	}
	if err := syncDirectory(s.dir); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// keepPrevious gives the present file its second name, without a moment in which it has none.
func (s snapshots) keepPrevious() error {
	spare := s.previous() + ".new"
	if err := os.Remove(spare); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Link(s.file(), spare)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the first one
	}
	if err != nil {
		return err
	}
	return os.Rename(spare, s.previous())
}

// load reads the last snapshot. A bad one is put aside, and the one before it is taken, loudly. Without either there are
// no routes: the server puts them back when it starts.
func (s snapshots) load(logger *slog.Logger) (snapshot, error) {
	last, err := readSnapshot(s.file())
	if err == nil {
		return last, nil
	}
	missing := errors.Is(err, fs.ErrNotExist)
	last, previousErr := readSnapshot(s.previous())
	if missing && errors.Is(previousErr, fs.ErrNotExist) {
		return snapshot{}, nil // the first start
	}
	if !missing {
		if err := os.Rename(s.file(), s.damaged()); err != nil {
			return snapshot{}, fmt.Errorf("put damaged snapshot aside: %w", err)
		}
	}
	if previousErr != nil {
		logger.Error("no snapshot can be read; starting without routes", "error", errors.Join(err, previousErr))
		return snapshot{}, nil
	}
	logger.Error("the snapshot cannot be read; the one before it is used", "error", err, "routes", len(last.Routes))
	return last, s.save(last)
}

// peek reads what load would, and changes nothing.
func (s snapshots) peek() (snapshot, error) {
	last, err := readSnapshot(s.file())
	if err != nil {
		return readSnapshot(s.previous())
	}
	return last, nil
}

func readSnapshot(file string) (snapshot, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	var read snapshot
	if err := json.Unmarshal(data, &read); err != nil {
		return snapshot{}, fmt.Errorf("decode %s: %w", filepath.Base(file), err)
	}
	if read.Version < 1 || read.Version > snapshotVersion {
		return snapshot{}, fmt.Errorf("%s has version %d, not %d", filepath.Base(file), read.Version, snapshotVersion)
	}
	return read, nil
}

func writeDurably(name string, data []byte) (err error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

func syncDirectory(dir string) (err error) {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handle.Close()) }()
	return handle.Sync()
}
