package web

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

var errNotConnected = store.Problemf(store.CodeNotFound, "this server is not connected with GitHub").WithHint("shipgate github connect")

func (s *server) showGitHub(c echo.Context) error {
	connection, found, err := s.GitHub.Connection(c.Request().Context())
	if err != nil {
		return err
	}
	if !found {
		return errNotConnected
	}
	return c.JSON(http.StatusOK, connection)
}

func (s *server) connectGitHub(c echo.Context) error {
	var access store.ForgeAccess
	if err := decode(c, &access); err != nil {
		return err
	}
	s.Store.Hide(access.PrivateKey, access.Token, access.WebhookSecret) // before anything can go wrong with them
	access.AppSlug, access.ConnectedAt = "", time.Time{}                // GitHub's and ours to say
	connection, err := s.GitHub.Connect(c.Request().Context(), access)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, connection)
}

func (s *server) disconnectGitHub(c echo.Context) error {
	if err := s.GitHub.Disconnect(c.Request().Context()); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *server) listDeliveries(c echo.Context) error {
	limit, err := number(c, "limit", 50, mostDeliveries)
	if err != nil {
		return err
	}
	deliveries, err := s.Store.Deliveries(c.Request().Context(), limit)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, deliveries)
}

const mostDeliveries = 200

// setupRequest says where the App of this server is to be made.
type setupRequest struct {
	Account string `json:"account"` // an organization; empty: whoever is signed in at GitHub
	APIURL  string `json:"api_url"` // empty: github.com
}

// setupState goes to GitHub and comes back with the browser.
type setupState struct {
	setupRequest
	Expires int64 `json:"expires"` // seconds since 1970
}

// setupValid is how long the address of the setup page can be used.
const setupValid = time.Hour

func (s *server) beginSetup(c echo.Context) error {
	var request setupRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	state, err := s.signedState(setupState{request, time.Now().Add(setupValid).Unix()})
	if err != nil {
		return err
	}
	if _, err := s.GitHub.Manifest(c.Request().Context(), request.Account, request.APIURL, state); err != nil {
		return err // better said here than on the page
	}
	return c.JSON(http.StatusOK, map[string]string{"url": s.BaseURL() + "/setup/github?state=" + url.QueryEscape(state)})
}

func (s *server) signedState(state setupState) (string, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return "", fmt.Errorf("encode state: %w", err)
	}
	message := base64.RawURLEncoding.EncodeToString(text)
	return message + "." + s.Store.Sign("setup", message), nil
}

var errOldState = store.Problemf(store.CodeUsage, "this address is not valid, or not any more: it is for one hour").WithHint("shipgate github connect")

func (s *server) openState(signed string) (state setupState, err error) {
	message, mark, _ := strings.Cut(signed, ".")
	if !s.Store.Signed("setup", message, mark) {
		return state, errOldState
	}
	text, err := base64.RawURLEncoding.DecodeString(message)
	if err != nil {
		return state, errOldState
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return state, fmt.Errorf("decode state: %w", err)
	}
	if time.Now().Unix() >= state.Expires {
		return state, errOldState
	}
	return state, nil
}

// setupPage has the browser ask GitHub for an App, and takes it up when GitHub sends the browser back with a code.
func (s *server) setupPage(c echo.Context) error {
	state, err := s.openState(c.QueryParam("state"))
	if err != nil {
		return err
	}
	if code := c.QueryParam("code"); code != "" {
		connection, err := s.GitHub.CompleteSetup(c.Request().Context(), state.APIURL, code)
		if err != nil {
			return err
		}
		return s.render(c, http.StatusOK, "connected", view{Title: "Connected with GitHub", Body: connection})
	}
	form, err := s.GitHub.Manifest(c.Request().Context(), state.Account, state.APIURL, c.QueryParam("state"))
	if err != nil {
		return err
	}
	target, err := url.Parse(form.Action)
	if err != nil {
		return fmt.Errorf("read address of GitHub: %w", err)
	}
	allowForm(c, target.Scheme+"://"+target.Host)
	return s.render(c, http.StatusOK, "setup", view{Title: "Connect with GitHub", Body: setupView{form, target.Host, state.Account}})
}

// setupView is what the page shows before the browser goes to GitHub.
type setupView struct {
	store.ForgeSetup
	Host    string
	Account string
}
