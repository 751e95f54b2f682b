package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// appJSON is an app as the API shows it.
type appJSON struct {
	Name      string          `json:"name"`
	Source    store.Source    `json:"source"`
	Hosts     []string        `json:"hosts"`
	URL       string          `json:"url"`
	Strategy  store.Strategy  `json:"strategy"` // the one that will run
	Config    json.RawMessage `json:"config"`
	Live      *store.Live     `json:"live"` // null before the first success
	CreatedAt time.Time       `json:"created_at"`
}

func (s *server) appJSON(ctx context.Context, app store.App) (appJSON, error) {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return appJSON{}, err
	}
	out := appJSON{
		Name: app.Name, Source: app.Source, Hosts: app.Hosts, Strategy: store.PlanOf(config).Strategy,
		Config: app.Config, CreatedAt: app.CreatedAt, URL: s.urlOf(app),
	}
	live, found, err := s.Store.Live(ctx, app.Name)
	if found {
		out.Live = &live
	}
	return out, err
}

func (s *server) urlOf(app store.App) string {
	if len(app.Hosts) == 0 {
		return ""
	}
	return s.URL(app.Hosts[0])
}

// deploymentJSON is a deployment as the API shows it.
type deploymentJSON struct {
	store.Deployment
	URL    string        `json:"url"`
	Digest string        `json:"digest,omitempty"` // source image: what the reference meant; only where one deployment is asked for
	Events []store.Event `json:"events,omitempty"` // only where one deployment is asked for: its steps and its last lines
}

func (s *server) deploymentJSON(ctx context.Context, d store.Deployment) (deploymentJSON, error) {
	app, err := s.Store.App(ctx, d.App)
	if err != nil {
		return deploymentJSON{}, err
	}
	shown := deploymentJSON{Deployment: d, URL: s.urlOf(app)}
	if d.Release != 0 {
		release, err := s.Store.Release(ctx, d.Release)
		if err != nil {
			return deploymentJSON{}, err
		}
		shown.Digest = release.Artefact.Digest
	}
	return shown, nil
}

// decode reads the one JSON value of a body; unknown fields are errors. An empty body says nothing, which is allowed.
func decode(c echo.Context, into any) error {
	decoder := json.NewDecoder(c.Request().Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	if tooLarge := (*echo.HTTPError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	if err == nil {
		return store.Problemf(store.CodeUsage, "the request has more than one JSON value")
	}
	return store.Problemf(store.CodeUsage, "the request cannot be read: %w", err)
}
