package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestReopenKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	app := newApp(t, s, "hello")
	check(t, s.SetEnv(t.Context(), "hello", map[string]string{"KEY": "value"}))
	secret, _, err := s.CreateToken(t.Context(), Token{Name: "ci", Rights: Rights{RightDeploy}, App: "hello"})
	check(t, err)
	d := advanceTo(t, s, claimed(t, s, "hello"), StepLive)
	id, history := s.ServerID(), texts(t, s, d.ID)
	check(t, s.Close())

	again := openStore(t, dir)
	if again.ServerID() != id || id == "" {
		t.Errorf("server id %q became %q", id, again.ServerID())
	}
	if got := must[App](t)(again.App(t.Context(), "hello")); !slices.Equal(got.Hosts, app.Hosts) || string(got.Config) != string(app.Config) || !got.CreatedAt.Equal(app.CreatedAt) {
		t.Errorf("app %+v became %+v", app, got)
	}
	if got := must[Deployment](t)(again.Deployment(t.Context(), d.ID)); got.Step != StepLive || got.Verdict != Succeeded || !got.FinishedAt.Equal(d.FinishedAt) {
		t.Errorf("deployment %+v became %+v", d, got)
	}
	if live, found, err := again.Live(t.Context(), "hello"); err != nil || !found || live.Deployment != d.ID || live.Target.Address == "" {
		t.Errorf("live is %+v, %t, %v", live, found, err)
	}
	if got := texts(t, again, d.ID); !slices.Equal(got, history) {
		t.Errorf("history %q became %q", history, got)
	}
	if env := must[map[string]string](t)(again.Env(t.Context(), "hello")); env["KEY"] != "value" {
		t.Errorf("env became %v", env)
	}
	if _, err := again.Authenticate(t.Context(), secret); err != nil {
		t.Errorf("the token became invalid: %v", err)
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir)
	_, err := Open(t.Context(), dir)
	wantProblem(t, err, CodeConflict, dir, "--data")
	if _, err := first.Apps(t.Context()); err != nil {
		t.Errorf("the refused second server disturbed the first: %v", err)
	}
	check(t, first.Close())
	openStore(t, dir)
}

func TestDirectoryNamesThatURIsWouldMisread(t *testing.T) {
	for _, name := range []string{"plain", "with space", "a%20b", "what?", "a#b", "a&_pragma=foreign_keys(0)", "grüße"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			newApp(t, openStore(t, dir), "hello")
			if info, err := os.Stat(filepath.Join(dir, "shipgate.db")); err != nil || info.Size() == 0 {
				t.Errorf("the database is not in its directory: %v", err)
			}
		})
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openStore(t, dir)
	check(t, s.EnsureAdminToken(t.Context()))
	want := map[string]os.FileMode{".": 0o700, "shipgate.db": 0o600, "shipgate.db-wal": 0o600, "shipgate.db-shm": 0o600, "secret.key": 0o600, "admin-token": 0o600}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		check(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != len(want)-1 {
		t.Errorf("files left lying around: %v", entries)
	}
}

