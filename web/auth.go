package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

const tokenKey = "token"

// allow lets a request through whose token may do this to the app, or to the app of the deployment, in its path.
func (s *server) allow(right store.Right, action string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			c.Set(actionKey, action)
			token, err := s.Store.AuthenticateFrom(c.Request().Context(), secretOf(c), c.RealIP())
			if err != nil {
				return err
			}
			app, err := s.appOf(c, token)
			if c.Param("deployment") != "" && (store.CodeOf(err) == store.CodeNotFound || (err == nil && !token.May(store.RightRead, app))) {
				s.refuseDeployment(c, token, app)
				return unknownDeployment(c) // how much others deploy is none of its business
			}
			if err != nil {
				return err
			}
			if !token.May(right, app) {
				return s.refusedEntry(c, token, app, errForbidden)
			}
			c.Set(tokenKey, token)
			return s.logged(c, token, app, func() error { return next(c) })
		}
	}
}

// appOf names the app that a request is about. Lists are cut to what the token may see, so they count as its own app.
func (s *server) appOf(c echo.Context, token store.Token) (string, error) {
	if app := c.Param("app"); app != "" {
		return app, nil
	}
	if c.Param("deployment") != "" {
		d, err := s.deploymentOf(c)
		return d.App, err
	}
	if c.Request().Method == "GET" && slices.Contains([]string{"/api/v1/apps", "/api/v1/status"}, c.Path()) {
		return token.App, nil
	}
	return "", nil
}

func (s *server) deploymentOf(c echo.Context) (store.Deployment, error) {
	id, err := strconv.ParseInt(c.Param("deployment"), 10, 64)
	if err != nil {
		return store.Deployment{}, store.Problemf(store.CodeUsage, "%q is not a deployment number", c.Param("deployment")).
			WithHint("shipgate deployments APP")
	}
	return s.Store.Deployment(c.Request().Context(), id)
}

// refuseDeployment writes that a token asked for a deployment that it has no business with, or that is none.
func (s *server) refuseDeployment(c echo.Context, token store.Token, app string) {
	entry := s.auditEntry(c, token, app)
	entry.Outcome, entry.Reason = store.AuditRefused, "there is no such deployment for this token"
	s.audit(c, s.Store.AuditQuietly, entry)
}

func unknownDeployment(c echo.Context) error {
	return store.Problemf(store.CodeNotFound, "there is no deployment %s", c.Param("deployment")).WithHint("shipgate deployments APP")
}

// secretOf takes the token from a Bearer header, or from a Basic one: its password, or its user name where there is none.
func secretOf(c echo.Context) string {
	if user, password, ok := c.Request().BasicAuth(); ok {
		if password == "" {
			return user
		}
		return password
	}
	scheme, secret, _ := strings.Cut(c.Request().Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// sameOrigin refuses what a page of another site makes a browser send, which would add the password it remembers.
func sameOrigin(next echo.HandlerFunc) echo.HandlerFunc {
	protection := http.NewCrossOriginProtection()
	return func(c echo.Context) error {
		if err := protection.Check(c.Request()); err != nil {
			return errForeignPage
		}
		return next(c)
	}
}

var errForeignPage = store.Problemf(store.CodeUnauthorised, "a page of another site sent this request").
	WithHint("use the command line, or send no Origin header")
