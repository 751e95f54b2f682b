package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Trust lets workflows of one repository deploy an app without a stored token. All it names has to fit.
type Trust struct {
	ID           int64     `json:"id"`
	App          string    `json:"app"`
	Issuer       string    `json:"issuer"`
	Repository   string    `json:"repository"`          // OWNER/NAME, for people
	RepositoryID string    `json:"repository_id"`       // what counts: it outlives renaming
	OwnerID      string    `json:"repository_owner_id"` // and this one with it
	Ref          string    `json:"ref"`                 // such as refs/heads/main or refs/tags/v*; empty: any
	Environment  string    `json:"environment"`         // of the job; empty: any
	Events       []string  `json:"events"`              // empty: all but those of pull requests
	Workflow     string    `json:"job_workflow_ref"`    // empty: any
	CreatedAt    time.Time `json:"created_at"`
}

// Identity is what a forge says of a workflow's job in an identity token.
// https://docs.github.com/en/actions/concepts/security/openid-connect
type Identity struct {
	Issuer       string
	Number       string // the token's own, its jti
	Repository   string
	RepositoryID string
	OwnerID      string
	Ref          string
	Environment  string
	Event        string
	Workflow     string
	RunID        string
	ExpiresAt    time.Time
}

// GitHubIssuer signs the identity tokens of github.com.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// pullRequestEvents run what strangers may have written, or with rights that strangers must not get.
var pullRequestEvents = []string{"pull_request", "pull_request_target"}

var forgeID = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)

// validate refuses a rule that trusts more than was meant.
func (t *Trust) validate() error {
	if t.Issuer == "" {
		t.Issuer = GitHubIssuer
	}
	issuer, err := url.Parse(t.Issuer)
	switch {
	case err != nil || issuer.Host == "" || issuer.RawQuery != "":
		return Problemf(CodeUsage, "issuer %q is not an address", t.Issuer)
	case !forgeID.MatchString(t.RepositoryID) || !forgeID.MatchString(t.OwnerID):
		return Problemf(CodeUsage, "the numbers of the repository and its owner are needed: names can change hands").
			WithHint("gh api repos/OWNER/NAME --jq '.id, .owner.id'")
	case t.Ref == "" && t.Environment == "":
		return Problemf(CodeUsage, "every branch of %s could deploy: name a ref or an environment", t.Repository).
			WithHint("shipgate trust %s --repo %s --ref refs/heads/main", t.App, t.Repository)
	case t.Ref != "" && !strings.HasPrefix(t.Ref, "refs/") && t.Ref != "*":
		return Problemf(CodeUsage, "ref %q is not a full name", t.Ref).WithHint("--ref refs/heads/%s", t.Ref)
	}
	if _, err := path.Match(t.Ref, ""); err != nil {
		return Problemf(CodeUsage, "ref %q is not a pattern", t.Ref)
	}
	return nil
}

// Allows says why an identity does not fit; "" when it does. What the token's subject says is never looked at: its form
// has changed before, and owners can change it.
func (t Trust) Allows(i Identity) (reason string) {
	switch {
	case i.Issuer != t.Issuer:
		return "another issuer"
	case i.RepositoryID != t.RepositoryID:
		return "another repository: " + i.Repository
	case i.OwnerID != t.OwnerID:
		return "another owner of the repository: " + i.Repository
	case !t.fitsRef(i.Ref):
		return "another ref: " + i.Ref
	case t.Environment != "" && i.Environment != t.Environment:
		return "another environment: " + i.Environment
	case t.Workflow != "" && i.Workflow != t.Workflow:
		return "another workflow: " + i.Workflow
	case !t.fitsEvent(i.Event):
		return "another event: " + i.Event
	}
	return ""
}

func (t Trust) fitsRef(ref string) bool {
	if t.Ref == "" || t.Ref == "*" {
		return true
	}
	fits, err := path.Match(t.Ref, ref)
	return err == nil && fits
}

func (t Trust) fitsEvent(event string) bool {
	if len(t.Events) == 0 {
		return event != "" && !slices.Contains(pullRequestEvents, event)
	}
	return slices.Contains(t.Events, event)
}

// Describe says for people whom a rule trusts.
func (t Trust) Describe() string {
	text := t.Repository
	if t.Ref != "" {
		text += " at " + t.Ref
	}
	if t.Environment != "" {
		text += " in environment " + t.Environment
	}
	return text
}

