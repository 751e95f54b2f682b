package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// testIssuer signs identity tokens and serves its keys as a forge does, and gives jobs their tokens as a runner does.
type testIssuer struct {
	*httptest.Server
	bearer string // the runner's secret
	key    *rsa.PrivateKey
	tokens atomic.Int64

	mu     sync.Mutex
	claims map[string]string // what differs from a good token's
}

func newTestIssuer() (*testIssuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	i := &testIssuer{bearer: rand.Text(), key: key, claims: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /token", i.token)
	i.Server = httptest.NewServer(mux)
	return i, nil
}

// sign gives the token of a job on main, but for what is said here; nil leaves a claim out.
func (i *testIssuer) sign(differs map[string]any) (string, error) {
	return i.signWith(i.key, "one", differs)
}

func (i *testIssuer) signWith(key *rsa.PrivateKey, id string, differs map[string]any) (string, error) {
	claims := map[string]any{
		"iss": i.URL, "jti": fmt.Sprint(i.tokens.Add(1)), "exp": time.Now().Add(5 * time.Minute).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(),
		"sub": "repo:acme@22/web@11:ref:refs/heads/main", "repository": "acme/web", "repository_id": "11", "repository_owner_id": "22",
		"ref": "refs/heads/main", "event_name": "push", "run_id": "1",
	}
	maps.Copy(claims, differs)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// token is what a runner gives a job that may have an identity.
func (i *testIssuer) token(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+i.bearer || r.URL.Query().Get("api") != "2" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	differs := map[string]any{"aud": r.URL.Query().Get("audience")}
	i.mu.Lock()
	for name, value := range i.claims {
		differs[name] = value
	}
	i.mu.Unlock()
	token, err := i.sign(differs)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"value": token})
}
