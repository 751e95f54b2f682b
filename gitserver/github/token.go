package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/shipgate/shipgate/store"
)

// purpose is what a token is good for: nothing else is asked for it.
type purpose string

const (
	forLook       purpose = "metadata:read"
	forFetch      purpose = "contents:read"
	forStatus     purpose = "statuses:write"
	forDeployment purpose = "deployments:write"
)

const staleBefore = time.Minute // a token this near to its end is not used any more

// minted is a token of an installation.
type minted struct {
	token   string
	expires time.Time
}

func parseKey(text string) (*rsa.PrivateKey, error) {
	bad := store.Problemf(store.CodeUsage, "the private key is not the RSA key that GitHub gives for an App, in PEM").
		WithHint("generate one on the App's page at GitHub and give the file as it is")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, bad
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, isRSA := parsed.(*rsa.PrivateKey)
	if err != nil || !isRSA {
		return nil, bad
	}
	return key, nil
}

// appToken makes the JWT by which the App itself speaks (RFC 7519, RS256). It begins a minute ago, should our clock be
// ahead, and GitHub allows it ten minutes at most.
func (a *access) appToken() (string, error) {
	now := a.now()
	claims, err := json.Marshal(map[string]any{
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(), "iss": fmt.Sprint(a.AppID),
	})
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign token of the App: %w", err)
	}
	return signed + "." + encode(signature), nil
}

// tokenFor gives a token that may do one thing in one repository. Those who ask at the same time share one.
func (a *access) tokenFor(ctx context.Context, repository store.Repository, what purpose) (string, error) {
	if a.Kind == store.AccessToken {
		return a.Token, nil
	}
	key := tokenKey(repository, what)
	for {
		if token, ok := a.cached(key); ok {
			return token, nil
		}
		result, err, shared := a.mints.Do(key, func() (any, error) {
			if token, ok := a.cached(key); ok {
				return token, nil
			}
			return a.mint(ctx, repository, what)
		})
		if err == nil {
			return result.(string), nil
		}
		if !shared || ctx.Err() != nil || !errors.Is(err, context.Canceled) {
			return "", err
		} // it was another one's patience that ended
	}
}

func tokenKey(repository store.Repository, what purpose) string {
	return strings.ToLower(repository.String()) + " " + string(what)
}

func (a *access) cached(key string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok := a.minted[key]
	return m.token, ok && a.now().Before(m.expires.Add(-staleBefore))
}

func (a *access) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.minted, key)
}

// mint asks for a new token. An installation that is not there any more may have been replaced by another.
func (a *access) mint(ctx context.Context, repository store.Repository, what purpose) (string, error) {
	id, known, err := a.installation(ctx, repository)
	if err != nil {
		return "", err
	}
	token, err := a.mintAt(ctx, id, repository, what)
	if isGone(err) {
		a.forgetInstallation(repository)
		if known {
			if id, _, err = a.installation(ctx, repository); err == nil {
				token, err = a.mintAt(ctx, id, repository, what)
			}
		}
	}
	if err != nil {
		return "", err
	}
	a.hide(token.token)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.minted[tokenKey(repository, what)] = token
	return token.token, nil
}

func (a *access) mintAt(ctx context.Context, installation int64, repository store.Repository, what purpose) (minted, error) {
	permission, level, _ := strings.Cut(string(what), ":")
	asked := map[string]any{"repositories": []string{repository.Name}, "permissions": map[string]string{permission: level}}
	// go-github would decode the repositories of the answer as well, and cannot read all that is in them.
	var answer struct {
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	err := a.asApp(ctx, http.MethodPost, fmt.Sprintf("app/installations/%d/access_tokens", installation), asked, &answer)
	if err == nil && answer.Token == "" {
		err = &trouble{kind: transient, message: "GitHub answered without a token"}
	}
	return minted{answer.Token, answer.ExpiresAt}, err
}

// installation finds where the App is let into a repository, and says whether that was known before.
func (a *access) installation(ctx context.Context, repository store.Repository) (id int64, known bool, err error) {
	if err := store.ValidateRepository(repository); err != nil {
		return 0, false, err
	}
	a.mu.Lock()
	id, known = a.installations[strings.ToLower(repository.String())]
	a.mu.Unlock()
	if known {
		return id, true, nil
	}
	var answer struct {
		ID int64 `json:"id"`
	}
	if err := a.asApp(ctx, http.MethodGet, "repos/"+repository.String()+"/installation", nil, &answer); err != nil {
		return 0, false, notInstalled(err, repository)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.installations[strings.ToLower(repository.String())] = answer.ID
	return answer.ID, false, nil
}

func notInstalled(err error, repository store.Repository) error {
	var t *trouble
	if errors.As(err, &t) && t.status == http.StatusNotFound {
		t.message = "the App is not installed in " + repository.String()
	}
	return err
}

func (a *access) forgetInstallation(repository store.Repository) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.installations, strings.ToLower(repository.String()))
}

func isGone(err error) bool {
	var t *trouble
	return errors.As(err, &t) && (t.status == http.StatusNotFound || t.status == http.StatusUnauthorized)
}

// asApp makes one call in the App's own name.
func (a *access) asApp(ctx context.Context, method, path string, body, answer any) error {
	token, err := a.appToken()
	if err != nil {
		return err
	}
	return a.do(withToken(ctx, token), a.client("app"), method, path, body, answer)
}

// inRepository makes calls that are good for one thing in one repository. A token that is not taken any more is replaced once.
func (a *access) inRepository(ctx context.Context, repository store.Repository, what purpose,
	call func(ctx context.Context, client *gh.Client) error) error {
	if err := store.ValidateRepository(repository); err != nil {
		return err
	}
	for again := a.Kind == store.AccessApp; ; again = false {
		token, err := a.tokenFor(ctx, repository, what)
		if err != nil {
			return err
		}
		key := tokenKey(repository, what)
		err = a.classified(call(withToken(ctx, token), a.client(key)))
		var t *trouble
		if !again || !errors.As(err, &t) || t.status != http.StatusUnauthorized {
			return err
		}
		a.forget(key)
	}
}

// Remote says where an app's commits come from, with a token that may read that one repository; false when the app
// follows none. Without a connection it is what everyone may read.
func (g *GitHub) Remote(ctx context.Context, app store.App) (store.Remote, bool, error) {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return store.Remote{}, false, err
	}
	repository, follows := config.Shared().Repository()
	if !follows {
		return store.Remote{}, false, nil
	}
	if err := store.ValidateRepository(repository); err != nil {
		return store.Remote{}, false, err
	}
	a, err := g.access(ctx)
	if err != nil {
		return store.Remote{}, false, err
	}
	remote := store.Remote{URL: "https://github.com/" + repository.String() + ".git"}
	if a == nil {
		return remote, true, nil
	}
	token, err := a.tokenFor(ctx, repository, forFetch)
	if err != nil {
		return store.Remote{}, false, g.problem(err, "get a token to read "+repository.String())
	}
	remote.URL = a.WebURL + "/" + repository.String() + ".git"
	remote.Username, remote.Password = "x-access-token", token
	return remote, true, nil
}
