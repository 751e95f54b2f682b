package github

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/shipgate/shipgate/store"
)

// IdentityOptions say whose identity tokens count.
type IdentityOptions struct {
	Issuers  []string      // empty: github.com's
	Audience func() string // the address of this server, which tokens have to be made for
	KeysFile string        // a JWKS file with the keys of the one issuer, where it cannot be asked; may be empty
	Client   *http.Client  // to ask issuers with; nil: one of ours
}

// Identities verifies the identity tokens of workflows.
type Identities struct {
	options IdentityOptions
	now     func() time.Time
	pinned  oidc.KeySet // nil: the issuers are asked

	mu   sync.Mutex
	keys map[string]oidc.KeySet // by issuer
}

const (
	longestIdentity = 16 << 10         // bytes of a token
	identityLeeway  = 30 * time.Second // that clocks may be apart
	issuerPatience  = 10 * time.Second
)

// NewIdentities reads the pinned keys, where there are some.
func NewIdentities(options IdentityOptions) (*Identities, error) {
	if len(options.Issuers) == 0 {
		options.Issuers = []string{store.GitHubIssuer}
	}
	if options.Client == nil {
		options.Client = &http.Client{Timeout: issuerPatience, CheckRedirect: checkRedirect}
	}
	i := &Identities{options: options, now: time.Now, keys: map[string]oidc.KeySet{}}
	if options.KeysFile == "" {
		return i, nil
	}
	if len(options.Issuers) > 1 { // either could speak for the other
		return nil, store.Problemf(store.CodeUsage, "a file of keys is for one issuer, and %d are trusted", len(options.Issuers)).
			WithHint("shipgate serve --oidc-issuer ISSUER --oidc-jwks FILE")
	}
	content, err := os.ReadFile(options.KeysFile)
	if err != nil {
		return nil, fmt.Errorf("read keys of issuers: %w", err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(content, &set); err != nil || len(set.Keys) == 0 {
		return nil, store.Problemf(store.CodeUsage, "%s has no keys: it is to be a JWKS file", options.KeysFile).
			WithHint("curl -o %s %s/.well-known/jwks", options.KeysFile, options.Issuers[0])
	}
	i.pinned = pinnedKeys(set.Keys)
	return i, nil
}

// Issuer is the one that is meant where none is named.
func (i *Identities) Issuer() string { return i.options.Issuers[0] }

// pinnedKeys verifies with keys that were read from a file.
func pinnedKeys(keys []jose.JSONWebKey) oidc.KeySet {
	set := &oidc.StaticKeySet{}
	for _, key := range keys {
		set.PublicKeys = append(set.PublicKeys, key.Key)
	}
	return set
}

// Read takes a token for what it says it is, without asking anybody whether it is genuine. What does not fit then need not
// be verified, so that strangers cannot make the server call the issuer at will.
func (i *Identities) Read(token string) (store.Identity, error) {
	if len(token) > longestIdentity {
		return store.Identity{}, errors.New("the token is too long")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return store.Identity{}, errors.New("the token has not three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return store.Identity{}, errors.New("the token's claims are not base64url")
	}
	return i.identity(payload)
}

// claims are those of GitHub's tokens that count.
// https://docs.github.com/en/actions/reference/security/oidc
type claims struct {
	Issuer       string          `json:"iss"`
	Audience     json.RawMessage `json:"aud"`
	Number       string          `json:"jti"`
	Expires      float64         `json:"exp"`
	NotBefore    float64         `json:"nbf"`
	Repository   string          `json:"repository"`
	RepositoryID string          `json:"repository_id"`
	OwnerID      string          `json:"repository_owner_id"`
	Ref          string          `json:"ref"`
	Environment  string          `json:"environment"`
	Event        string          `json:"event_name"`
	Workflow     string          `json:"job_workflow_ref"`
	RunID        string          `json:"run_id"`
}

// decodeClaims matches the names of claims exactly: encoding/json alone would take "Repository_ID" for repository_id.
func decodeClaims(payload []byte) (claims, error) {
	var c claims
	var all map[string]json.RawMessage
	if err := json.Unmarshal(payload, &all); err != nil {
		return c, err
	}
	exact := map[string]json.RawMessage{}
	for field := range reflect.TypeFor[claims]().Fields() {
		name := field.Tag.Get("json")
		if value, found := all[name]; found {
			exact[name] = value
		}
	}
	text, err := json.Marshal(exact)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(text, &c)
}

// identity checks all that needs no key.
func (i *Identities) identity(payload []byte) (store.Identity, error) {
	c, err := decodeClaims(payload)
	if err != nil {
		return store.Identity{}, fmt.Errorf("the token's claims cannot be read: %w", err)
	}
	now := i.now()
	expires, begins := time.Unix(int64(c.Expires), 0), time.Unix(int64(c.NotBefore), 0)
	var reason string
	switch {
	case !slices.Contains(i.options.Issuers, c.Issuer):
		reason = "the issuer is not trusted: " + c.Issuer
	case !c.isFor(i.options.Audience()):
		reason = "the token is for another audience: " + string(c.Audience)
	case c.Expires <= 0 || now.After(expires.Add(identityLeeway)):
		reason = "the token has expired"
	case now.Add(identityLeeway).Before(begins):
		reason = "the token is not valid yet"
	case c.Number == "":
		reason = "the token has no number"
	case c.RepositoryID == "" || c.OwnerID == "":
		reason = "the token does not say which repository it is of"
	}
	if reason != "" {
		return store.Identity{}, errors.New(reason)
	}
	return store.Identity{
		Issuer: c.Issuer, Number: c.Number, Repository: c.Repository, RepositoryID: c.RepositoryID, OwnerID: c.OwnerID, Ref: c.Ref,
		Environment: c.Environment, Event: c.Event, Workflow: c.Workflow, RunID: c.RunID, ExpiresAt: expires,
	}, nil
}

// isFor wants exactly one audience: a token that is good elsewhere, too, could have been taken there.
func (c claims) isFor(audience string) bool {
	var one string
	if json.Unmarshal(c.Audience, &one) == nil {
		return audience != "" && one == audience
	}
	var several []string
	return json.Unmarshal(c.Audience, &several) == nil && audience != "" && len(several) == 1 && several[0] == audience
}

// Verify says who is behind a token, or why it does not count. Only RS256 is taken.
func (i *Identities) Verify(ctx context.Context, token string) (store.Identity, error) {
	said, err := i.Read(token)
	if err != nil {
		return said, err
	}
	keys, err := i.keysOf(ctx, said.Issuer)
	if err != nil {
		return store.Identity{}, err
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return store.Identity{}, fmt.Errorf("the token's signature cannot be read: %w", err)
	}
	if len(signed.Signatures) != 1 {
		return store.Identity{}, errors.New("the token has not one signature")
	}
	payload, err := keys.VerifySignature(oidc.ClientContext(ctx, i.options.Client), token)
	if errors.Unwrap(err) != nil { // only what kept it from having the keys is wrapped
		return store.Identity{}, issuerAway(err)
	}
	if err != nil {
		return store.Identity{}, fmt.Errorf("the token's signature is not the issuer's: %w", err)
	}
	return i.identity(payload)
}

func issuerAway(err error) error {
	return store.Problemf(store.CodeUnreachable, "the issuer cannot be asked for its keys: %w", err)
}

// keysOf asks an issuer once where its keys are; the keys themselves are fetched again when one is unknown.
func (i *Identities) keysOf(ctx context.Context, issuer string) (oidc.KeySet, error) {
	if i.pinned != nil {
		return i.pinned, nil
	}
	i.mu.Lock()
	keys := i.keys[issuer]
	i.mu.Unlock()
	if keys != nil {
		return keys, nil
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.options.Client), issuer)
	if err != nil {
		return nil, issuerAway(err)
	}
	var found struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&found); err != nil || !strings.HasPrefix(found.Keys, "http") {
		return nil, errors.New("the issuer does not say where its keys are")
	}
	keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), i.options.Client), found.Keys)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[issuer] = keys
	return keys, nil
}
