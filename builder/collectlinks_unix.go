//go:build unix

package builder

import (
	"io/fs"
	"syscall"
)

// fileID tells files apart whatever their names.
type fileID struct{ device, inode uint64 }

// linksOf gives how many names a file has.
func linksOf(info fs.FileInfo) (id fileID, links uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 0, false
	}
	return fileID{uint64(stat.Dev), stat.Ino}, uint64(stat.Nlink), true
}
