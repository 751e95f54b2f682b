package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"
)

// Repository names a repository at the forge. Its letters count without case.
type Repository struct {
	Owner string `json:"owner"`
	Name  string `json:"name"`
}

func (r Repository) String() string { return r.Owner + "/" + r.Name }

// Same says whether the forge takes both names for one repository.
func (r Repository) Same(other Repository) bool { return strings.EqualFold(r.String(), other.String()) }

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// ValidateCommitID accepts the full id of a commit. Whatever becomes part of an address of the forge goes through this
// and ValidateRepository first.
func ValidateCommitID(sha string) error {
	if !commitID.MatchString(sha) {
		return Problemf(CodeUsage, "%.60q is not the full id of a commit", sha).WithHint("git rev-parse HEAD")
	}
	return nil
}

// ValidateRepository accepts what can be a part of an address without changing its meaning.
func ValidateRepository(r Repository) error {
	for _, part := range []string{r.Owner, r.Name} {
		if !repoPart.MatchString(part) || part == "." || part == ".." {
			return Problemf(CodeUsage, "%.200q is not a repository name: write OWNER/NAME", r.String()).WithHint("--repo octocat/hello-world")
		}
	}
	return nil
}

// Remote is where the commits of an app come from, with what it takes to read them.
type Remote struct {
	URL      string // of git's smart HTTP protocol
	Username string
	Password string
}

// Head is the newest push of a followed branch that the forge told of, or that was found there.
type Head struct {
	App      string
	Branch   string // full name of the ref
	SHA      string
	PushedAt time.Time // zero when it is not known
}

// Head gives what was last received of an app's branch; false before anything was.
func (s *Store) Head(ctx context.Context, app, branch string) (Head, bool, error) {
	head := Head{App: app, Branch: branch}
	var pushed sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT sha, pushed_at FROM heads
		WHERE app = (SELECT id FROM apps WHERE name = ?) AND branch = ?`, app, branch).Scan(&head.SHA, &pushed)
	if errors.Is(err, sql.ErrNoRows) {
		return Head{}, false, nil
	}
	if err != nil {
		return Head{}, false, fmt.Errorf("read head: %w", err)
	}
	head.PushedAt = unstamp(pushed)
	return head, true, nil
}

// SetHead remembers what was received of an app's branch.
func (s *Store) SetHead(ctx context.Context, head Head) error {
	return s.changeApp(ctx, head.App, func(tx txContext, id int64) error {
		pushed := sql.NullInt64{Int64: stamp(head.PushedAt), Valid: !head.PushedAt.IsZero()}
		_, err := tx.exec(`INSERT OR REPLACE INTO heads (app, branch, sha, pushed_at) VALUES (?, ?, ?, ?)`, id, head.Branch, head.SHA, pushed)
		if err != nil {
			return fmt.Errorf("write head: %w", err)
		}
		return nil
	})
}

// AppsOf lists the apps that follow a repository, by name.
func (s *Store) AppsOf(ctx context.Context, repository Repository) ([]App, error) {
	return collect(ctx, s.read, scanApp, selectApps+`WHERE lower(config ->> '$.repo_owner') = lower(?)
		AND lower(config ->> '$.repo_name') = lower(?) ORDER BY name`, repository.Owner, repository.Name)
}

// forgetHeads of an app that follows something else now: what was received before says nothing of that.
func forgetHeads(tx txContext, id int64, old, app App) error {
	before, err := DecodeConfig(old.Source, old.Config)
	if err != nil {
		return err
	}
	after, err := DecodeConfig(app.Source, app.Config)
	if err != nil {
		return err
	}
	was, _ := before.Shared().Repository()
	is, _ := after.Shared().Repository()
	if was.Same(is) && before.Shared().Branch == after.Shared().Branch {
		return nil
	}
	if _, err := tx.exec(`DELETE FROM heads WHERE app = ?`, id); err != nil {
		return fmt.Errorf("forget heads: %w", err)
	}
	return nil
}

// NoteRepository hears from the forge which name a numbered repository had at some time, and gives the name it has now: what
// is older than what is known changes nothing. The apps that follow the old name follow the new one from then on; they are
// given as well.
func (s *Store) NoteRepository(ctx context.Context, id int64, heard Repository, at time.Time) (now Repository, renamed []string, err error) {
	if err := ValidateRepository(heard); err != nil {
		return heard, nil, err
	}
	known, _, err := s.repository(ctx, s.read, id)
	if err != nil || known == heard { // as nearly always: nothing is written
		return heard, nil, err
	}
	err = s.change(ctx, func(tx *sql.Tx) error {
		before, since, err := s.repository(ctx, tx, id)
		if err != nil {
			return err
		}
		if now = before; before == heard || at.Before(since) {
			return nil
		}
		now = heard
		t := txContext{ctx, tx}
		if _, err := t.exec(`INSERT OR REPLACE INTO repositories (id, owner, name, since) VALUES (?, ?, ?, ?)`, id, now.Owner, now.Name, stamp(at)); err != nil {
			return fmt.Errorf("write repository: %w", err)
		}
		renamed, err = moveFollowers(t, before, now)
		return err
	})
	return now, renamed, err
}

func moveFollowers(tx txContext, before, now Repository) (renamed []string, err error) {
	rows, err := tx.tx.QueryContext(tx.ctx, `UPDATE apps SET config = json_set(config, '$.repo_owner', ?, '$.repo_name', ?)
		WHERE lower(config ->> '$.repo_owner') = lower(?) AND lower(config ->> '$.repo_name') = lower(?) RETURNING name`,
		now.Owner, now.Name, before.Owner, before.Name)
	if err != nil {
		return nil, fmt.Errorf("follow repository to its new name: %w", err)
	}
	renamed, err = collected(rows, func(row scanner) (name string, err error) { return name, row.Scan(&name) })
	slices.Sort(renamed)
	return renamed, err
}

// rowReader is a transaction, or the database outside of any.
type rowReader interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// repository gives what is known of a number, and since when; nothing when that is nothing.
func (s *Store) repository(ctx context.Context, in rowReader, id int64) (r Repository, since time.Time, err error) {
	var told sql.NullInt64
	err = in.QueryRowContext(ctx, `SELECT owner, name, since FROM repositories WHERE id = ?`, id).Scan(&r.Owner, &r.Name, &told)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, since, fmt.Errorf("read repository: %w", err)
	}
	return r, unstamp(told), nil
}

// ForgeDeployment gives the forge's own number of a deployment, or 0.
func (s *Store) ForgeDeployment(ctx context.Context, deployment int64) (forgeID int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT forge_id FROM forge_deployments WHERE deployment = ?`, deployment).Scan(&forgeID)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read deployment of the forge: %w", err)
	}
	return forgeID, nil
}

