package github

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	secretName  = "github" // of the ForgeAccess in the store
	publicAPI   = "https://api.github.com"
	webhookPath = "/webhooks/github"
	retryWindow = 24 * time.Hour // for how long GitHub is told what it would not or could not hear
)

// holder keeps the access in use, once it was read from the store.
type holder struct {
	mu      sync.Mutex
	read    bool
	ever    bool // there was one before, if there is none now
	current *access
}

// access gives what is to be used now; nil when nothing is connected.
func (g *GitHub) access(ctx context.Context) (*access, error) {
	a, _, err := g.accessNow(ctx)
	return a, err
}

// accessNow says as well whether GitHub was ever connected.
func (g *GitHub) accessNow(ctx context.Context) (a *access, ever bool, err error) {
	h := &g.held
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.read {
		return h.current, h.ever, nil
	}
	var kept store.ForgeAccess
	found, err := g.Store.Secret(ctx, secretName, &kept)
	if err != nil {
		return nil, false, fmt.Errorf("read access to GitHub: %w", err)
	}
	if found && kept.Kind != "" {
		if a, err = g.prepare(kept); err != nil {
			return nil, false, fmt.Errorf("use access to GitHub: %w", err)
		}
	}
	h.read, h.ever, h.current = true, found, a
	return a, found, nil
}

func (h *holder) set(a *access) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read, h.ever, h.current = true, true, a
}

// Connect checks an access at GitHub, keeps it and uses it from then on. What was refused in the last 24 hours is posted
// once more. A webhook secret that is made up here is given this once.
func (g *GitHub) Connect(ctx context.Context, asked store.ForgeAccess) (store.ForgeConnection, error) {
	madeUp := strings.TrimSpace(asked.WebhookSecret) == ""
	if madeUp {
		random := make([]byte, 32)
		rand.Read(random)
		asked.WebhookSecret = hex.EncodeToString(random)
	}
	a, err := g.prepare(asked)
	if err != nil {
		return store.ForgeConnection{}, err
	}
	slug, _, err := a.whoAmI(ctx)
	if err != nil {
		return store.ForgeConnection{}, g.problem(err, "check the credentials at GitHub")
	}
	a.AppSlug = slug
	if err := g.keep(ctx, a); err != nil {
		return store.ForgeConnection{}, err
	}
	connection := g.connection(a)
	if madeUp {
		connection.WebhookSecret = a.WebhookSecret
	}
	return connection, nil
}

func (g *GitHub) keep(ctx context.Context, a *access) error {
	a.ConnectedAt = g.now().UTC().Truncate(time.Second)
	if err := g.Store.SetSecret(ctx, secretName, a.ForgeAccess); err != nil {
		return fmt.Errorf("keep access to GitHub: %w", err)
	}
	g.held.set(a)
	select {
	case g.connected <- struct{}{}:
	default: // whoever waits for it is awake already
	}
	return g.Store.RetryRefusedPosts(ctx, g.now().Add(-retryWindow))
}

// Connection says what is connected, without anything secret; false when nothing is.
func (g *GitHub) Connection(ctx context.Context) (store.ForgeConnection, bool, error) {
	a, err := g.access(ctx)
	if err != nil || a == nil {
		return store.ForgeConnection{}, false, err
	}
	return g.connection(a), true, nil
}

// Disconnect forgets the access. What is to be told to GitHub waits for the next one, for 24 hours.
func (g *GitHub) Disconnect(ctx context.Context) error {
	if err := g.Store.SetSecret(ctx, secretName, store.ForgeAccess{ConnectedAt: g.now().UTC()}); err != nil {
		return fmt.Errorf("forget access to GitHub: %w", err)
	}
	g.held.set(nil)
	return nil
}

func (g *GitHub) connection(a *access) store.ForgeConnection {
	c := store.ForgeConnection{
		Kind: a.Kind, APIURL: a.APIURL, WebURL: a.WebURL, AppID: a.AppID, AppSlug: a.AppSlug,
		WebhookURL: g.base + webhookPath, ConnectedAt: a.ConnectedAt,
	}
	if a.AppSlug != "" {
		c.InstallURL = a.WebURL + appsPath(a.WebURL) + a.AppSlug + "/installations/new"
	}
	return c
}

// appsPath is where the pages of Apps are: an Enterprise Server has them elsewhere than github.com and its tenants.
func appsPath(webURL string) string {
	if strings.HasSuffix(webURL, "://github.com") || strings.HasSuffix(webURL, ".ghe.com") {
		return "/apps/"
	}
	return "/github-apps/"
}

// prepare checks an access as far as that goes without GitHub, and hides all of it that is secret.
func (g *GitHub) prepare(kept store.ForgeAccess) (*access, error) {
	kept.Token, kept.WebhookSecret = strings.TrimSpace(kept.Token), strings.TrimSpace(kept.WebhookSecret)
	g.Store.Hide(kept.Token, kept.WebhookSecret, kept.PrivateKey)
	var err error
	if kept.APIURL, kept.WebURL, err = addresses(kept.APIURL, kept.WebURL); err != nil {
		return nil, err
	}
	if len(kept.WebhookSecret) < 8 {
		return nil, store.Problemf(store.CodeUsage, "the webhook secret is shorter than 8 characters").
			WithHint("leave it out, and one is made up: shipgate github connect")
	}
	a := g.newAccess(kept)
	switch kept.Kind {
	case store.AccessApp:
		if kept.AppID <= 0 {
			return nil, store.Problemf(store.CodeUsage, "the id of the GitHub App is missing").
				WithHint("it is on the App's page at GitHub, as App ID")
		}
		if a.key, err = parseKey(kept.PrivateKey); err != nil {
			return nil, err
		}
	case store.AccessToken:
		if kept.Token == "" || strings.ContainsAny(kept.Token, " \t\r\n") {
			return nil, store.Problemf(store.CodeUsage, "the token is blank, or more than one word").
				WithHint("make one that may read contents and write statuses: %s/settings/personal-access-tokens/new", kept.WebURL)
		}
	default:
		return nil, store.Problemf(store.CodeUsage, "access of kind %.20q is unknown", kept.Kind).
			WithHint("connect with an App or with a token: shipgate github connect --help")
	}
	return a, nil
}

// addresses fills in where GitHub is: its API, and its pages and its git.
func addresses(apiURL, webURL string) (api, web string, err error) {
	if apiURL = strings.TrimRight(strings.TrimSpace(apiURL), "/"); apiURL == "" {
		apiURL = publicAPI
	}
	parsed, err := validateAddress(apiURL)
	if err != nil {
		return "", "", err
	}
	if webURL = strings.TrimRight(strings.TrimSpace(webURL), "/"); webURL == "" {
		host := parsed.Host
		if parsed.Path == "" {
			host = strings.TrimPrefix(host, "api.")
		}
		webURL = parsed.Scheme + "://" + host
	}
	_, err = validateAddress(webURL)
	return apiURL, webURL, err
}

// validateAddress lets credentials go only where nobody can listen.
func validateAddress(address string) (*url.URL, error) {
	parsed, err := url.Parse(address)
	sound := err == nil && parsed.Host != "" && parsed.User == nil && parsed.RawQuery == "" && parsed.Fragment == ""
	if !sound || (parsed.Scheme != "https" && !(parsed.Scheme == "http" && isLoopback(parsed.Hostname()))) {
		return nil, store.Problemf(store.CodeUsage, "%.200q is not the address of a GitHub: it has to begin with https://", address).
			WithHint("an Enterprise Server has its API at https://HOST/api/v3")
	}
	return parsed, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || (ip != nil && ip.IsLoopback())
}
