package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the database to the newest schema, one transaction a migration; PRAGMA user_version counts them.
// A database that holds data is copied to shipgate.db.before-N first.
func migrate(ctx context.Context, db *sql.DB, dir string, files fs.FS) error {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	var version int
	if err := db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(names) {
		return Problemf(CodeConflict, "the database has schema %d, and this version knows %d", version, len(names)).
			WithHint("install the shipgate that wrote it, or a newer one")
	}
	if version > 0 && version < len(names) {
		if err := backUp(ctx, db, filepath.Join(dir, fmt.Sprintf("shipgate.db.before-%d", version+1))); err != nil {
			return err
		}
	}
	for number := version + 1; number <= len(names); number++ {
		if err := applyMigration(ctx, db, files, names[number-1], number); err != nil {
			return err
		}
	}
	return nil
}

// backUp replaces the copy that an interrupted attempt may have left: the database has not changed its schema since.
func backUp(ctx context.Context, db *sql.DB, file string) error {
	err := writeFile(file, func(temp *os.File) error {
		_, err := db.ExecContext(ctx, `VACUUM INTO ?`, temp.Name()) // takes an empty file, and does not sync it
		return err
	})
	if err != nil {
		return fmt.Errorf("back up database before migrating: %w", err)
	}
	return nil
}

func applyMigration(ctx context.Context, db *sql.DB, files fs.FS, name string, number int) error {
	statements, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("read migration %d: %w", number, err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin migration %d: %w", number, err)
	}
	_, err = tx.ExecContext(ctx, string(statements))
	if err == nil {
		_, err = tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, number))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("run migration %d: %w", number, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit migration %d: %w", number, err)
	}
	return nil
}
