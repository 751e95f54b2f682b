package store

import (
	"context"
	"errors"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// diskProblem explains errors of the disk and of SQLite, which have no other text for users, wherever they come from.
func diskProblem(err error) *Problem {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case IsDiskFull(err):
		return Problemf(CodeErrored, "the disk of the server is full: %w", err).WithHint("make room on the server (df -h, shipgate gc), then try again")
	case sqliteCode(err) == sqlite3.SQLITE_READONLY, sqliteCode(err) == sqlite3.SQLITE_CANTOPEN, sqliteCode(err) == sqlite3.SQLITE_PERM, errors.Is(err, syscall.EROFS):
		return Problemf(CodeErrored, "the data directory of the server cannot be written: %w", err).
			WithHint("look on the server whether its disk is mounted read-only and whose files these are (mount, ls -l, dmesg): shipgate doctor")
	case isDamaged(err):
		return Problemf(CodeErrored, "the database is damaged: %w", err).WithHint("restore shipgate.db from your backup; docs/recovery.md says how: shipgate doctor")
	case sqliteCode(err) == sqlite3.SQLITE_IOERR, errors.Is(err, syscall.EIO):
		return Problemf(CodeErrored, "the disk of the server has an error: %w", err).WithHint("look for errors of the disk on the server (dmesg): shipgate doctor")
	}
	return nil
}

func isDamaged(err error) bool {
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// isShort reports whether the index of the log could not be made longer, which is how a full disk shows when a database is opened.
func isShort(err error) bool {
	var failed *sqlite.Error
	return errors.As(err, &failed) && failed.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
}

// sqliteCode returns the primary result code (https://www.sqlite.org/rescode.html), 0 for other errors.
func sqliteCode(err error) int {
	var failed *sqlite.Error
	if !errors.As(err, &failed) {
		return 0
	}
	return failed.Code() & 0xff
}
