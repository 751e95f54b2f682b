package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

func writeBytes(file string, content []byte) error {
	return writeFile(file, func(temp *os.File) error {
		_, err := temp.Write(content)
		return err
	})
}

// writeFile makes a private file that is whole or absent, also after a power loss.
func writeFile(file string, fill func(temp *os.File) error) error {
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if err := errors.Join(fill(temp), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// sealed encrypts a value; the purpose must be given again to open it, so that a row cannot stand in for another.
func (s *Store) sealed(purpose string, plain []byte) []byte {
	nonce := make([]byte, s.seal.NonceSize())
	rand.Read(nonce)
	return s.seal.Seal(nonce, nonce, plain, []byte(purpose))
}

func (s *Store) unsealed(purpose string, box []byte) ([]byte, error) {
	size := s.seal.NonceSize()
	if len(box) < size {
		return nil, errors.New("open sealed value: too short")
	}
	plain, err := s.seal.Open(nil, box[:size], box[size:], []byte(purpose))
	if err != nil {
		return nil, Problemf(CodeErrored, "a sealed value does not open with this secret.key").
			WithHint("put back the secret.key from your backup, or set the value again: shipgate env APP set NAME=VALUE")
	}
	return plain, nil
}

// SealEnv seals a whole env, for a Release.
func (s *Store) SealEnv(env map[string]string) ([]byte, error) {
	plain, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encode env: %w", err)
	}
	return s.sealed("release-env", plain), nil
}

// OpenEnv gives the env that a Release was made with.
func (s *Store) OpenEnv(release Release) (map[string]string, error) {
	plain, err := s.unsealed("release-env", release.SealedEnv)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	if err := json.Unmarshal(plain, &env); err != nil {
		return nil, fmt.Errorf("decode env: %w", err)
	}
	return env, nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

// Env gives the app's env, opened.
func (s *Store) Env(ctx context.Context, app string) (map[string]string, error) {
	if _, err := s.App(ctx, app); err != nil {
		return nil, err
	}
	rows, err := s.read.QueryContext(ctx, `SELECT name, sealed FROM env WHERE app = (SELECT id FROM apps WHERE name = ?)`, app)
	if err != nil {
		return nil, fmt.Errorf("read env: %w", err)
	}
	defer rows.Close()
	env := map[string]string{}
	for rows.Next() {
		var name string
		var box []byte
		if err := rows.Scan(&name, &box); err != nil {
			return nil, fmt.Errorf("read env: %w", err)
		}
		plain, err := s.unsealed("env:"+app+":"+name, box)
		if err != nil {
			return nil, err
		}
		env[name] = string(plain)
	}
	return env, rows.Err()
}

// SetEnv sets the given values and keeps the others. They take effect with the next deployment.
func (s *Store) SetEnv(ctx context.Context, app string, values map[string]string) error {
	for name, value := range values {
		if !envName.MatchString(name) {
			return Problemf(CodeUsage, "env name %q is not allowed: use letters, digits and _", name).
				WithHint("shipgate env %s set NAME=VALUE", app)
		}
		if strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			return Problemf(CodeUsage, "the value of %s is not text: a process cannot get it unchanged", name).
				WithHint("encode it first: shipgate env %s set %s=\"$(base64 < FILE)\"", app, name)
		}
	}
	return s.changeApp(ctx, app, func(tx txContext, id int64) error {
		for name, value := range values {
			_, err := tx.exec(`INSERT INTO env (app, name, sealed) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed`,
				id, name, s.sealed("env:"+app+":"+name, []byte(value)))
			if err != nil {
				return fmt.Errorf("write env: %w", err)
			}
		}
		return nil
	})
}

// UnsetEnv removes values; names that are not set are no error.
func (s *Store) UnsetEnv(ctx context.Context, app string, names ...string) error {
	return s.changeApp(ctx, app, func(tx txContext, id int64) error {
		for _, name := range names {
			if _, err := tx.exec(`DELETE FROM env WHERE app = ? AND name = ?`, id, name); err != nil {
				return fmt.Errorf("remove env: %w", err)
			}
		}
		return nil
	})
}
