package web

import (
	"cmp"
	"context"
	"net/http"
	"regexp"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

const mostDeployments = 200

func (s *server) listDeployments(c echo.Context) error {
	ctx := c.Request().Context()
	app, err := s.Store.App(ctx, c.Param("app"))
	if err != nil {
		return err
	}
	limit, err := number(c, "limit", 50, mostDeployments)
	if err != nil {
		return err
	}
	deployments, err := s.Store.Deployments(ctx, app.Name, limit)
	if err != nil {
		return err
	}
	shown := []deploymentJSON{}
	for _, d := range deployments {
		shown = append(shown, deploymentJSON{Deployment: d, URL: s.urlOf(app)})
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

// deploymentRequest names one of its fields, or none for the commit of the deploy branch or the image of the config. With
// an image, the sha only says which commit it was made from.
type deploymentRequest struct {
	Ref        string `json:"ref"`
	SHA        string `json:"sha"`
	Image      string `json:"image"`
	RollbackTo *int64 `json:"rollback_to"` // 0: the version before the present one

	BuiltFrom        string `json:"built_from"`        // the commit at the forge that the files of an upload were built from
	Strategy         string `json:"strategy"`          // for this deployment only; empty: the config's
	GitHubDeployment string `json:"github_deployment"` // auto, the default: as the config says, unless the workflow makes one; or off
}

func (r deploymentRequest) validate() error {
	named := 0
	for _, given := range []bool{r.Ref != "", r.SHA != "" && r.Image == "", r.Image != "", r.RollbackTo != nil} {
		if given {
			named++
		}
	}
	if named > 1 {
		return store.Problemf(store.CodeUsage, "only one of ref, sha, image and rollback_to can be deployed")
	}
	switch {
	case r.RollbackTo != nil && r.Strategy != "":
		return store.Problemf(store.CodeUsage, "a rollback has the strategy of the release that it goes back to")
	case r.BuiltFrom != "" && (r.SHA == "" || store.ValidateCommitID(r.BuiltFrom) != nil):
		return store.Problemf(store.CodeUsage, "built_from is the full id of a commit, and goes with the sha of an upload")
	case r.GitHubDeployment != "" && r.GitHubDeployment != "auto" && r.GitHubDeployment != "off":
		return store.Problemf(store.CodeUsage, "github_deployment %q is unknown: use auto or off", r.GitHubDeployment)
	}
	if r.SHA != "" && !commitID.MatchString(r.SHA) {
		return store.Problemf(store.CodeUsage, "sha %q is not the id of a commit", r.SHA).WithHint("shipgate deploy APP --ref BRANCH")
	}
	return nil
}

var commitID = regexp.MustCompile(`^[0-9a-f]{7,40}$`)

func (s *server) createDeployment(c echo.Context) error {
	var request deploymentRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	if err := request.validate(); err != nil {
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
	c.Set(deploymentKey, d.ID)
	if request.RollbackTo != nil {
		noteDetail(c, "back to deployment %d", d.RollbackOf)
	}
	c.Response().Header().Set("Location", "/api/v1/deployments/"+strconv.FormatInt(d.ID, 10))
	return c.JSON(http.StatusAccepted, shown)
}

func (s *server) deploy(c echo.Context, app store.App, request deploymentRequest) (store.Deployment, error) {
	ctx, key := c.Request().Context(), c.Request().Header.Get("Idempotency-Key")
	asked := store.NewDeployment{
		App: app.Name, Trigger: store.TriggerAPI, IdempotencyKey: key, Strategy: request.Strategy, BuiltFrom: request.BuiltFrom,
		StatusOnly: request.GitHubDeployment == "off" || c.Get(tokenKey).(store.Token).Environment != "",
	}
	switch {
	case len(key) > longestKey:
		return store.Deployment{}, store.Problemf(store.CodeUsage, "the Idempotency-Key is longer than %d bytes", longestKey)
	case request.RollbackTo != nil && key != "": // better refused than done twice
		return store.Deployment{}, store.Problemf(store.CodeUsage, "a rollback takes no Idempotency-Key").
			WithHint("shipgate rollback %s --to DEPLOYMENT", app.Name)
	case request.RollbackTo != nil:
		return s.Runner.Rollback(ctx, app.Name, *request.RollbackTo)
	}
	if err := checkStrategy(app, request.Strategy); err != nil {
		return store.Deployment{}, err
	}
	switch {
	case app.Source == store.SourceImage:
		return s.deployImage(ctx, app, request, asked)
	case request.Image != "":
		return store.Deployment{}, store.Problemf(store.CodeUsage, "%s is built from its repository, not from an image", app.Name).
			WithHint("shipgate deploy %s --ref REF", app.Name)
	}
	return s.deployCommit(ctx, app, cmp.Or(request.SHA, request.Ref), asked)
}

// longestKey bounds what a client can make us keep.
const longestKey = 200

// checkStrategy refuses a strategy that the app cannot have.
func checkStrategy(app store.App, strategy string) error {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err == nil {
		_, err = store.WithStrategy(config, strategy)
	}
	return err
}

// deployCommit deploys a commit that was pushed before. The deploy branch moves to it with the verdict, also where it is
// there already: what runs now may move it before.
func (s *server) deployCommit(ctx context.Context, app store.App, ref string, asked store.NewDeployment) (store.Deployment, error) {
	if asked.IdempotencyKey != "" { // what was asked for before needs neither ref nor forge any more
		if d, found, err := s.Store.Asked(ctx, app.Name, asked.IdempotencyKey); err != nil || found {
			return d, err
		}
	}
	sha, subject, err := s.Repositories.Resolve(ctx, app.Name, ref)
	if err != nil {
		return store.Deployment{}, err
	}
	branch, tip, err := s.Repositories.DeployBranch(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	asked.SHA, asked.Ref, asked.Subject = sha, branch, subject
	asked.Updates = []store.RefUpdate{{Name: branch, Old: tip, New: sha}}
	return s.Store.Enqueue(ctx, asked)
}

// deployImage deploys an image: the one that was named, or what the config's reference means now.
func (s *server) deployImage(ctx context.Context, app store.App, request deploymentRequest, asked store.NewDeployment) (store.Deployment, error) {
	if request.Ref != "" || (request.SHA != "" && request.Image == "") {
		return store.Deployment{}, store.Problemf(store.CodeUsage, "%s runs an image, not a commit", app.Name).
			WithHint("shipgate deploy %s --image REFERENCE", app.Name)
	}
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return store.Deployment{}, err
	}
	image := cmp.Or(request.Image, config.(*store.ImageConfig).Image)
	if err := store.ValidateImage(image); err != nil {
		return store.Deployment{}, err
	}
	asked.SHA, asked.Subject, asked.Image = request.SHA, image, image
	return s.Store.Enqueue(ctx, asked)
}

func (s *server) showDeployment(c echo.Context) error {
	d, err := s.deploymentOf(c)
	if err != nil {
		return err
	}
	shown, err := s.deploymentJSON(c.Request().Context(), d)
	if err != nil {
		return err
	}
	if shown.Events, err = s.outline(c.Request().Context(), d.ID); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, shown)
}

// outlineTail is how many of its last lines come with a deployment; all are at its events.
const outlineTail = 100

// outline gives the steps and the last lines of a history, in order.
func (s *server) outline(ctx context.Context, id int64) ([]store.Event, error) {
	var steps, tail []store.Event
	err := s.eachEvent(ctx, id, 0, func(event store.Event) error {
		if tail = append(tail, event); len(tail) > outlineTail {
			if tail[0].Step != "" {
				steps = append(steps, tail[0])
			}
			tail = tail[1:]
		}
		return nil
	})
	return append(steps, tail...), err
}

// eachEvent hands over the lines of a history after one of them, in order.
func (s *server) eachEvent(ctx context.Context, id, after int64, do func(store.Event) error) error {
	const page = 500
	for {
		events, err := s.Store.Events(ctx, id, after, page)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := do(event); err != nil {
				return err
			}
			after = event.ID
		}
		if len(events) < page {
			return nil
		}
	}
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
