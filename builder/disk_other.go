//go:build !linux

package builder

import (
	"errors"
	"os"
)

// syncFileSystem says that there is no such call here.
func syncFileSystem(string) bool { return false }

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }

// renameNew gives a file a new name, unless that is taken. The old one goes with its directory.
func renameNew(from, to string) error { return os.Link(from, to) }
