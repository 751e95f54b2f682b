package web

import (
	"net/url"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// visit is what a request may do with the deployment of a page.
type visit struct {
	d       store.Deployment
	session *store.Token
	key     string // opened the page to a reader without a session
}

func (v visit) may(right store.Right) bool {
	return v.session != nil && v.session.May(right, v.d.App)
}

// visited finds the deployment of a page for those who may see it. Whoever may not learns nothing, not even whether there
// is one: refused says that a form to sign in is the answer.
func (s *server) visited(c echo.Context) (v visit, refused bool, err error) {
	v.session = sessionOf(c)
	v.d, err = s.deploymentOf(c)
	known := err == nil
	if code := store.CodeOf(err); !known && code != store.CodeNotFound && code != store.CodeUsage {
		return v, false, err
	}
	if known && v.may(store.RightRead) {
		return v, false, nil
	}
	if key := c.QueryParam("key"); key != "" {
		open, err := s.opens(c, key, v.d, known)
		if err != nil {
			return v, false, err
		}
		if open {
			v.key = key
			return v, false, nil
		}
	}
	if v.session != nil {
		return v, false, unknownDeployment(c)
	}
	return v, true, nil
}

// mayStay asks again what was asked when a stream began.
func (s *server) mayStay(c echo.Context) bool {
	session, err := s.session(c)
	if err != nil {
		return false
	}
	c.Set(sessionKey, session)
	_, refused, err := s.visited(c)
	return err == nil && !refused
}

// opens says whether the key is that of the page, and the app still shows its pages to those who have one.
func (s *server) opens(c echo.Context, key string, d store.Deployment, known bool) (bool, error) {
	if genuine := s.Store.Signed("page", strconv.FormatInt(d.ID, 10), key); !genuine || !known {
		return false, nil
	}
	app, err := s.Store.App(c.Request().Context(), d.App)
	if err != nil {
		return false, err
	}
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil || !config.Shared().PublicLogs {
		return false, err
	}
	header := c.Response().Header()
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Robots-Tag", "noindex")
	return true, nil
}

func (s *server) askToSignInFor(c echo.Context) error {
	return s.askToSignIn(c, "/deployments/"+url.PathEscape(c.Param("deployment")))
}
