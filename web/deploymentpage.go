package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// shownLines is how much of a log is on the page; all of it is at its own address.
const shownLines = 2000

// deploymentView is what the page of a deployment shows.
type deploymentView struct {
	store.Deployment
	State      string           // the verdict, running or waiting
	URL        string           // of the app
	CommitURL  string           // empty: the app follows no repository
	Runtime    *store.AppStatus // of what is live; nil: another deployment is
	Successor  int64            // took its place, or 0
	Stages     []stage
	Age        time.Duration // since the request, up to the verdict
	MayCancel  bool
	RollbackTo int64 // 0: no button

	Query   string // carries the key on
	ByKey   bool   // its reader sees no other deployment
	Lines   []pageLine
	Earlier bool // there are lines before these
	Last    int64
}

// pageLine is an Event as a page shows it.
type pageLine struct {
	At   time.Time  `json:"-"`
	Time string     `json:"time"`
	Kind string     `json:"kind"`
	Step store.Step `json:"step,omitempty"`
	Text string     `json:"text"`
}

func (s *server) pageLine(event store.Event) pageLine {
	return pageLine{event.At, event.At.UTC().Format("15:04:05.000"), event.Kind, event.Step, s.clean(event.Text)}
}

func (s *server) deploymentPage(c echo.Context) error {
	v, refused, err := s.visited(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	case v.key == "" && c.QueryParams().Has("key"): // who is signed in needs none, and it should not be seen
		return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/deployments/%d", v.d.ID))
	}
	shown, err := s.summary(c.Request().Context(), v)
	if err != nil {
		return err
	}
	if err := s.addLines(c.Request().Context(), &shown); err != nil {
		return err
	}
	page := view{Title: fmt.Sprintf("%s · %s · deployment %d", shown.State, v.d.App, v.d.ID), Refresh: v.d.Verdict == "", Body: shown}
	if v.key != "" {
		c.Set(sessionKey, nil) // the page has no forms then
	}
	return s.render(c, http.StatusOK, "deployment", page)
}

// deploymentSummary is the part of the page above the log, for the script that follows.
func (s *server) deploymentSummary(c echo.Context) error {
	v, refused, err := s.visited(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	}
	shown, err := s.summary(c.Request().Context(), v)
	if err != nil {
		return err
	}
	return s.execute(c, http.StatusOK, "deployment", "summary", shown)
}

func (s *server) deploymentEvents(c echo.Context) error {
	v, refused, err := s.visited(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	}
	return s.follow(c, v.d, func() bool { return s.mayStay(c) }, func(news any) any {
		switch news := news.(type) {
		case store.Event:
			return s.pageLine(news)
		case deploymentJSON:
			return map[string]store.Verdict{"verdict": news.Verdict}
		}
		return nil
	})
}

func (s *server) deploymentText(c echo.Context) error {
	v, refused, err := s.visited(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	}
	return s.writeHistory(c, v.d.ID)
}

func (s *server) summary(ctx context.Context, v visit) (deploymentView, error) {
	d := v.d
	shown := deploymentView{Deployment: d, State: stateOf(d)}
	shown.Reason, shown.Hint = s.clean(d.Reason), s.clean(d.Hint)
	if v.key != "" {
		shown.ByKey, shown.Query = true, "?key="+url.QueryEscape(v.key)
	}
	app, err := s.Store.App(ctx, d.App)
	if err != nil {
		return shown, err
	}
	shown.URL = s.urlOf(app)
	if shown.CommitURL, err = s.commitURL(ctx, app, d.ForgeSHA()); err != nil {
		return shown, err
	}
	live, _, err := s.Store.Live(ctx, d.App)
	if err != nil {
		return shown, err
	}
	next, _, err := s.Store.Successor(ctx, d)
	if err != nil {
		return shown, err
	}
	times, err := s.Store.StepTimes(ctx, d.ID)
	if err != nil {
		return shown, err
	}
	now := time.Now()
	if live.Deployment == d.ID {
		status, err := s.statusOf(ctx, d.App)
		if err != nil {
			return shown, err
		}
		shown.Runtime = &status
	}
	shown.Successor, shown.Stages = next.ID, picture(d, times, now)
	if !d.FinishedAt.IsZero() {
		now = d.FinishedAt
	}
	shown.Age = now.Sub(d.CreatedAt)
	if v.may(store.RightDeploy) {
		shown.MayCancel = d.Verdict == "" && !d.CancelAsked && d.Step.CanCancel()
		shown.RollbackTo = rollbackGoal(d, shown.Runtime != nil)
	}
	return shown, nil
}

// rollbackGoal is where the page's button goes back to: to this version, or from it to the one before. 0 is nowhere.
func rollbackGoal(d store.Deployment, live bool) int64 {
	switch {
	case d.Verdict != store.Succeeded:
		return 0
	case live:
		return d.PreviousLive
	}
	return d.ID
}

// commitURL is empty for an app that follows no repository, or whose server knows no forge.
func (s *server) commitURL(ctx context.Context, app store.App, sha string) (string, error) {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return "", err
	}
	repository, follows := config.Shared().Repository()
	if !follows || store.ValidateCommitID(sha) != nil {
		return "", nil
	}
	connection, found, err := s.GitHub.Connection(ctx)
	if err != nil || !found {
		return "", err
	}
	return fmt.Sprintf("%s/%s/commit/%s", connection.WebURL, repository, sha), nil
}

func (s *server) addLines(ctx context.Context, shown *deploymentView) error {
	events, err := s.Store.LastEvents(ctx, shown.ID, shownLines+1)
	if err != nil {
		return err
	}
	if shown.Earlier = len(events) > shownLines; shown.Earlier {
		events = events[1:]
	}
	for _, event := range events {
		shown.Last = event.ID
		if event.Kind != "step" {
			shown.Lines = append(shown.Lines, s.pageLine(event))
		}
	}
	return nil
}

// asked finds the deployment of a form for those who may deploy its app.
func (s *server) asked(c echo.Context) (v visit, refused bool, err error) {
	v, refused, err = s.visited(c)
	if err == nil && !refused && !v.may(store.RightDeploy) {
		err = errForbidden
	}
	return v, refused, err
}

func (s *server) cancelByForm(c echo.Context) error {
	v, refused, err := s.asked(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	}
	if _, err := s.Store.AskCancel(c.Request().Context(), v.d.ID); err != nil {
		return err
	}
	s.audit(c, s.Store.Audit, s.done(c, *v.session, "cancel"))
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/deployments/%d", v.d.ID))
}

// rollbackByForm goes where the button said, also when something else is live by now.
func (s *server) rollbackByForm(c echo.Context) error {
	v, refused, err := s.asked(c)
	switch {
	case err != nil:
		return err
	case refused:
		return s.askToSignInFor(c)
	}
	to, err := strconv.ParseInt(c.Request().PostFormValue("to"), 10, 64)
	if err != nil || to == 0 || (to != v.d.ID && to != v.d.PreviousLive) {
		return store.Problemf(store.CodeUsage, "deployment %d has no such version to go back to", v.d.ID).
			WithHint("shipgate rollback %s --to DEPLOYMENT", v.d.App)
	}
	back, err := s.Runner.Rollback(c.Request().Context(), v.d.App, to)
	if err != nil {
		return err
	}
	c.Set(deploymentKey, back.ID)
	noteDetail(c, "back to deployment %d", to)
	s.audit(c, s.Store.Audit, s.done(c, *v.session, "roll back"))
	return c.Redirect(http.StatusSeeOther, fmt.Sprintf("/deployments/%d", back.ID))
}
