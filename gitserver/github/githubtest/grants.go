package githubtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// grant is what a token allows.
type grant struct {
	app          bool // the App itself
	installation bool
	permissions  map[string]string
	repositories []string // by name, of an installation's token
	expires      time.Time
}

func (g grant) may(permission, level string) bool {
	have := g.permissions[permission]
	return have == "write" || (have == "read" && level == "read")
}

func (g grant) sees(r *Repository) bool {
	return !g.installation || slices.ContainsFunc(g.repositories, func(name string) bool { return strings.EqualFold(name, r.Name) })
}

// App is what GitHub knows of the App.
type App struct {
	ID   int64
	Slug string
	key  *rsa.PrivateKey
}

// appKey is made once: it takes its time.
var appKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// AppAccess makes the App, unless it is there, and gives what it takes to connect as it.
func (f *Fake) AppAccess() (store.ForgeAccess, error) {
	key, err := appKey()
	if err != nil {
		return store.ForgeAccess{}, fmt.Errorf("make key of the App: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.app = App{ID: 4711, Slug: "shipgate-test", key: key}
	if f.hook.Secret == "" {
		f.hook.Secret = "It's a Secret to Everybody"
	}
	return store.ForgeAccess{
		Kind: store.AccessApp, APIURL: "http://" + f.address + apiPath, WebURL: "http://" + f.address, AppID: f.app.ID,
		PrivateKey: keyText(key), WebhookSecret: f.hook.Secret,
	}, nil
}

func keyText(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// TokenAccess makes a token of a user that allows the given "permission:level" in every repository.
func (f *Fake) TokenAccess(permissions ...string) store.ForgeAccess {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook.Secret == "" {
		f.hook.Secret = "It's a Secret to Everybody"
	}
	token := "github_pat_" + random(40)
	f.grants[token] = grant{permissions: permissionsOf(permissions), expires: time.Now().Add(24 * time.Hour)}
	return store.ForgeAccess{Kind: store.AccessToken, APIURL: "http://" + f.address + apiPath, Token: token, WebhookSecret: f.hook.Secret}
}

func permissionsOf(list []string) map[string]string {
	permissions := map[string]string{"metadata": "read"}
	for _, one := range list {
		name, level, _ := strings.Cut(one, ":")
		permissions[name] = level
	}
	return permissions
}

func random(bytes int) string {
	content := make([]byte, bytes)
	rand.Read(content)
	return hex.EncodeToString(content)
}

// RevokeTokens makes all tokens of installations worth nothing, as a new installation does.
func (f *Fake) RevokeTokens() {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.grants, func(_ string, g grant) bool { return g.installation })
}

// Tokens are all that were ever handed out and are still good.
func (f *Fake) Tokens() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.grants))
}

// grantOf finds what the credentials of a request to the API allow.
func (f *Fake) grantOf(r *http.Request) (grant, bool) {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if kind != "Bearer" && kind != "token" {
		return grant{}, false
	}
	return f.grantOfToken(token)
}

func (f *Fake) grantOfToken(token string) (grant, bool) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if g, ok := f.grants[token]; ok {
		return g, now.Before(g.expires)
	}
	return grant{app: true}, f.app.key != nil && f.app.signed(token, now)
}

// signed says whether a JWT (RFC 7519, RS256) is the App's own and valid now, for ten minutes at most.
func (a App) signed(token string, now time.Time) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(&a.key.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return false
	}
	var header struct{ Alg string }
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	for i, into := range []any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return false
		}
	}
	return header.Alg == "RS256" && claims.Iss == fmt.Sprint(a.ID) && claims.Iat <= now.Unix() && claims.Exp > now.Unix() &&
		claims.Exp <= now.Add(10*time.Minute).Unix()
}

// SetTokenLife says how long tokens of installations are good that are handed out from now on.
func (f *Fake) SetTokenLife(life time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life = life
}

func (f *Fake) tokenLife() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life == 0 {
		return time.Hour
	}
	return f.life
}
