package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const databaseName = "shipgate.db"

// privateFiles are those in a data directory that nobody else may read.
var privateFiles = []string{databaseName, databaseName + "-wal", databaseName + "-shm", keyName, "admin-token", "server.json", "proxy.json", "proxy.json.prev"}

// secureDirectory makes a data directory and its private files readable for its owner only. Another user's directory is
// refused, and so is one that others use: it may be one that was named by mistake.
func secureDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	if !info.IsDir() {
		return Problemf(CodeConflict, "%s is not a directory", dir).WithHint("shipgate serve --data DIRECTORY")
	}
	if owner := ownerOf(info); owner != os.Geteuid() {
		return Problemf(CodeConflict, "the data directory %s belongs to user %d, and this is user %d", dir, owner, os.Geteuid()).
			WithHint("run shipgate as its owner, or: chown -R %d %s", os.Geteuid(), dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		ours, err := isOurs(dir)
		if err != nil {
			return fmt.Errorf("look into data directory: %w", err)
		}
		if !ours || info.Mode()&fs.ModeSticky != 0 {
			return Problemf(CodeConflict, "others may look into %s (mode %04o), and it holds files that are not shipgate's", dir, info.Mode().Perm()).
				WithHint("name a directory of its own, or, if it is: chmod 0700 %s", dir)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("make data directory private: %w", err)
		}
	}
	return secureFiles(dir)
}

func secureFiles(dir string) error {
	for _, name := range privateFiles {
		file := filepath.Join(dir, name)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(file, 0o600)
		}
		if err != nil {
			return fmt.Errorf("make %s private: %w", name, err)
		}
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return os.Geteuid()
}

// isOurs reports whether a directory is empty or has something that only shipgate puts there.
func isOurs(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return len(entries) == 0 || slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains(privateFiles, e.Name()) || e.Name() == "repos" || e.Name() == "proxy.sock"
	}), nil
}

// checkDatabaseFile refuses a missing or empty database where other files show that there was one.
func checkDatabaseFile(dir string) error {
	file := filepath.Join(dir, databaseName)
	info, err := os.Stat(file)
	wrong := "is missing"
	switch {
	case err == nil && info.Size() > 0:
		return nil
	case err == nil:
		wrong = "is empty"
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at database: %w", err)
	}
	found := remains(dir)
	if len(found) == 0 {
		return nil
	}
	return Problemf(CodeErrored, "the database %s %s, but there is %s", file, wrong, strings.Join(found, ", ")).
		WithHint("%s; to begin anew without any app: shipgate serve --data %s --new-database", restoreHint(dir), dir)
}

// remains lists what only a server with a database leaves behind.
func remains(dir string) (found []string) {
	for _, name := range []string{keyName, databaseName + "-wal"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Size() > 0 {
			found = append(found, name)
		}
	}
	for _, name := range []string{"repos", "sites", "stacks"} {
		if entries, err := os.ReadDir(filepath.Join(dir, name)); err == nil && len(entries) > 0 {
			found = append(found, fmt.Sprintf("%s with %d entries", name, len(entries)))
		}
	}
	for _, name := range []string{"proxy.json", "proxy.json.prev"} {
		if n, err := readRoutes(filepath.Join(dir, name)); n > 0 || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
			found = append(found, name+" with routes")
		}
	}
	return found
}

// HasRoutes reports whether a proxy that starts in the data directory has something to serve.
func HasRoutes(dir string) bool {
	last, _ := readRoutes(filepath.Join(dir, "proxy.json"))
	before, _ := readRoutes(filepath.Join(dir, "proxy.json.prev"))
	return last+before > 0
}

// checkDatabase refuses a file that is not a whole database. It reads all of it.
func checkDatabase(ctx context.Context, db *sql.DB, dir string) error {
	var result string
	err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&result)
	if err == nil && result != "ok" {
		err = errors.New(result)
	}
	if err == nil {
		return nil
	}
	if problem, known := AsProblem(err); known && !isDamaged(err) {
		return problem
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return Problemf(CodeErrored, "the database %s is damaged: %w", filepath.Join(dir, databaseName), err).
		WithHint("%s; docs/recovery.md says what else can be tried", restoreHint(dir))
}

// restoreHint names the newest copy that a migration left, if there is one.
func restoreHint(dir string) string {
	hint := fmt.Sprintf("restore shipgate.db from your backup into %s (remove shipgate.db-wal and shipgate.db-shm first)", dir)
	if copies, err := filepath.Glob(filepath.Join(dir, databaseName+".before-*")); err == nil && len(copies) > 0 {
		slices.Sort(copies)
		hint += fmt.Sprintf("; %s is the state before the last upgrade", filepath.Base(copies[len(copies)-1]))
	}
	return hint
}
