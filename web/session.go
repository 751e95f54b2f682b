package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

const (
	sessionCookie = store.SessionCookie
	sessionValid  = 30 * 24 * time.Hour
)

// session gives the token that a browser signed in with, as it is now, or nil: what is revoked opens nothing any more.
func (s *server) session(c echo.Context) (*store.Token, error) {
	cookie, err := c.Cookie(s.cookieName())
	if err != nil {
		return nil, nil
	}
	id, expires, mark, ok := cutSession(cookie.Value)
	if !ok {
		return nil, nil
	}
	token, err := s.Store.TokenByID(c.Request().Context(), id)
	if err != nil && store.CodeOf(err) == store.CodeUnauthorised {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !s.Store.Signed("session", sessionMessage(token, expires), mark) || time.Now().Unix() >= expires {
		return nil, nil
	}
	return &token, nil
}

// sessionMessage has the moment the token was made in it: the number of one that was revoked may be given to another.
func sessionMessage(token store.Token, expires int64) string {
	return fmt.Sprintf("%d.%d.%d", token.ID, expires, token.CreatedAt.UnixMicro())
}

// sealSession makes the value of the cookie: the number of the token, when the session expires, and the mark.
func (s *server) sealSession(token store.Token, expires time.Time) string {
	mark := s.Store.Sign("session", sessionMessage(token, expires.Unix()))
	return fmt.Sprintf("%d.%d.%s", token.ID, expires.Unix(), mark)
}

func cutSession(value string) (token, expires int64, mark string, ok bool) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return 0, 0, "", false
	}
	token, wrongToken := strconv.ParseInt(parts[0], 10, 64)
	expires, wrongExpires := strconv.ParseInt(parts[1], 10, 64)
	return token, expires, parts[2], wrongToken == nil && wrongExpires == nil
}

// login is what the form of the sign-in page shows.
type login struct {
	Next  string
	Wrong bool
}

func (s *server) loginPage(c echo.Context) error {
	return s.render(c, http.StatusOK, "login", view{Title: "Sign in", Body: login{Next: localPath(c.QueryParam("next"))}})
}

// askToSignIn answers in place of a page that is not for everybody, the same whether there is such a page or not.
func (s *server) askToSignIn(c echo.Context, next string) error {
	return s.render(c, http.StatusUnauthorized, "login", view{Title: "Sign in", Body: login{Next: localPath(next)}})
}

func (s *server) signIn(c echo.Context) error {
	next := localPath(c.FormValue("next"))
	token, err := s.Store.AuthenticateFrom(c.Request().Context(), strings.TrimSpace(c.Request().PostFormValue("token")), c.RealIP())
	if errors.Is(err, store.ErrTooManyWrongTokens) {
		return err
	}
	if err != nil && store.CodeOf(err) == store.CodeUnauthorised {
		return s.render(c, http.StatusUnauthorized, "login", view{Title: "Sign in", Body: login{Next: next, Wrong: true}})
	}
	if err != nil {
		return err
	}
	s.audit(c, s.Store.Audit, s.done(c, token, "sign in"))
	expires := time.Now().Add(sessionValid)
	c.SetCookie(s.cookie(c, s.sealSession(token, expires), int(sessionValid/time.Second)))
	return c.Redirect(http.StatusSeeOther, next)
}

func (s *server) signOut(c echo.Context) error {
	c.SetCookie(s.cookie(c, "", -1))
	return c.Redirect(http.StatusSeeOther, "/login")
}

// cookieName has a prefix where everybody uses TLS, by which browsers keep other hosts and plain HTTP from setting the cookie.
func (s *server) cookieName() string {
	if strings.HasPrefix(s.BaseURL(), "https://") {
		return store.SecureSessionCookie
	}
	return store.SessionCookie
}

func (s *server) cookie(c echo.Context, value string, seconds int) *http.Cookie {
	return &http.Cookie{
		Name: s.cookieName(), Value: value, Path: "/", MaxAge: seconds,
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.encrypted(c.Request()),
	}
}

// encrypted says whether the browser speaks TLS, here or to a proxy in front.
func (s *server) encrypted(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" || strings.HasPrefix(s.BaseURL(), "https://")
}

// localPath keeps a sign-in from sending a browser to another site. Browsers read a backslash as a slash;
// tabs and line ends, which they skip, make no address.
func localPath(next string) string {
	address, err := url.Parse(next)
	switch {
	case err != nil, address.IsAbs(), address.Host != "", !strings.HasPrefix(next, "/"), strings.HasPrefix(next, "//"),
		strings.Contains(next, `\`):
		return "/"
	}
	return next
}
