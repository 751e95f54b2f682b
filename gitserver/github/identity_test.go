package github

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/shipgate/shipgate/store"
)

const ourAddress = "https://deploy.example.com"

// issuer signs identity tokens as a forge does, and serves its keys.
type issuer struct {
	t    *testing.T
	url  string
	key  *rsa.PrivateKey
	asks atomic.Int32 // how often it was asked for anything
	down atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, key: newKey(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url, "jwks_uri": i.url + "/.well-known/jwks", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /.well-known/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.jwks()) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asks.Add(1)
		if i.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *issuer) jwks() []byte {
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		i.t.Fatal(err)
	}
	return set
}

// claims are those of a good token.
func (i *issuer) claims() map[string]any {
	return map[string]any{
		"iss": i.url, "aud": ourAddress, "jti": "number 1", "sub": "repo:anything@1/at-all:ref:x", "exp": time.Now().Add(5 * time.Minute).Unix(),
		"nbf": time.Now().Add(-time.Minute).Unix(), "iat": time.Now().Unix(), "repository": "acme/web", "repository_id": "11", "repository_owner_id": "22",
		"ref": "refs/heads/main", "environment": "production", "event_name": "push", "run_id": "7", "job_workflow_ref": "acme/web/.github/workflows/x.yml@refs/heads/main",
	}
}

