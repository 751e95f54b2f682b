//go:build !linux

package builder

import "errors"

// syncFileSystem says that there is no such call here.
func syncFileSystem(string) bool { return false }

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
