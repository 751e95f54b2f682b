package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

func (s *server) listApps(c echo.Context) error {
	ctx := c.Request().Context()
	apps, err := s.Store.Apps(ctx)
	if err != nil {
		return err
	}
	token := c.Get(tokenKey).(store.Token)
	shown := []appJSON{}
	for _, app := range apps {
		if !token.May(store.RightRead, app.Name) {
			continue
		}
		one, err := s.appJSON(ctx, app)
		if err != nil {
			return err
		}
		shown = append(shown, one)
	}
	return c.JSON(http.StatusOK, shown)
}

// newApp is what can be said of an app that is to be made.
type newApp struct {
	Name   string          `json:"name"`
	Source store.Source    `json:"source"`
	Hosts  []string        `json:"hosts"`
	Config json.RawMessage `json:"config"`
}

// appChange is what can change of an app. What is absent stays.
type appChange struct {
	Hosts  *[]string       `json:"hosts"`
	Config json.RawMessage `json:"config"` // a JSON Merge Patch (RFC 7396)
}

func (s *server) createApp(c echo.Context) error {
	var request newApp
	if err := decode(c, &request); err != nil {
		return err
	}
	app := store.App{Name: request.Name, Source: request.Source, Hosts: request.Hosts, Config: request.Config}
	c.Set(appKey, request.Name)
	created, err := s.Store.CreateApp(c.Request().Context(), app)
	if err != nil {
		return err
	}
	return s.answerApp(c, http.StatusCreated, created)
}

func (s *server) answerApp(c echo.Context, status int, app store.App) error {
	shown, err := s.appJSON(c.Request().Context(), app)
	if err != nil {
		return err
	}
	return c.JSON(status, shown)
}

func (s *server) showApp(c echo.Context) error {
	app, err := s.Store.App(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	return s.answerApp(c, http.StatusOK, app)
}

// updateApp replaces the fields of the config that the request names, and the hosts if it names any.
func (s *server) updateApp(c echo.Context) error {
	ctx := c.Request().Context()
	var request appChange
	if err := decode(c, &request); err != nil {
		return err
	}
	app, err := s.Store.App(ctx, c.Param("app"))
	if err != nil {
		return err
	}
	before := app.Config
	if request.Hosts != nil {
		app.Hosts = *request.Hosts
	}
	if app.Config, err = mergeConfig(app.Config, request.Config); err != nil {
		return err
	}
	changed := changedFields(before, app, request.Hosts != nil)
	noteDetail(c, "%s", strings.Join(changed, ", "))
	if err := mayWiden(c.Get(tokenKey).(store.Token), app, before); err != nil {
		return err
	}
	updated, err := s.Store.UpdateApp(ctx, app)
	if err != nil {
		return err
	}
	if request.Hosts != nil { // also when they stay: the route may not have followed the last time
		if err := s.Runner.Reroute(ctx, app.Name); err != nil {
			return fmt.Errorf("move route to new hosts: %w", err)
		}
	}
	if mentions(request.Config, "allow_from") { // also when it stays, as above
		if err := s.Runner.SetCallers(ctx); err != nil {
			return err
		}
	}
	return s.answerApp(c, http.StatusOK, updated)
}

// mentions reports whether a change of a config names a field.
func mentions(change json.RawMessage, field string) bool {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(change, &fields) // a change was merged before, so it is an object, or empty
	_, named := fields[field]
	return named
}

// mayWiden refuses what only an admin of the whole server may change of an app.
func mayWiden(token store.Token, app store.App, before json.RawMessage) error {
	if token.May(store.RightAdmin, "") {
		return nil
	}
	fields, err := store.OperatorOnly(app.Source, before, app.Config)
	if err != nil || len(fields) == 0 {
		return err
	}
	problem := store.Problemf(store.CodeUnauthorised, "%s: only an admin of the whole server sets trusted, and raises or removes limits", strings.Join(fields, ", "))
	return errors.Join(problem.WithHint("ask who runs the server, or use a token with admin for all apps"), errForbidden)
}

// changedFields names the fields of an app that a change touches.
func changedFields(before json.RawMessage, app store.App, hosts bool) []string {
	var was, is map[string]json.RawMessage
	if errors.Join(json.Unmarshal(before, &was), json.Unmarshal(app.Config, &is)) != nil {
		return nil
	}
	names := []string{}
	if hosts {
		names = append(names, "hosts")
	}
	union := maps.Clone(was)
	maps.Copy(union, is)
	for _, name := range slices.Sorted(maps.Keys(union)) {
		if !bytes.Equal(was[name], is[name]) {
			names = append(names, name)
		}
	}
	return names
}

// mergeConfig lays a JSON Merge Patch (RFC 7396) over a config.
func mergeConfig(config, change json.RawMessage) (json.RawMessage, error) {
	if len(change) == 0 {
		return config, nil
	}
	var fields, changes map[string]any
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, fmt.Errorf("read stored config: %w", err)
	}
	if err := json.Unmarshal(change, &changes); err != nil {
		return nil, store.Problemf(store.CodeUsage, "config is not a JSON object: %w", err)
	}
	return json.Marshal(mergePatch(fields, changes))
}

// mergePatch goes down into objects that both sides have; null takes a field away.
func mergePatch(target, patch map[string]any) map[string]any {
	merged := maps.Clone(target)
	if merged == nil {
		merged = map[string]any{}
	}
	for name, value := range patch {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(merged, name)
		case isObject:
			before, _ := merged[name].(map[string]any)
			merged[name] = mergePatch(before, inner)
		default:
			merged[name] = value
		}
	}
	return merged
}

