package web

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// overviewRow is one app on the first page.
type overviewRow struct {
	Name  string
	URL   string
	Live  *store.Deployment // nil before the first success
	Last  *store.Deployment // nil before the first one
	State string            // of the last one

	Status store.AppStatus
}

func (s *server) overviewPage(c echo.Context) error {
	session := sessionOf(c)
	if session == nil {
		return s.askToSignIn(c, "/")
	}
	ctx := c.Request().Context()
	apps, err := s.Store.Apps(ctx)
	if err != nil {
		return err
	}
	last, err := s.Store.LastDeployments(ctx)
	if err != nil {
		return err
	}
	live, err := s.Store.LiveDeployments(ctx)
	if err != nil {
		return err
	}
	statuses, err := s.Store.AppStatuses(ctx, "")
	if err != nil {
		return err
	}
	rows := []overviewRow{}
	for _, app := range apps {
		at := slices.IndexFunc(statuses, func(status store.AppStatus) bool { return status.App == app.Name })
		if at < 0 || !session.May(store.RightRead, app.Name) {
			continue
		}
		row := overviewRow{Name: app.Name, URL: s.urlOf(app), Status: statuses[at]}
		if d, found := live[app.Name]; found {
			row.Live = &d
		}
		if d, found := last[app.Name]; found {
			row.Last, row.State = &d, stateOf(d)
		}
		rows = append(rows, row)
	}
	return s.render(c, http.StatusOK, "overview", view{Title: "Apps", Body: rows})
}
