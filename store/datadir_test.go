package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// usedDirectory is the data directory of a server that was used and has ended.
func usedDirectory(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := must[*Store](t)(Open(t.Context(), dir))
	newApp(t, s, "hello")
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"KEY": "value"}))
	advanceTo(t, s, claimed(t, s, "hello"), StepLive)
	check(t, errorsOf(s.EnsureAdminToken(t.Context()), s.Close(), os.MkdirAll(filepath.Join(dir, "repos", "hello.git"), 0o700)))
	check(t, os.WriteFile(filepath.Join(dir, "proxy.json"), []byte(`{"version":1,"routes":[{"app":"hello"}]}`), 0o600))
	return dir
}

func overwrite(t *testing.T, file string, at int64, content []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(content, at)
	check(t, errorsOf(err, f.Close()))
}

// Each fault of the database and the key is refused with what to restore, the doctor names it, nothing is made in its place,
// and restoring the file makes all well.
func TestFaultsOfDatabaseAndKey(t *testing.T) {
	for _, fault := range []struct {
		name, file string
		make       func(t *testing.T, file string)
		says       string
	}{
		{"missing database", databaseName, func(t *testing.T, file string) { check(t, os.Remove(file)) }, "shipgate.db is missing, but there is secret.key, repos with 1 entries, proxy.json with routes"},
		{"empty database", databaseName, func(t *testing.T, file string) { check(t, os.Truncate(file, 0)) }, "shipgate.db is empty"},
		{"wrong magic", databaseName, func(t *testing.T, file string) { overwrite(t, file, 0, []byte("not a database at all")) }, "is damaged"},
		{"garbage pages", databaseName, func(t *testing.T, file string) {
			info, err := os.Stat(file)
			check(t, err)
			overwrite(t, file, 4096, []byte(strings.Repeat("garbage!", int(info.Size()-4096)/8)))
		}, "is damaged"},
		{"truncated database", databaseName, func(t *testing.T, file string) {
			info, err := os.Stat(file)
			check(t, errorsOf(err, os.Truncate(file, info.Size()/2/4096*4096)))
		}, "is damaged"},
		{"missing key", keyName, func(t *testing.T, file string) { check(t, os.Remove(file)) }, "secret.key is missing"},
		{"empty key", keyName, func(t *testing.T, file string) { check(t, os.Truncate(file, 0)) }, "has 0 bytes"},
		{"long key", keyName, func(t *testing.T, file string) { check(t, os.WriteFile(file, make([]byte, 33), 0o600)) }, "has 33 bytes"},
		{"foreign key", keyName, func(t *testing.T, file string) { check(t, os.WriteFile(file, make([]byte, 32), 0o600)) }, "is not the key"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			dir := usedDirectory(t)
			file := filepath.Join(dir, fault.file)
			good := must[[]byte](t)(os.ReadFile(file))
			fault.make(t, file)
			bad, badErr := os.ReadFile(file)
			_, err := Open(t.Context(), dir)
			wantProblem(t, err, CodeErrored, fault.says, "restore "+fault.file)
			now, nowErr := os.ReadFile(file)
			if string(now) != string(bad) || errors.Is(badErr, os.ErrNotExist) != errors.Is(nowErr, os.ErrNotExist) {
				t.Error("the refused attempt changed the file")
			}
			if !slices.ContainsFunc(Examine(t.Context(), dir), func(f Finding) bool {
				return f.Level == LevelFail && strings.Contains(f.Text, fault.says) && strings.Contains(f.Hint, "restore")
			}) {
				t.Errorf("the doctor finds %+v", Examine(t.Context(), dir))
			}
			check(t, os.WriteFile(file, good, 0o600))
			s := openStore(t, dir)
			if env := must[map[string]string](t)(s.Env(t.Context(), "hello")); env["KEY"] != "value" {
				t.Errorf("the env is %v", env)
			}
		})
	}
}

func TestSoundDirectoryHasNoFindings(t *testing.T) {
	dir := usedDirectory(t)
	for _, finding := range Examine(t.Context(), dir) {
		if finding.Level != LevelOK {
			t.Errorf("%+v", finding)
		}
	}
}

// Before anything is live the proxy has no routes to keep.
func TestDirectoryWithoutAnythingLiveHasNoFindings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openStore(t, dir)
	newApp(t, s, "hello")
	check(t, errorsOf(s.Close(), os.Mkdir(filepath.Join(dir, "repos"), 0o700)))
	for _, finding := range Examine(t.Context(), dir) {
		if finding.Level != LevelOK {
			t.Errorf("%+v", finding)
		}
	}
}

// A key from before there was a check value is known by what it has sealed.
func TestKeyIsCheckedWithoutACheckValue(t *testing.T) {
	for _, table := range []string{"env", "releases", ""} {
		dir := usedDirectory(t)
		s := openStore(t, dir)
		_, err := s.write.Exec(`DELETE FROM settings WHERE key = 'key_check'`)
		if table == "env" {
			_, err = s.write.Exec(`DELETE FROM live; UPDATE deployments SET release = NULL; DELETE FROM releases`)
		}
		if table == "releases" {
			_, err = s.write.Exec(`DELETE FROM env`)
		}
		check(t, errorsOf(err, s.Close()))
		file := filepath.Join(dir, keyName)
		good := must[[]byte](t)(os.ReadFile(file))
		check(t, os.WriteFile(file, make([]byte, 32), 0o600))
		_, err = Open(t.Context(), dir)
		wantProblem(t, err, CodeErrored, "is not the key")
		check(t, os.WriteFile(file, good, 0o600))
		check(t, openStore(t, dir).Close())
		check(t, os.WriteFile(file, make([]byte, 32), 0o600)) // now the check value says it
		_, err = Open(t.Context(), dir)
		wantProblem(t, err, CodeErrored, "is not the key")
	}
}

