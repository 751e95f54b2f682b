package store

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver
)

// Store is the one SQLite file of a server and the key that seals its secrets. It is safe for concurrent use.
type Store struct {
	dir      string
	lock     *os.File
	serverID string
	seal     cipher.AEAD
	signing  []byte // derived from the key that seals
	hidden   hidden

	writing sync.Mutex // one writer at a time, so that SQLite never has to make one wait by polling
	write   *sql.DB    // synchronous=FULL: a commit has reached the disk
	relaxed *sql.DB    // synchronous=NORMAL: a commit survives the process, not the power; for log lines
	read    *sql.DB

	watchers  watchers
	strangers strangers
	ownHosts  atomic.Pointer[[]string]

	writeFault atomic.Pointer[Problem]
}

// Anew says which lost parts of a data directory Open may make anew. Without it they are made only in a new directory.
type Anew struct {
	Database bool // the old one, if any, is kept as shipgate.db.old-TIME
	Key      bool // the old one, if any, is kept as secret.key.old-TIME; values that it sealed have to be set again
}

// Open opens the database and the key of a data directory, and keeps every other server out of it. It makes them only in a
// new directory. A missing, empty, damaged or newer database and a missing or foreign key are refused with a Problem that says
// what to restore.
func Open(ctx context.Context, dir string) (*Store, error) { return OpenAnew(ctx, dir, Anew{}) }

// OpenAnew is Open for an operator who gives up what is lost.
func OpenAnew(ctx context.Context, dir string, anew Anew) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	if err := secureDirectory(dir); err != nil {
		return nil, err
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: lock}
	if err := s.open(ctx, anew); err != nil {
		if _, known := AsProblem(err); !known && errors.Is(err, fs.ErrPermission) {
			err = Problemf(CodeErrored, "the data directory cannot be used: %w", err).WithHint("ls -l %s; its files have to belong to the user that runs the server", dir)
		}
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, anew Anew) error {
	if anew.Database {
		if err := putAside(s.databaseFiles()...); err != nil {
			return fmt.Errorf("put old database aside: %w", err)
		}
	} else if err := checkDatabaseFile(s.dir); err != nil {
		return err
	}
	err := s.createDatabase()
	if err != nil {
		return err
	}
	if s.write, err = s.connect("_txlock=immediate&_pragma=synchronous(FULL)", 1); err != nil {
		return err
	}
	if err := checkDatabase(ctx, s.write, s.dir); err != nil {
		return err
	}
	if err := migrate(ctx, s.write, s.dir, migrations); err != nil {
		return err
	}
	if s.relaxed, err = s.connect("_txlock=immediate&_pragma=synchronous(NORMAL)", 1); err != nil {
		return err
	}
	if s.read, err = s.connect("_pragma=query_only(1)", 4); err != nil {
		return err
	}
	if err := s.openKey(ctx, anew.Key); err != nil {
		return err
	}
	return s.loadServerID(ctx)
}

func (s *Store) databaseFiles() []string {
	file := filepath.Join(s.dir, databaseName)
	return []string{file, file + "-wal", file + "-shm"}
}

// putAside gives files another name. Missing ones are left out.
func putAside(files ...string) error {
	suffix := ".old-" + time.Now().UTC().Format("20060102T150405.000")
	for _, file := range files {
		if err := os.Rename(file, file+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// createDatabase makes the file before SQLite does, which would let others read it. Its companions take its mode.
func (s *Store) createDatabase() error {
	file, err := os.OpenFile(filepath.Join(s.dir, databaseName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return file.Close()
}

// connect opens a pool on the database file with the settings that every connection needs.
func (s *Store) connect(extra string, connections int) (*sql.DB, error) {
	name := "file:" + (&url.URL{Path: filepath.Join(s.dir, databaseName)}).EscapedPath() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&" + extra
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Close ends all use of the data directory.
func (s *Store) Close() error {
	var errs []error
	if s.relaxed != nil {
		errs = append(errs, s.closeStrangers())
	}
	for _, db := range []*sql.DB{s.read, s.relaxed, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// ServerID is the value of LabelData on everything this server makes.
func (s *Store) ServerID() string { return s.serverID }

// Dir is the data directory.
func (s *Store) Dir() string { return s.dir }

func (s *Store) loadServerID(ctx context.Context) error {
	random := make([]byte, 8)
	rand.Read(random)
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO settings (key, value) VALUES ('server_id', ?)`, hex.EncodeToString(random))
		if err != nil {
			return fmt.Errorf("write server id: %w", err)
		}
		return tx.QueryRowContext(ctx, `SELECT value FROM settings WHERE key = 'server_id'`).Scan(&s.serverID)
	})
}

// change runs one durable transaction.
func (s *Store) change(ctx context.Context, do func(tx *sql.Tx) error) error {
	return s.transact(ctx, s.write, do)
}

func (s *Store) transact(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) (err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	wrote := true
	defer func() {
		if err != nil || wrote {
			s.noteWrite(err)
		}
	}()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing; without one, also at a panic, it frees the connection
	before := s.changesInFault(ctx, tx)
	if err := do(tx); err != nil {
		return err
	}
	wrote = s.changesInFault(ctx, tx) > before || before < 0
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// lockDirectory takes the lock that dies with the process, so that no stale one can be left behind.
func lockDirectory(dir string) (*os.File, error) {
	handle, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := syscall.Flock(int(handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		problem := Problemf(CodeConflict, "another shipgate server uses %s", dir).
			WithHint("stop it first, or give this one its own --data")
		return nil, errors.Join(problem, handle.Close())
	}
	return handle, nil
}

func stamp(t time.Time) int64 { return t.UnixMicro() }

func unstamp(micros sql.NullInt64) time.Time {
	if !micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(micros.Int64).UTC()
}
