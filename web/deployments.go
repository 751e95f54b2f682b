package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

const mostDeployments = 200

func (s *server) listDeployments(c echo.Context) error {
	ctx := c.Request().Context()
	if _, err := s.Store.App(ctx, c.Param("app")); err != nil {
		return err
	}
	limit, err := number(c, "limit", 50, mostDeployments)
	if err != nil {
		return err
	}
	deployments, err := s.Store.Deployments(ctx, c.Param("app"), limit)
	if err != nil {
		return err
	}
	shown := []deploymentJSON{}
	for _, d := range deployments {
		one, err := s.deploymentJSON(ctx, d)
		if err != nil {
			return err
		}
		shown = append(shown, one)
	}
	return c.JSON(http.StatusOK, shown)
}

// number reads a query parameter between 0 and most.
func number(c echo.Context, name string, fallback, most int) (int, error) {
	text := c.QueryParam(name)
	if text == "" {
		return fallback, nil
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > most {
		return 0, store.Problemf(store.CodeUsage, "%s=%s is not a number from 0 to %d", name, text, most)
	}
	return value, nil
}

type deploymentRequest struct {
	Ref        string `json:"ref"`
	SHA        string `json:"sha"`
	Image      string `json:"image"`
	RollbackTo *int64 `json:"rollback_to"` // 0: the version before the present one
}

func (s *server) createDeployment(c echo.Context) error {
	var request deploymentRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	app, err := s.Store.App(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	d, err := s.deploy(c, app, request)
	if err != nil {
		return err
	}
	shown, err := s.deploymentJSON(c.Request().Context(), d)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", "/api/v1/deployments/"+strconv.FormatInt(d.ID, 10))
	return c.JSON(http.StatusAccepted, shown)
}

func (s *server) deploy(c echo.Context, app store.App, request deploymentRequest) (store.Deployment, error) {
	ctx := c.Request().Context()
	switch {
	case request.Image != "":
		return store.Deployment{}, store.Problemf(store.CodeUsage, "%s is built from its repository, not from an image", app.Name).
			WithHint("shipgate deploy %s --ref REF", app.Name)
	case request.RollbackTo != nil:
		return s.Runner.Rollback(ctx, app.Name, *request.RollbackTo)
	}
	ref := request.Ref
	if request.SHA != "" {
		ref = request.SHA
	}
	return s.deployCommit(ctx, app, ref, c.Request().Header.Get("Idempotency-Key"))
}

// deployCommit deploys a commit that was pushed before. The deploy branch moves to it with the verdict.
func (s *server) deployCommit(ctx context.Context, app store.App, ref, key string) (store.Deployment, error) {
	sha, subject, err := s.Repositories.Resolve(ctx, app.Name, ref)
	if err != nil {
		return store.Deployment{}, err
	}
	branch, tip, err := s.Repositories.DeployBranch(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	request := store.NewDeployment{
		App: app.Name, Trigger: store.TriggerAPI, SHA: sha, Ref: branch, Subject: subject, IdempotencyKey: key,
	}
	if tip != sha {
		request.Updates = []store.RefUpdate{{Name: branch, Old: tip, New: sha}}
	}
	return s.Store.Enqueue(ctx, request)
}

// shownEvents is how many lines of the history come with a deployment; the rest is at its events.
const shownEvents = 1000

func (s *server) showDeployment(c echo.Context) error {
	d, err := s.deploymentOf(c)
	if err != nil {
		return err
	}
	shown, err := s.deploymentJSON(c.Request().Context(), d)
	if err != nil {
		return err
	}
	if shown.Events, err = s.Store.Events(c.Request().Context(), d.ID, 0, shownEvents); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, shown)
}

func (s *server) cancelDeployment(c echo.Context) error {
	d, err := s.deploymentOf(c)
	if err != nil {
		return err
	}
	if d, err = s.Store.AskCancel(c.Request().Context(), d.ID); err != nil {
		return err
	}
	shown, err := s.deploymentJSON(c.Request().Context(), d)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, shown)
}
