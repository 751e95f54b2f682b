package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	sqlite3 "modernc.org/sqlite/lib"
)

// WriteFaultTopic changes when the database cannot be written any more, and when it can again.
const WriteFaultTopic = "write-fault"

// WriteFault returns what kept the database from being written the last time, or nil. It is kept in memory: there is no other
// place left for it.
func (s *Store) WriteFault() *Problem { return s.writeFault.Load() }

// noteWrite remembers whether a transaction could be written. Errors that have nothing to do with the disk say nothing of it.
func (s *Store) noteWrite(err error) {
	problem := (*Problem)(nil)
	if err != nil {
		if problem = diskProblem(err); problem == nil {
			return
		}
	}
	if before := s.writeFault.Swap(problem); (before == nil) != (problem == nil) {
		s.watchers.wake(WriteFaultTopic)
	}
}

// changesInFault counts the rows that a transaction's connection has changed, while the database could not be written the last time;
// else it is -1. A transaction that changed nothing succeeds on a full disk, too.
func (s *Store) changesInFault(ctx context.Context, tx *sql.Tx) (rows int64) {
	if s.WriteFault() == nil || tx.QueryRowContext(ctx, `SELECT total_changes()`).Scan(&rows) != nil {
		return -1
	}
	return rows
}

// IsDiskFull reports whether an error says that the disk has no room left.
func IsDiskFull(err error) bool {
	return sqliteCode(err) == sqlite3.SQLITE_FULL || isShort(err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// The reserve is room on the disk that is given back when there is no other, so that a deployment can still be undone and its
// verdict written. That takes some hundred kilobytes.
const (
	reserveName = "reserve"
	reserveSize = 2 << 20
)

// KeepReserve makes the reserve where it is missing and at least four times as much is free.
func (s *Store) KeepReserve() error {
	file := filepath.Join(s.dir, reserveName)
	if info, err := os.Stat(file); err == nil && info.Size() == reserveSize {
		return nil
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &disk); err != nil || int64(disk.Bavail)*int64(disk.Bsize) < 4*reserveSize {
		return wrapped("look up free space for the reserve", err)
	}
	content := make([]byte, reserveSize)
	rand.Read(content) // zeros may take no room on a disk that compresses
	return wrapped("write reserve", os.WriteFile(file, content, 0o600))
}

// ReleaseReserve gives the room of the reserve back.
func (s *Store) ReleaseReserve() error {
	err := os.Remove(filepath.Join(s.dir, reserveName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return wrapped("release reserve", err)
}

func wrapped(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
