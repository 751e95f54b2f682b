package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

func (s *server) listTokens(c echo.Context) error {
	tokens, err := s.Store.Tokens(c.Request().Context())
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, tokens)
}

type tokenRequest struct {
	Name    string        `json:"name"`
	App     string        `json:"app"`
	Rights  []store.Right `json:"rights"`
	Scope   string        `json:"scope"`   // in place of rights, by clients of earlier versions
	Seconds int64         `json:"seconds"` // how long it is valid; 0: until revoked
}

func (r tokenRequest) rights() (store.Rights, error) {
	switch {
	case r.Scope == "":
		return store.NewRights(r.Rights...)
	case len(r.Rights) > 0:
		return nil, store.Problemf(store.CodeUsage, "name rights or scope, not both").WithHint("shipgate token create --rights read,deploy")
	}
	return store.RightsOfScope(r.Scope)
}

// createdToken is the only answer that ever holds a secret.
type createdToken struct {
	store.Token
	Secret string `json:"secret"`
}

func (s *server) createToken(c echo.Context) error {
	var request tokenRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	rights, err := request.rights()
	if err != nil {
		return err
	}
	token := store.Token{Name: request.Name, App: request.App, Rights: rights}
	if request.Seconds < 0 {
		return store.Problemf(store.CodeUsage, "a token cannot have expired already")
	}
	if request.Seconds > 0 {
		token.ExpiresAt = time.Now().Add(time.Duration(request.Seconds) * time.Second).UTC()
	}
	secret, token, err := s.Store.CreateToken(c.Request().Context(), token)
	if err != nil {
		return err
	}
	noteDetail(c, "%s with %s%s", tokenName(token), token.Rights, forApp(token.App))
	return c.JSON(http.StatusCreated, createdToken{Token: token, Secret: secret})
}

func (s *server) revokeToken(c echo.Context) error {
	id, err := strconv.ParseInt(c.Param("token"), 10, 64)
	if err != nil {
		return store.Problemf(store.CodeUsage, "%q is not a token's number", c.Param("token")).WithHint("shipgate token list")
	}
	noteDetail(c, "%d", id)
	if token, err := s.Store.TokenByID(c.Request().Context(), id); err == nil {
		noteDetail(c, "%s", tokenName(token))
	}
	if err := s.Store.RevokeToken(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// tokenName returns how the audit log names a token.
func tokenName(token store.Token) string {
	if token.Name == "" {
		return strconv.FormatInt(token.ID, 10)
	}
	return fmt.Sprintf("%s (%d)", token.Name, token.ID)
}

func forApp(app string) string {
	if app == "" {
		return " for all apps"
	}
	return " for " + app
}