func identityToken(t *testing.T, algorithm jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := object.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (i *issuer) identities(keysFile string) *Identities {
	i.t.Helper()
	identities, err := NewIdentities(IdentityOptions{Issuers: []string{i.url}, Audience: func() string { return ourAddress }, KeysFile: keysFile})
	if err != nil {
		i.t.Fatal(err)
	}
	return identities
}

func TestIdentity(t *testing.T) {
	i := newIssuer(t)
	for name, change := range map[string]func(map[string]any){
		"as it is":                 func(map[string]any) {},
		"a list of one audience":   func(c map[string]any) { c["aud"] = []string{ourAddress} },
		"expired a moment ago":     func(c map[string]any) { c["exp"] = time.Now().Add(-10 * time.Second).Unix() },
		"no time that it is valid": func(c map[string]any) { delete(c, "nbf") },
	} {
		claims := i.claims()
		change(claims)
		got, err := i.identities("").Verify(t.Context(), identityToken(t, jose.RS256, i.key, "one", claims))
		want := store.Identity{Issuer: i.url, Number: "number 1", Repository: "acme/web", RepositoryID: "11", OwnerID: "22", Ref: "refs/heads/main",
			Environment: "production", Event: "push", Workflow: "acme/web/.github/workflows/x.yml@refs/heads/main", RunID: "7", ExpiresAt: got.ExpiresAt}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestIdentityIsRefused(t *testing.T) {
	i := newIssuer(t)
	set := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	for name, test := range map[string]struct {
		change func(map[string]any)
		token  func(claims map[string]any) string
		says   string
		asks   bool // only a token whose claims are right makes us ask the issuer
	}{
		"another issuer":         {change: set("iss", "https://evil.example.com"), says: "the issuer is not trusted"},
		"the default audience":   {change: set("aud", "https://github.com/acme"), says: "another audience"},
		"two audiences":          {change: set("aud", []string{ourAddress, "https://other.example.com"}), says: "another audience"},
		"no audience":            {change: set("aud", nil), says: "another audience"},
		"an empty audience":      {change: set("aud", ""), says: "another audience"},
		"expired":                {change: set("exp", time.Now().Add(-time.Minute).Unix()), says: "has expired"},
		"never expires":          {change: set("exp", nil), says: "has expired"},
		"not valid yet":          {change: set("nbf", time.Now().Add(time.Minute).Unix()), says: "not valid yet"},
		"no number":              {change: set("jti", ""), says: "no number"},
		"no repository":          {change: set("repository_id", ""), says: "which repository"},
		"no owner":               {change: set("repository_owner_id", ""), says: "which repository"},
		"a repository as number": {change: set("repository_id", 11), says: "cannot be read"},
		"another key":            {token: func(c map[string]any) string { return identityToken(t, jose.RS256, newKey(t), "one", c) }, says: "not the issuer's", asks: true},
		"an unknown key":         {token: func(c map[string]any) string { return identityToken(t, jose.RS256, newKey(t), "two", c) }, says: "not the issuer's", asks: true},
		"a shared secret": {token: func(c map[string]any) string {
			return identityToken(t, jose.HS256, []byte(strings.Repeat("k", 32)), "one", c)
		}, says: "cannot be read", asks: true},
		"another algorithm": {token: func(c map[string]any) string { return identityToken(t, jose.PS256, i.key, "one", c) }, says: "cannot be read", asks: true},
		"no signature": {token: func(c map[string]any) string {
			payload, _ := json.Marshal(c)
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
		}, says: "cannot be read", asks: true},
		"changed claims": {token: func(c map[string]any) string {
			parts := strings.Split(identityToken(t, jose.RS256, i.key, "one", c), ".")
			c["ref"] = "refs/heads/other"
			payload, _ := json.Marshal(c)
			return parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload) + "." + parts[2]
		}, says: "not the issuer's", asks: true},
		"nothing":   {token: func(map[string]any) string { return "" }, says: "three parts"},
		"no base64": {token: func(map[string]any) string { return "a.!.c" }, says: "base64url"},
		"too long":  {token: func(map[string]any) string { return strings.Repeat("a", longestIdentity+1) }, says: "too long"},
	} {
		claims := i.claims()
		if test.change != nil {
			test.change(claims)
		}
		token := ""
		if test.token != nil {
			token = test.token(claims)
		} else {
			token = identityToken(t, jose.RS256, i.key, "one", claims)
		}
		before := i.asks.Load()
		got, err := i.identities("").Verify(t.Context(), token)
		if err == nil || !strings.Contains(err.Error(), test.says) || got != (store.Identity{}) {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, test.says)
		}
		if asked := i.asks.Load() > before; asked != test.asks {
			t.Errorf("%s: the issuer was asked: %t", name, asked)
		}
	}
}

// Pinned keys need no issuer, and one that is down is said so.
func TestIdentityWithPinnedKeys(t *testing.T) {
	i := newIssuer(t)
	i.down.Store(true)
	token := identityToken(t, jose.RS256, i.key, "one", i.claims())
	if _, err := i.identities("").Verify(t.Context(), token); err == nil || !strings.Contains(err.Error(), "cannot be asked") {
		t.Errorf("an issuer that is down: %v", err)
	}
	before := i.asks.Load()
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, i.jwks(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := i.identities(file).Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	other := identityToken(t, jose.RS256, newKey(t), "one", i.claims())
	if _, err := i.identities(file).Verify(t.Context(), other); err == nil {
		t.Error("a token of another key was taken")
	}
	if i.asks.Load() != before {
		t.Error("the issuer was asked")
	}
	for content, wrong := range map[string]bool{"{}": true, "no json": true, `{"keys":[]}`: true} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewIdentities(IdentityOptions{KeysFile: file}); (store.CodeOf(err) == store.CodeUsage) != wrong {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := NewIdentities(IdentityOptions{KeysFile: file, Issuers: []string{i.url, "https://other.example.com"}}); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("one file for two issuers: %v", err)
	}
	if _, err := NewIdentities(IdentityOptions{KeysFile: file + ".missing"}); err == nil {
		t.Error("a missing file was taken")
	}
}

// The keys are asked for once, and again when the issuer has new ones.
func TestIdentityOfNewKeys(t *testing.T) {
	i := newIssuer(t)
	identities := i.identities("")
	for range 3 {
		if _, err := identities.Verify(t.Context(), identityToken(t, jose.RS256, i.key, "one", i.claims())); err != nil {
			t.Fatal(err)
		}
	}
	if asks := i.asks.Load(); asks != 2 {
		t.Errorf("asked %d times", asks)
	}
	i.key = newKey(t)
	if _, err := identities.Verify(t.Context(), identityToken(t, jose.RS256, i.key, "one", i.claims())); err != nil {
		t.Error(err)
	}
}

// An issuer that is away is no fault of the identity: another try may fare better.
func TestIdentityWhileTheIssuerIsAway(t *testing.T) {
	i := newIssuer(t)
	good := identityToken(t, jose.RS256, i.key, "one", i.claims())
	identities := i.identities("")
	away := func(when string) {
		t.Helper()
		if _, err := identities.Verify(t.Context(), identityToken(t, jose.RS256, newKey(t), "two", i.claims())); store.CodeOf(err) != store.CodeUnreachable {
			t.Errorf("%s: %v", when, err)
		}
	}
	i.down.Store(true)
	away("before its keys are known")
	i.down.Store(false)
	if _, err := identities.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
	i.down.Store(true)
	away("with a key that is not known")
	if _, err := identities.Verify(t.Context(), good); err != nil {
		t.Errorf("with a key that is known: %v", err)
	}
	i.down.Store(false)
	if _, err := identities.Verify(t.Context(), identityToken(t, jose.RS256, newKey(t), "one", i.claims())); err == nil {
		t.Error("another key was taken")
	} else if _, problem := store.AsProblem(err); problem {
		t.Errorf("another key: %v", err)
	}
}

// FuzzIdentity: whatever a stranger sends is refused without asking anybody.
func FuzzIdentity(f *testing.F) {
	identities, err := NewIdentities(IdentityOptions{Audience: func() string { return ourAddress }, Client: &http.Client{Transport: noTransport{}}})
	if err != nil {
		f.Fatal(err)
	}
	claims := `{"iss":"` + store.GitHubIssuer + `","aud":"` + ourAddress + `","jti":"1","exp":4102444800,"repository_id":"1","repository_owner_id":"2"}`
	f.Add("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		identity, err := identities.Verify(t.Context(), token)
		if err == nil || identity != (store.Identity{}) {
			t.Errorf("%q: %+v, %v", token, identity, err)
		}
	})
}

// noTransport is a network where nobody answers.
type noTransport struct{}

func (noTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }

// encoding/json alone would take a claim in other letters, and the last of several.
func TestNamesOfClaimsMatchExactly(t *testing.T) {
	got, err := decodeClaims([]byte(`{"repository_id":"1","Repository_ID":"2","REF":"refs/heads/main","iſs":"x","iss":"a"}`))
	if err != nil || got.RepositoryID != "1" || got.Ref != "" || got.Issuer != "a" {
		t.Errorf("claims %+v, %v", got, err)
	}
}