// SetForgeDeployment remembers the forge's own number of a deployment.
func (s *Store) SetForgeDeployment(ctx context.Context, deployment, forgeID int64) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO forge_deployments (deployment, forge_id) VALUES (?, ?)`, deployment, forgeID)
		if err != nil {
			return fmt.Errorf("write deployment of the forge: %w", err)
		}
		return nil
	})
}

// SetSecret seals a secret of the server itself under a name.
func (s *Store) SetSecret(ctx context.Context, name string, value any) error {
	plain, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode secret: %w", err)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO secrets (name, sealed) VALUES (?, ?)`, name, s.sealed("secret:"+name, plain))
		if err != nil {
			return fmt.Errorf("write secret: %w", err)
		}
		return nil
	})
}

// Secret opens a secret of the server itself into value; false when there is none.
func (s *Store) Secret(ctx context.Context, name string, value any) (bool, error) {
	var box []byte
	err := s.read.QueryRowContext(ctx, `SELECT sealed FROM secrets WHERE name = ?`, name).Scan(&box)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read secret: %w", err)
	}
	plain, err := s.unsealed("secret:"+name, box)
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(plain, value); err != nil {
		return false, fmt.Errorf("decode secret: %w", err)
	}
	return true, nil
}

// RemoveSecret forgets a secret; one that is not there is no error.
func (s *Store) RemoveSecret(ctx context.Context, name string) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM secrets WHERE name = ?`, name); err != nil {
			return fmt.Errorf("remove secret: %w", err)
		}
		return nil
	})
}

// DefaultEnvironment is where a GitHub Deployment goes when the app does not say.
const DefaultEnvironment = "production"

// Repository is the one the app follows; false when it follows none.
func (c *SharedConfig) Repository() (Repository, bool) {
	return Repository{Owner: c.RepoOwner, Name: c.RepoName}, c.RepoOwner != ""
}

func (c *SharedConfig) environment() string { return cmp.Or(c.Environment, DefaultEnvironment) }

func (c *SharedConfig) validateForge() error {
	for _, glob := range c.Paths {
		positive := strings.TrimPrefix(glob, "!")
		if !doublestar.ValidatePattern(positive) || positive == "" || len(glob) > 300 || path.IsAbs(positive) || !isLocal(path.Clean(positive)) {
			return fmt.Errorf("paths: %q is not a pattern of paths in the repository, such as web/**", glob)
		}
	}
	if len(c.Environment) > 255 || strings.ContainsFunc(c.Environment, unicode.IsControl) {
		return fmt.Errorf("environment %.60q is not a name of up to 255 characters", c.Environment)
	}
	return nil
}
