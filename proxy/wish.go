package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The wish that the proxy stays stopped is a file: it counts whether a server runs or not.

func wishFile(dataDir string) string { return filepath.Join(dataDir, "proxy.stopped") }

// Stopped reports whether the proxy of a data directory is stopped on purpose.
func Stopped(dataDir string) bool {
	_, err := os.Stat(wishFile(dataDir))
	return err == nil
}

// WishStopped stores whether the proxy is to stay stopped.
func WishStopped(dataDir string, stopped bool) error {
	if stopped {
		if err := errors.Join(writeDurably(wishFile(dataDir), nil), syncDirectory(dataDir)); err != nil {
			return fmt.Errorf("store that the proxy is to stay stopped: %w", err)
		}
		return nil
	}
	if err := os.Remove(wishFile(dataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store that the proxy is to run: %w", err)
	}
	return nil
}
