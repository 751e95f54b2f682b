package web

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

func (s *server) listRegistries(c echo.Context) error {
	registries, err := s.Store.Registries(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, registries)
}

// registryLogin is never given back.
type registryLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (s *server) setRegistry(c echo.Context) error {
	var request registryLogin
	if err := decode(c, &request); err != nil {
		return err
	}
	app, host := noteLogin(c)
	if err := s.Store.SetRegistry(c.Request().Context(), app, host, request.Username, request.Password); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *server) removeRegistry(c echo.Context) error {
	app, host := noteLogin(c)
	if err := s.Store.RemoveRegistry(c.Request().Context(), app, host); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// noteLogin tells the audit log which login a request is about: of one app, or for all.
func noteLogin(c echo.Context) (app, host string) {
	app, host = c.QueryParam("app"), c.Param("host")
	if app != "" {
		c.Set(appKey, app)
		noteDetail(c, "%s", host)
	} else {
		noteDetail(c, "%s for all apps", host)
	}
	return app, host
}

type collectRequest struct {
	DryRun bool `json:"dry_run"`
}

// collected is what nothing needed any more.
type collected struct {
	Items   []store.Garbage `json:"items"`
	Bytes   int64           `json:"bytes"`
	Trouble string          `json:"trouble,omitempty"` // what could not be looked through or removed
}

// collect removes what nothing needs. What it could not do does not hide what it did.
func (s *server) collect(c echo.Context) error {
	var request collectRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	items, err := s.Collect(c.Request().Context(), request.DryRun)
	if err != nil && len(items) == 0 {
		return err
	}
	answer := collected{Items: items}
	if answer.Items == nil {
		answer.Items = []store.Garbage{}
	}
	if err != nil {
		s.Logger.Error("remove what is not needed", "error", err)
		answer.Trouble = s.Store.Masked(err.Error())
	}
	for _, item := range items {
		answer.Bytes += item.Bytes
	}
	return c.JSON(http.StatusOK, answer)
}

// repoFileSchema serves the JSON Schema of shipgate.yaml, for editors.
func repoFileSchema(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/schema+json", store.RepoFileSchema())
}