// AddTrust stores a rule.
func (s *Store) AddTrust(ctx context.Context, trust Trust) (Trust, error) {
	if err := trust.validate(); err != nil {
		return Trust{}, err
	}
	trust.CreatedAt = time.Now().UTC().Truncate(time.Microsecond)
	trust.Events = append([]string{}, trust.Events...)
	events, err := json.Marshal(trust.Events)
	if err != nil {
		return Trust{}, fmt.Errorf("write trust: %w", err)
	}
	err = s.changeApp(ctx, trust.App, func(tx txContext, app int64) error {
		result, err := tx.exec(`INSERT INTO trust (app, issuer, repository, repository_id, owner_id, ref, environment, events, workflow, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, app, trust.Issuer, trust.Repository, trust.RepositoryID, trust.OwnerID,
			trust.Ref, trust.Environment, string(events), trust.Workflow, stamp(trust.CreatedAt))
		if err != nil {
			return fmt.Errorf("write trust: %w", err)
		}
		trust.ID, err = result.LastInsertId()
		return err
	})
	return trust, err
}

// Trusts lists an app's rules, the oldest first.
func (s *Store) Trusts(ctx context.Context, app string) ([]Trust, error) {
	return collect(ctx, s.read, func(row scanner) (t Trust, err error) {
		var events []byte
		var created sql.NullInt64
		err = row.Scan(&t.ID, &t.App, &t.Issuer, &t.Repository, &t.RepositoryID, &t.OwnerID, &t.Ref, &t.Environment, &events, &t.Workflow, &created)
		if err == nil {
			err = json.Unmarshal(events, &t.Events)
		}
		t.CreatedAt = unstamp(created)
		return t, err
	}, `SELECT t.id, a.name, t.issuer, t.repository, t.repository_id, t.owner_id, t.ref, t.environment, t.events, t.workflow, t.created_at
		FROM trust t JOIN apps a ON a.id = t.app WHERE a.name = ? ORDER BY t.id`, app)
}

// RemoveTrust forgets a rule of an app, or gives a not_found Problem.
func (s *Store) RemoveTrust(ctx context.Context, app string, id int64) error {
	return s.changeApp(ctx, app, func(tx txContext, owner int64) error {
		result, err := tx.exec(`DELETE FROM trust WHERE id = ? AND app = ?`, id, owner)
		if err != nil {
			return fmt.Errorf("remove trust: %w", err)
		}
		if removed, _ := result.RowsAffected(); removed == 0 {
			return Problemf(CodeNotFound, "%s has no trust %d", app, id).WithHint("shipgate trust %s", app)
		}
		return nil
	})
}

// Exchange gives a deploy token for an app to whoever has an identity, once: false says that it was exchanged before.
func (s *Store) Exchange(ctx context.Context, identity Identity, app string, lives time.Duration) (secret string, token Token, fresh bool, err error) {
	now := time.Now()
	token = Token{
		Name: exchangedName + identity.Repository + " run " + identity.RunID, App: app, Rights: Rights{RightRead, RightDeploy}, Environment: identity.Environment,
		CreatedAt: now.UTC().Truncate(time.Microsecond), ExpiresAt: now.Add(lives).UTC().Truncate(time.Microsecond),
	}
	secret = newSecret()
	err = s.changeApp(ctx, app, func(tx txContext, _ int64) (err error) {
		if fresh, err = markExchanged(tx, identity, now); err != nil || !fresh {
			return err
		}
		if _, err := tx.exec(`DELETE FROM tokens WHERE name LIKE ? AND expires_at < ?`, exchangedName+"%", stamp(now)); err != nil {
			return fmt.Errorf("remove old tokens: %w", err)
		}
		token.ID, err = insertToken(tx, token, secret)
		return err
	})
	if err != nil || !fresh {
		return "", Token{}, false, err
	}
	return secret, token, true, nil
}

// exchangedName begins the names of tokens that were got for an identity.
const exchangedName = "identity of "

func markExchanged(tx txContext, identity Identity, now time.Time) (fresh bool, err error) {
	if _, err := tx.exec(`DELETE FROM exchanged WHERE expires_at < ?`, stamp(now.Add(-identityLeeway))); err != nil {
		return false, fmt.Errorf("forget old identities: %w", err)
	}
	result, err := tx.exec(`INSERT OR IGNORE INTO exchanged (issuer, number, expires_at) VALUES (?, ?, ?)`,
		identity.Issuer, identity.Number, stamp(identity.ExpiresAt))
	if err != nil {
		return false, fmt.Errorf("remember identity: %w", err)
	}
	added, err := result.RowsAffected()
	return added > 0, err
}

// identityLeeway is more than any clock that takes an identity for valid may be off.
const identityLeeway = 10 * time.Minute
