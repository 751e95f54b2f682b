package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Token is what a bearer may do. Its secret is shown once and stored as a hash.
type Token struct {
	ID         int64     `json:"id"`
	Name       string    `json:"name"`
	App        string    `json:"app"` // empty: every app
	Rights     Rights    `json:"rights"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`

	Environment string `json:"environment,omitempty"` // of the job that has it for its identity
}

// May reports whether the token has a right on an app. An app of "" means the server as a whole.
func (t Token) May(right Right, app string) bool {
	return t.Rights.Has(right) && (t.App == "" || t.App == app)
}

// CreateToken stores a new token and gives its secret, which cannot be had again.
func (s *Store) CreateToken(ctx context.Context, token Token) (string, Token, error) {
	rights, err := NewRights(token.Rights...)
	if err != nil {
		return "", Token{}, err
	}
	token.Rights = rights
	secret := newSecret()
	token.CreatedAt = time.Now().UTC().Truncate(time.Microsecond)
	if !token.ExpiresAt.IsZero() {
		token.ExpiresAt = token.ExpiresAt.UTC().Truncate(time.Microsecond)
	}
	token.LastUsedAt = time.Time{}
	err = s.change(ctx, func(tx *sql.Tx) (err error) {
		if token.App != "" {
			if _, err := appID(txContext{ctx, tx}, token.App); err != nil {
				return err
			}
		}
		token.ID, err = insertToken(txContext{ctx, tx}, token, secret)
		return err
	})
	if err != nil {
		return "", Token{}, err
	}
	return secret, token, nil
}

func newSecret() string {
	random := make([]byte, 32)
	rand.Read(random)
	return "sg_" + hex.EncodeToString(random)
}

func insertToken(tx txContext, token Token, secret string) (int64, error) {
	hash := sha256.Sum256([]byte(secret))
	expires := sql.NullInt64{Int64: stamp(token.ExpiresAt), Valid: !token.ExpiresAt.IsZero()}
	result, err := tx.exec(`INSERT INTO tokens (name, hash, app, rights, environment, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		token.Name, hash[:], token.App, token.Rights.String(), token.Environment, stamp(token.CreatedAt), expires)
	if err != nil {
		return 0, fmt.Errorf("write token: %w", err)
	}
	return result.LastInsertId()
}

const selectTokens = `SELECT id, name, app, rights, environment, created_at, expires_at, last_used_at FROM tokens `

var errInvalidToken = Problemf(CodeUnauthorised, "the token is not valid").
	WithHint("on the server: shipgate token create --rights read,deploy --app APP")

// Authenticate finds the token of a secret. Anything wrong with it is the same unauthorised Problem.
func (s *Store) Authenticate(ctx context.Context, secret string) (Token, error) {
	hash := sha256.Sum256([]byte(secret))
	token, err := scanToken(s.read.QueryRowContext(ctx, selectTokens+`WHERE hash = ?`, hash[:]))
	if errors.Is(err, sql.ErrNoRows) || (err == nil && !token.ExpiresAt.IsZero() && time.Now().After(token.ExpiresAt)) {
		return Token{}, errInvalidToken
	}
	if err != nil {
		return Token{}, err
	}
	if err := s.noteUse(ctx, token); err != nil && diskProblem(err) == nil { // on a full disk it can still be looked
		return Token{}, fmt.Errorf("note use of token: %w", err)
	}
	return token, nil
}

// TokenByID finds a token that is still valid, for a session that was opened with it.
func (s *Store) TokenByID(ctx context.Context, id int64) (Token, error) {
	token, err := scanToken(s.read.QueryRowContext(ctx, selectTokens+`WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) || (err == nil && !token.ExpiresAt.IsZero() && time.Now().After(token.ExpiresAt)) {
		return Token{}, Problemf(CodeUnauthorised, "the token of this session is not valid any more").WithHint("sign in again")
	}
	return token, err
}

// noteUse records the last use, to the minute: a push makes several requests.
func (s *Store) noteUse(ctx context.Context, token Token) error {
	now := time.Now()
	if now.Sub(token.LastUsedAt) < time.Minute {
		return nil
	}
	return s.transact(ctx, s.relaxed, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE tokens SET last_used_at = ? WHERE id = ?`, stamp(now), token.ID)
		return err
	})
}

// Tokens lists all tokens, without their secrets.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	return collect(ctx, s.read, scanToken, selectTokens+`ORDER BY id`)
}

// RevokeToken removes a token.
func (s *Store) RevokeToken(ctx context.Context, id int64) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE id = ?`, id)
		if err != nil {
			return fmt.Errorf("remove token: %w", err)
		}
		if removed, _ := result.RowsAffected(); removed == 0 {
			return Problemf(CodeNotFound, "there is no token %d", id).WithHint("shipgate token list")
		}
		return nil
	})
}

func scanToken(row scanner) (Token, error) {
	var token Token
	var rights string
	var created, expires, used sql.NullInt64
	err := row.Scan(&token.ID, &token.Name, &token.App, &rights, &token.Environment, &created, &expires, &used)
	if err == nil {
		token.Rights, err = readRights(rights)
	}
	if err != nil {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	token.CreatedAt, token.ExpiresAt, token.LastUsedAt = unstamp(created), unstamp(expires), unstamp(used)
	return token, nil
}

// EnsureAdminToken makes DIR/admin-token, readable by its owner only, when it is missing or no longer valid.
func (s *Store) EnsureAdminToken(ctx context.Context) error {
	file := filepath.Join(s.dir, "admin-token")
	secret, err := os.ReadFile(file)
	if err == nil {
		token, err := s.Authenticate(ctx, strings.TrimSpace(string(secret)))
		if err == nil && token.May(RightAdmin, "") {
			return nil
		}
		if err != nil && CodeOf(err) != CodeUnauthorised {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read admin token: %w", err)
	}
	fresh, _, err := s.CreateToken(ctx, Token{Name: "admin", Rights: Rights{RightAdmin}})
	if err != nil {
		return err
	}
	if err := writeBytes(file, []byte(fresh+"\n")); err != nil {
		return fmt.Errorf("write admin token: %w", err)
	}
	return nil
}
