package store

import "time"

// ForgeAccess is what it takes to speak to GitHub in the server's name: an App or a token. It is only kept sealed.
type ForgeAccess struct {
	Kind          string    `json:"kind"`    // app or token
	APIURL        string    `json:"api_url"` // https://api.github.com; another one for GitHub Enterprise
	WebURL        string    `json:"web_url"` // https://github.com; where its pages and its git are
	AppID         int64     `json:"app_id,omitempty"`
	AppSlug       string    `json:"app_slug,omitempty"`
	PrivateKey    string    `json:"private_key,omitempty"` // PEM
	Token         string    `json:"token,omitempty"`
	WebhookSecret string    `json:"webhook_secret"`
	ConnectedAt   time.Time `json:"connected_at"`
}

// The kinds of access.
const (
	AccessApp   = "app"
	AccessToken = "token"
)

// ForgeConnection is what may be shown of a ForgeAccess.
type ForgeConnection struct {
	Kind          string    `json:"kind"`
	APIURL        string    `json:"api_url"`
	WebURL        string    `json:"web_url"`
	AppID         int64     `json:"app_id,omitempty"`
	AppSlug       string    `json:"app_slug,omitempty"`
	InstallURL    string    `json:"install_url,omitempty"`    // of an App: where it is let into repositories
	WebhookURL    string    `json:"webhook_url"`              // where GitHub is to send its deliveries
	WebhookSecret string    `json:"webhook_secret,omitempty"` // only right after it was made up here, to be typed in at GitHub
	ConnectedAt   time.Time `json:"connected_at"`
}

// ForgeSetup is the form by which a browser asks GitHub to make an App from a manifest.
type ForgeSetup struct {
	Action   string // where the form goes
	Manifest string // the JSON it carries in its field "manifest"
}
