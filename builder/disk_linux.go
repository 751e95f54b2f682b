package builder

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem makes everything written so far to the directory's file system durable, and says whether it could.
func syncFileSystem(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd())) == nil
}
