package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
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

	Status store.AppStatus `json:"status"`
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
	if err != nil {
		return out, err
	}
	if found {
		out.Live = &live
	}
	out.Status, err = s.statusOf(ctx, app.Name)
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
	URL string `json:"url"`
	outcomeJSON
	Events []store.Event `json:"events,omitempty"` // only where one deployment is asked for: its steps and its last lines
}

// outcomeJSON is what came of a deployment so far, where one is asked for.
type outcomeJSON struct {
	LogURL          string      `json:"log_url,omitempty"`          // its page; with the key where the app shows its logs to everybody
	ImageDigest     string      `json:"image_digest,omitempty"`     // what the reference of an image meant, or the id of the image that was built
	PreviousRelease int64       `json:"previous_release,omitempty"` // what served before
	DurationMS      int64       `json:"duration_ms,omitempty"`      // from the request to the verdict
	CutoverMS       int64       `json:"cutover_ms,omitempty"`       // from healthy to live
	Steps           []stageJSON `json:"steps,omitempty"`            // what was done, in order, and how long it took
}

type stageJSON struct {
	Name   string `json:"name"`
	TookMS int64  `json:"took_ms"`
}

func (s *server) deploymentJSON(ctx context.Context, d store.Deployment) (deploymentJSON, error) {
	app, err := s.Store.App(ctx, d.App)
	if err != nil {
		return deploymentJSON{}, err
	}
	outcome, err := s.outcomeJSON(ctx, app, d)
	return deploymentJSON{Deployment: d, URL: s.urlOf(app), outcomeJSON: outcome}, err
}

func (s *server) outcomeJSON(ctx context.Context, app store.App, d store.Deployment) (out outcomeJSON, err error) {
	out.LogURL = s.logURL(app, d)
	if d.Release != 0 {
		release, err := s.Store.Release(ctx, d.Release)
		if err != nil {
			return out, err
		}
		if out.ImageDigest = release.Artefact.Digest; out.ImageDigest == "" && strings.HasPrefix(release.Artefact.Image, "sha256:") {
			out.ImageDigest = release.Artefact.Image
		}
	}
	if d.PreviousLive != 0 {
		previous, err := s.Store.Deployment(ctx, d.PreviousLive)
		if err != nil {
			return out, err
		}
		out.PreviousRelease = previous.Release
	}
	times, err := s.Store.StepTimes(ctx, d.ID)
	if err != nil {
		return out, err
	}
	out.measure(d, times)
	return out, nil
}

// measure leaves out what was not reached.
func (o *outcomeJSON) measure(d store.Deployment, times map[store.Step]time.Time) {
	if d.Verdict != "" {
		o.DurationMS = d.FinishedAt.Sub(d.CreatedAt).Milliseconds()
	}
	if healthy, live := times[store.StepHealthy], times[store.StepLive]; !healthy.IsZero() && !live.IsZero() {
		o.CutoverMS = live.Sub(healthy).Milliseconds()
	}
	for _, one := range picture(d, times, time.Now()) {
		if one.State != "pending" && one.State != "current" {
			o.Steps = append(o.Steps, stageJSON{one.Name, one.to.Sub(one.from).Milliseconds()})
		}
	}
}

// logURL is where a deployment's page is; it opens to every reader where the app shows its logs to the public.
func (s *server) logURL(app store.App, d store.Deployment) string {
	page := s.BaseURL() + "/deployments/" + strconv.FormatInt(d.ID, 10)
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err == nil && config.Shared().PublicLogs {
		page += "?key=" + s.Store.PageKey(d.ID)
	}
	return page
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