func TestSettingsAreInForceOnEveryConnection(t *testing.T) {
	s := newStore(t)
	const full, normal = "2", "1"
	pools := []struct {
		name                string
		db                  *sql.DB
		connections         int
		synchronous, locked string
	}{{"write", s.write, 1, full, "0"}, {"relaxed", s.relaxed, 1, normal, "0"}, {"read", s.read, 4, full, "1"}}
	for _, pool := range pools {
		settings := map[string]string{"journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "10000", "query_only": pool.locked, "synchronous": pool.synchronous}
		for range pool.connections { // none is given back before all were looked at
			conn, err := pool.db.Conn(t.Context())
			check(t, err)
			defer conn.Close()
			for setting, want := range settings {
				var got string
				check(t, conn.QueryRowContext(t.Context(), "PRAGMA "+setting).Scan(&got))
				if got != want {
					t.Errorf("%s: %s is %s, want %s", pool.name, setting, got, want)
				}
			}
		}
	}
}

func TestWritersTakeTheirLockAtOnce(t *testing.T) {
	s := newStore(t)
	for name, db := range map[string]*sql.DB{"write": s.write, "relaxed": s.relaxed} {
		tx, err := db.BeginTx(t.Context(), nil)
		check(t, err)
		other, err := sql.Open("sqlite", filepath.Join(s.dir, "shipgate.db")) // no busy_timeout: it fails at once
		check(t, err)
		if _, err := other.Exec(`BEGIN IMMEDIATE`); err == nil {
			t.Errorf("%s: a second writer could begin", name)
		}
		check(t, errorsOf(other.Close(), tx.Rollback()))
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := s.write.Exec(`PRAGMA user_version = 99`)
	check(t, errorsOf(err, s.Close()))
	_, err = Open(t.Context(), dir)
	wantProblem(t, err, CodeConflict, "99", "install")
}

var (
	version1 = fstest.MapFS{"migrations/0001_a.sql": {Data: []byte(`CREATE TABLE t (x TEXT) STRICT; INSERT INTO t VALUES ('one');`)}}
	version3 = fstest.MapFS{
		"migrations/0001_a.sql": version1["migrations/0001_a.sql"],
		"migrations/0002_b.sql": {Data: []byte(`ALTER TABLE t ADD COLUMN y TEXT; UPDATE t SET y = x;`)},
		"migrations/0003_c.sql": {Data: []byte(`ALTER TABLE t DROP COLUMN x;`)},
	}
	broken3 = fstest.MapFS{
		"migrations/0001_a.sql": version1["migrations/0001_a.sql"],
		"migrations/0002_b.sql": version3["migrations/0002_b.sql"],
		"migrations/0003_c.sql": {Data: []byte(`ALTER TABLE t DROP COLUMN x; INSERT INTO nowhere VALUES (1);`)},
	}
)

func migratedTo1(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s := &Store{dir: dir}
	s.write = must[*sql.DB](t)(s.connect("", 1))
	t.Cleanup(func() { s.write.Close() })
	check(t, migrate(t.Context(), s.write, dir, version1))
	return s, dir
}

func query(t *testing.T, db *sql.DB, statement string) string {
	t.Helper()
	var got string
	check(t, db.QueryRowContext(t.Context(), statement).Scan(&got))
	return got
}

func TestMigratingKeepsACopyOfTheOldDatabase(t *testing.T) {
	s, dir := migratedTo1(t)
	if files := must[[]string](t)(filepath.Glob(filepath.Join(dir, "*before*"))); len(files) != 0 {
		t.Fatalf("a new database was backed up: %v", files)
	}
	backup := filepath.Join(dir, "shipgate.db.before-2")
	check(t, os.WriteFile(backup, []byte("half a copy from an attempt that was killed"), 0o600))
	check(t, migrate(t.Context(), s.write, dir, version3))
	if got := query(t, s.write, `SELECT y FROM t`); got != "one" {
		t.Errorf("migrated row is %q", got)
	}
	old := must[*sql.DB](t)(sql.Open("sqlite", backup))
	defer old.Close()
	if got := query(t, old, `SELECT x FROM t`) + query(t, old, `PRAGMA user_version`) + query(t, old, `PRAGMA integrity_check`); got != "one1ok" {
		t.Errorf("the copy says %q", got)
	}
	if mode := must[os.FileInfo](t)(os.Stat(backup)).Mode().Perm(); mode != 0o600 {
		t.Errorf("the copy has mode %o", mode)
	}
	for _, entry := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		if !strings.HasPrefix(entry.Name(), "shipgate.db") || strings.HasPrefix(entry.Name(), "shipgate.db.before-2.") {
			t.Errorf("%s was left lying around", entry.Name())
		}
	}
	check(t, os.Remove(backup))
	check(t, migrate(t.Context(), s.write, dir, version3))
	if _, err := os.Stat(backup); err == nil {
		t.Error("a database of the newest schema was backed up")
	}
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	s, dir := migratedTo1(t)
	if err := migrate(t.Context(), s.write, dir, broken3); err == nil || !strings.Contains(err.Error(), "migration 3") {
		t.Fatalf("got %v, want an error that names migration 3", err)
	}
	if got := query(t, s.write, `SELECT x || y FROM t`) + query(t, s.write, `PRAGMA user_version`); got != "oneone2" {
		t.Errorf("after the failure the database says %q", got)
	}
	check(t, migrate(t.Context(), s.write, dir, version3))
}

func TestEndedContextLeavesTheStoreUsable(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Enqueue(ended, NewDeployment{App: "hello", Trigger: TriggerAPI}); err == nil {
		t.Error("enqueued on an ended context")
	}
	if err := s.change(t.Context(), func(*sql.Tx) error { return fmt.Errorf("no") }); err == nil {
		t.Error("a failing transaction was no error")
	}
	func() {
		defer func() { recover() }()
		s.change(t.Context(), func(*sql.Tx) error { panic("a bug") })
	}()
	enqueue(t, s, "hello")
}