func (s *server) destroyApp(c echo.Context) error {
	ctx, name := c.Request().Context(), c.Param("app")
	if _, err := s.Store.App(ctx, name); err != nil {
		return err
	}
	if c.QueryParam("with_data") == "true" {
		noteDetail(c, "with its data")
	}
	if err := s.Runner.Destroy(ctx, name); err != nil {
		return err
	}
	if err := s.Repositories.Destroy(ctx, name); err != nil {
		return err
	}
	if err := s.Destroyed(ctx, name, c.QueryParam("with_data") == "true"); err != nil {
		return err
	}
	if err := s.Store.DestroyApp(ctx, name); err != nil {
		return err
	}
	if err := s.Runner.SetCallers(ctx); err != nil { // a later app of the same name allows nothing of what this one did
		s.Logger.Error("take back who may call apps", "app", name, "error", err)
	}
	if left := s.volumesLeft(ctx, name); len(left) > 0 {
		return c.JSON(http.StatusOK, map[string][]string{"volumes_left": left})
	}
	return c.NoContent(http.StatusNoContent)
}

// volumesLeft lists the volumes that outlive their app. The app is gone, whatever the engine answers.
func (s *server) volumesLeft(ctx context.Context, app string) []string {
	if s.Volumes == nil {
		return nil
	}
	left, err := s.Volumes(ctx, app)
	if err != nil {
		s.Logger.Warn("list the volumes of a destroyed app", "app", app, "error", err)
	}
	return left
}

func (s *server) planApp(c echo.Context) error {
	app, err := s.Store.App(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	config, err := s.configOf(c.Request().Context(), app)
	if err != nil {
		return err
	}
	if config, err = store.WithStrategy(config, c.QueryParam("strategy")); err != nil {
		return err
	}
	shown := shownPlan{Plan: store.PlanOf(config)}
	live, found, err := s.Store.Live(c.Request().Context(), app.Name)
	if err != nil {
		return err
	}
	if found {
		release, err := s.Store.Release(c.Request().Context(), live.Release)
		if err != nil {
			return err
		}
		shown.Uncovered = s.withVolumes(c.Request().Context(), release.Artefact).Uncovered(config)
	}
	return c.JSON(http.StatusOK, shown)
}

// withVolumes asks the engine for the VOLUME lines of an image whose release was made by a version that did not store them. A plan is
// shown without them where the engine does not answer.
func (s *server) withVolumes(ctx context.Context, artefact store.Artefact) store.Artefact {
	if artefact.Volumes != "" || artefact.Image == "" || s.ImageVolumes == nil {
		return artefact
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	volumes, err := s.ImageVolumes(ctx, artefact.Image)
	if err != nil {
		s.Logger.Warn("read the VOLUME lines of the live image", "image", artefact.Image, "error", err)
	}
	artefact.Volumes = volumes
	return artefact
}

type shownPlan struct {
	store.Plan
	Uncovered []string `json:"uncovered_volumes,omitempty"` // of the live release's image
}

// configOf is what the commit of the deploy branch would be deployed with: its shipgate.yaml has a say.
func (s *server) configOf(ctx context.Context, app store.App) (store.Config, error) {
	if app.Source == store.SourceImage {
		return store.DecodeConfig(app.Source, app.Config)
	}
	text, found, err := s.repoFile(ctx, app)
	if err != nil {
		return nil, err
	}
	if !found {
		return store.DecodeConfig(app.Source, app.Config)
	}
	file, err := store.DecodeRepoFile(text)
	if err != nil {
		return nil, err
	}
	config, _, err := file.Over(app.Source, app.Config)
	return config, err
}

func (s *server) repoFile(ctx context.Context, app store.App) (text []byte, found bool, err error) {
	_, tip, err := s.Repositories.DeployBranch(ctx, app)
	if err != nil || tip == "" {
		return nil, false, err
	}
	return s.Repositories.File(ctx, app.Name, tip, store.RepoFileName)
}

// envJSON is one variable; its value is only there when it was asked for.
type envJSON struct {
	Name  string  `json:"name"`
	Value *string `json:"value,omitempty"`
}

func (s *server) listEnv(c echo.Context) error {
	reveal := c.QueryParam("reveal") == "true"
	if reveal && !c.Get(tokenKey).(store.Token).May(store.RightAdmin, c.Param("app")) {
		return errForbidden
	}
	if reveal {
		entry := s.auditEntry(c, c.Get(tokenKey).(store.Token), c.Param("app"))
		entry.Action, entry.Outcome = "reveal env", store.AuditDone
		s.audit(c, s.Store.Audit, entry)
	}
	env, err := s.Store.Env(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	shown := []envJSON{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		one := envJSON{Name: name}
		if reveal {
			one.Value = new(env[name])
		}
		shown = append(shown, one)
	}
	return c.JSON(http.StatusOK, shown)
}

type envRequest struct {
	Set   map[string]string `json:"set"`
	Unset []string          `json:"unset"`
}

// describeEnv names what a request sets and removes, without the values.
func describeEnv(request envRequest) string {
	var parts []string
	if len(request.Set) > 0 {
		parts = append(parts, "set "+strings.Join(slices.Sorted(maps.Keys(request.Set)), ", "))
	}
	if len(request.Unset) > 0 {
		parts = append(parts, "removed "+strings.Join(request.Unset, ", "))
	}
	return strings.Join(parts, "; ")
}

func (s *server) changeEnv(c echo.Context) error {
	ctx, app := c.Request().Context(), c.Param("app")
	var request envRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	noteDetail(c, "%s", describeEnv(request))
	if err := s.Store.SetEnv(ctx, app, request.Set); err != nil {
		return err
	}
	if err := s.Store.UnsetEnv(ctx, app, request.Unset...); err != nil {
		return err
	}
	return s.listEnv(c)
}
