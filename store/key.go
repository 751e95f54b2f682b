package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	keyName = "secret.key"
	keySize = 32
	// keyCheck is the setting that a key is recognised by: a MAC, so that it says nothing of the key.
	keyCheck = "key_check"
)

// openKey reads the key that seals secrets with AES-256-GCM, and derives the one that signs. It makes a key only where
// nothing was sealed with another one, or where the operator gives that up.
func (s *Store) openKey(ctx context.Context, anew bool) error {
	file := filepath.Join(s.dir, keyName)
	if anew {
		if err := putAside(file); err != nil {
			return fmt.Errorf("put old key aside: %w", err)
		}
	}
	key, err := os.ReadFile(file)
	made := errors.Is(err, fs.ErrNotExist)
	if err != nil && !made {
		return fmt.Errorf("open secret key: %w", err)
	}
	if made && !anew {
		if err := s.refuseLostKey(ctx); err != nil {
			return err
		}
	}
	if made {
		key = make([]byte, keySize)
		rand.Read(key)
		if err := writeBytes(file, key); err != nil {
			return fmt.Errorf("write secret key: %w", err)
		}
	}
	if err := s.useKey(key); err != nil {
		return err
	}
	if !made {
		if err := checkKey(ctx, s.write, s.dir, key); err != nil {
			return err
		}
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)`, keyCheck, checkOfKey(key))
		if err != nil {
			return fmt.Errorf("write check value of the key: %w", err)
		}
		return nil
	})
}

func (s *Store) useKey(key []byte) (err error) {
	if s.seal, err = sealOf(key); err != nil {
		return keyProblem(s.dir, fmt.Sprintf("has %d bytes, not %d", len(key), keySize))
	}
	s.signing = macOf(key, "signing")
	return nil
}

func sealOf(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("the key has %d bytes", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func macOf(key []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

func checkOfKey(key []byte) string { return hex.EncodeToString(macOf(key, "check")) }

// refuseLostKey lets a key be made where there is nothing that another one has sealed.
func (s *Store) refuseLostKey(ctx context.Context) error {
	sealed, err := countSealed(ctx, s.write)
	if err != nil || sealed == 0 {
		return err
	}
	return keyProblem(s.dir, fmt.Sprintf("is missing, and %d values in the database are sealed with it", sealed))
}

// checkKey tells a foreign key by the stored check value, or in a database that has none yet by a value that was sealed.
func checkKey(ctx context.Context, db *sql.DB, dir string, key []byte) error {
	seal, err := sealOf(key)
	if err != nil {
		return keyProblem(dir, fmt.Sprintf("has %d bytes, not %d", len(key), keySize))
	}
	foreign := keyProblem(dir, "is not the key that the values in this database are sealed with")
	var stored string
	err = db.QueryRowContext(ctx, `SELECT value FROM settings WHERE key = ?`, keyCheck).Scan(&stored)
	switch {
	case err == nil && stored != checkOfKey(key):
		return foreign
	case err == nil:
		return nil
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("read check value of the key: %w", err)
	}
	var purpose string
	var box []byte
	for _, values := range []string{sealedAlways, sealedLogins} {
		if err = db.QueryRowContext(ctx, values+` LIMIT 1`).Scan(&purpose, &box); !errors.Is(err, sql.ErrNoRows) {
			break
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a sealed value: %w", err)
	}
	if size := seal.NonceSize(); len(box) >= size {
		if _, err := seal.Open(nil, box[:size], box[size:], []byte(purpose)); err == nil {
			return nil
		}
	}
	return foreign
}

// All that is sealed with its purpose. The first query works with a database that an earlier version wrote, too.
const (
	sealedAlways = `SELECT 'env:' || apps.name || ':' || env.name, sealed FROM env JOIN apps ON apps.id = env.app
		UNION ALL SELECT 'secret:' || name, sealed FROM secrets
		UNION ALL SELECT 'release-env', sealed_env FROM releases`
	sealedLogins = `SELECT 'registry:' || ifnull(apps.name || '/', '') || host, sealed FROM registries LEFT JOIN apps ON apps.id = registries.app`
)

func countSealed(ctx context.Context, db *sql.DB) (n int, err error) {
	if err = db.QueryRowContext(ctx, `SELECT count(*) FROM (`+sealedAlways+` UNION ALL `+sealedLogins+`)`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count sealed values: %w", err)
	}
	return n, nil
}

func keyProblem(dir, wrong string) *Problem {
	return Problemf(CodeErrored, "%s %s", filepath.Join(dir, keyName), wrong).
		WithHint("restore secret.key from the backup that has this database; if it is lost, make a new one and set every value again: shipgate serve --data %s --new-key", dir)
}