// What is lost is only made anew when the operator says so, and the old file is kept.
func TestBeginAnew(t *testing.T) {
	dir := usedDirectory(t)
	check(t, os.WriteFile(filepath.Join(dir, databaseName), []byte("damaged"), 0o600))
	s := must[*Store](t)(OpenAnew(t.Context(), dir, Anew{Database: true}))
	if apps := must[[]App](t)(s.Apps(t.Context())); len(apps) != 0 {
		t.Errorf("there are %v", apps)
	}
	check(t, s.Close())
	if kept := must[[]string](t)(filepath.Glob(filepath.Join(dir, databaseName+".old-*"))); len(kept) != 1 {
		t.Errorf("kept is %q", kept)
	}

	dir = usedDirectory(t)
	check(t, os.Remove(filepath.Join(dir, keyName)))
	s = must[*Store](t)(OpenAnew(t.Context(), dir, Anew{Key: true}))
	_, err := s.Env(t.Context(), "hello")
	wantProblem(t, err, CodeErrored, "env APP set")
	check(t, errorsOf(s.SetEnv(t.Context(), "hello", map[string]string{"KEY": "again"}), s.Close()))
	if env := must[map[string]string](t)(openStore(t, dir).Env(t.Context(), "hello")); env["KEY"] != "again" {
		t.Errorf("the env is %v", env)
	}
}

// A first start that ended in its middle does not keep the next one from beginning.
func TestInterruptedFirstStart(t *testing.T) {
	for _, names := range [][]string{{databaseName}, {databaseName, databaseName + "-wal"}} {
		dir := t.TempDir()
		for _, name := range names {
			check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
		check(t, os.Mkdir(filepath.Join(dir, "repos"), 0o700))
		openStore(t, dir)
	}
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := s.write.Exec(`DELETE FROM settings`)
	check(t, errorsOf(err, s.Close(), os.Remove(filepath.Join(dir, keyName))))
	openStore(t, dir)
}

func TestDirectoryIsMadePrivate(t *testing.T) {
	dir := usedDirectory(t)
	for _, name := range []string{".", databaseName, keyName, "admin-token", "proxy.json"} {
		check(t, os.Chmod(filepath.Join(dir, name), 0o755))
	}
	openStore(t, dir)
	for _, name := range []string{".", databaseName, keyName, "admin-token", "proxy.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	byHand := filepath.Join(t.TempDir(), "empty")
	check(t, os.Mkdir(byHand, 0o755))
	openStore(t, byHand)
	if info, err := os.Stat(byHand); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A directory that was named by mistake is left as it is.
func TestForeignDirectoryIsRefused(t *testing.T) {
	shared := t.TempDir()
	check(t, errorsOf(os.WriteFile(filepath.Join(shared, "notes.txt"), nil, 0o644), os.Chmod(shared, 0o755)))
	_, err := Open(t.Context(), shared)
	wantProblem(t, err, CodeConflict, "0755", "chmod 0700")
	if info, err := os.Stat(shared); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if os.Geteuid() != 0 {
		t.Skip("giving a directory away takes root")
	}
	anothers := t.TempDir()
	check(t, os.Chown(anothers, 12345, -1))
	_, err = Open(t.Context(), anothers)
	wantProblem(t, err, CodeConflict, "belongs to user 12345", "chown")
}

// Errors of the disk and of SQLite are explained wherever they come up.
func TestDiskProblems(t *testing.T) {
	s := newStore(t)
	_, err := s.read.Exec(`DELETE FROM apps`) // query_only answers as a read-only file does
	wantProblem(t, fmt.Errorf("remove apps: %w", err), CodeErrored, "cannot be written")
	_, err = s.write.Exec(`PRAGMA max_page_count = 1`)
	check(t, err)
	_, err = s.CreateApp(t.Context(), App{Name: "large", Source: SourceStatic, Config: []byte(`{"publish_dir":"` + strings.Repeat("x", 1<<20) + `"}`)})
	wantProblem(t, err, CodeErrored, "disk of the server is full", "df -h")
	for errno, says := range map[syscall.Errno]string{
		syscall.ENOSPC: "full", syscall.EDQUOT: "full", syscall.EROFS: "cannot be written", syscall.EIO: "has an error",
	} {
		wantProblem(t, errors.Join(fmt.Errorf("write pack: %w", &os.PathError{Op: "write", Path: "x", Err: errno})), CodeErrored, says)
	}
	for _, err := range []error{nil, os.ErrNotExist, context.Canceled, errors.New("x")} {
		if problem, known := AsProblem(err); known || problem != nil {
			t.Errorf("%v is explained as %v", err, problem)
		}
	}
}
