package github

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/shipgate/shipgate/store"
)

const longestAppName = 34 // characters that GitHub takes

var (
	accountName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	manifestCode = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
)

// manifest describes an App that is to be made, in GitHub's own terms: https://docs.github.com/apps, "Registering a GitHub App
// from a manifest".
type manifest struct {
	Name               string            `json:"name"`
	URL                string            `json:"url"`
	HookAttributes     hookAttributes    `json:"hook_attributes"`
	RedirectURL        string            `json:"redirect_url"`
	Public             bool              `json:"public"`
	DefaultPermissions map[string]string `json:"default_permissions"`
	DefaultEvents      []string          `json:"default_events"`
}

type hookAttributes struct {
	URL    string `json:"url"`
	Active bool   `json:"active"`
}

// Manifest gives the form by which a browser has GitHub make an App for this server, owned by an organization or, without
// one, by whoever is signed in there. The state comes back with the code for CompleteSetup.
func (g *GitHub) Manifest(_ context.Context, account, apiURL, state string) (store.ForgeSetup, error) {
	_, web, err := addresses(apiURL, "")
	if err != nil {
		return store.ForgeSetup{}, err
	}
	page := web + "/settings/apps/new"
	if account != "" {
		if !accountName.MatchString(account) {
			return store.ForgeSetup{}, store.Problemf(store.CodeUsage, "%.60q is not the name of an organization", account).
				WithHint("shipgate github connect --organization NAME")
		}
		page = web + "/organizations/" + account + "/settings/apps/new"
	}
	text, err := json.Marshal(manifest{
		Name: oneLine("shipgate-"+g.Store.ServerID(), longestAppName-1), URL: g.base, RedirectURL: g.base + "/setup/github",
		HookAttributes:     hookAttributes{URL: g.base + webhookPath, Active: true},
		DefaultPermissions: map[string]string{"contents": "read", "statuses": "write", "deployments": "write", "metadata": "read"},
		DefaultEvents:      []string{"push", "repository"},
	})
	if err != nil {
		return store.ForgeSetup{}, fmt.Errorf("encode manifest: %w", err)
	}
	return store.ForgeSetup{Action: page + "?state=" + url.QueryEscape(state), Manifest: string(text)}, nil
}

// CompleteSetup trades the code that GitHub sent along for the new App's id, key and webhook secret, and connects with them.
// A code is good once, for an hour.
func (g *GitHub) CompleteSetup(ctx context.Context, apiURL, code string) (store.ForgeConnection, error) {
	if !manifestCode.MatchString(code) {
		return store.ForgeConnection{}, store.Problemf(store.CodeUsage, "this is not a code that GitHub gives").WithHint("shipgate github connect")
	}
	g.Store.Hide(code)
	api, web, err := addresses(apiURL, "")
	if err != nil {
		return store.ForgeConnection{}, err
	}
	var made struct {
		ID            int64  `json:"id"`
		Slug          string `json:"slug"`
		PEM           string `json:"pem"`
		WebhookSecret string `json:"webhook_secret"`
		ClientSecret  string `json:"client_secret"`
	}
	a := g.newAccess(store.ForgeAccess{APIURL: api})
	if err := a.do(ctx, a.client("setup"), http.MethodPost, "app-manifests/"+code+"/conversions", nil, &made); err != nil {
		return store.ForgeConnection{}, g.problem(err, "complete the setup at GitHub")
	}
	g.Store.Hide(made.ClientSecret)
	return g.Connect(ctx, store.ForgeAccess{
		Kind: store.AccessApp, APIURL: api, WebURL: web, AppID: made.ID, PrivateKey: made.PEM, WebhookSecret: made.WebhookSecret,
	})
}
