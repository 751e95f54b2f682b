package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"golang.org/x/time/rate"

	"github.com/shipgate/shipgate/store"
)

// Identities says who is behind an identity token, or why it does not count.
type Identities interface {
	// Read takes the token for what it says and asks nobody.
	Read(token string) (store.Identity, error)
	// Verify asks the issuer for its keys where they are not known.
	Verify(ctx context.Context, token string) (store.Identity, error)
	// Issuer is the one that is meant where none is named.
	Issuer() string
}

const (
	exchangedLives = 15 * time.Minute // a build may take longer; what was begun goes on without the token
	exchangeRate   = rate.Limit(0.5)  // a second, of one address
	exchangeBurst  = 20
	exchangesTotal = rate.Limit(10) // a second, of all together
	totalBurst     = 10 * exchangeBurst
)

var (
	errExchange = store.Problemf(store.CodeUnauthorised, "the identity is not trusted to deploy this app").
			WithHint("on the server: shipgate audit --app APP says why")
	errTooMany = store.Problemf(store.CodeUnreachable, "too many exchanges at once").WithHint("try again in a minute")
	// errLater is for faults that are not the identity's: another one may fare better.
	errLater = store.Problemf(store.CodeUnreachable, "identities cannot be verified just now").WithHint("try again in a minute")
)

// limitExchanges keeps strangers from making us call issuers and write refusals at will: the trail says once a minute that
// there are too many.
func (s *server) limitExchanges() echo.MiddlewareFunc {
	total := rate.NewLimiter(exchangesTotal, totalBurst)
	noted := rate.Sometimes{Interval: time.Minute}
	deny := func(c echo.Context) error {
		noted.Do(func() { s.auditRefusal(c, "", "", errTooMany) })
		return errTooMany
	}
	each := middleware.RateLimiterWithConfig(middleware.RateLimiterConfig{
		Store: middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{
			Rate: exchangeRate, Burst: exchangeBurst, ExpiresIn: 3 * time.Minute,
		}),
		DenyHandler: func(c echo.Context, _ string, _ error) error { return deny(c) },
	})
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return each(func(c echo.Context) error {
			if !total.Allow() {
				return deny(c)
			}
			return next(c)
		})
	}
}

type exchangeRequest struct {
	Token string `json:"token"`
	App   string `json:"app"`
}

// exchangedToken is a token for an app and a time.
type exchangedToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// exchange gives a deploy token for an identity token. Why one is refused is for the audit trail only: the answer must not
// tell a stranger which apps there are and whom they trust.
func (s *server) exchange(c echo.Context) error {
	var request exchangeRequest
	if err := decode(c, &request); err != nil {
		s.auditRefusal(c, "", "", err)
		return err
	}
	secret, token, identity, err := s.exchangeFor(c.Request().Context(), request)
	if err != nil {
		s.auditRefusal(c, identity.Repository, request.App, err)
		if store.CodeOf(err) == store.CodeUnreachable {
			return errLater
		}
		return errExchange
	}
	s.audit(c, s.Store.Audit, store.AuditEntry{
		Action: "exchange identity", Remote: c.RealIP(), Who: identity.Repository,
		Outcome: store.AuditDone, App: token.App, Token: token.ID,
	})
	return c.JSON(http.StatusOK, exchangedToken{Token: secret, ExpiresAt: token.ExpiresAt})
}

func (s *server) auditRefusal(c echo.Context, who, app string, err error) {
	s.audit(c, s.Store.AuditQuietly, store.AuditEntry{
		Action: "exchange identity", Remote: c.RealIP(), Who: who, App: app, Outcome: store.AuditRefused, Reason: err.Error(),
	})
}

// exchangeFor looks first whether the claims fit, then whether they are genuine, and then takes the token for good.
func (s *server) exchangeFor(ctx context.Context, request exchangeRequest) (secret string, token store.Token, identity store.Identity, err error) {
	if identity, err = s.Identities.Read(request.Token); err != nil {
		return "", token, identity, err
	}
	rules, err := s.Store.Trusts(ctx, request.App)
	if err != nil {
		return "", token, identity, store.Problemf(store.CodeUnreachable, "look up whom the app trusts: %w", err)
	}
	if err := fitting(rules, identity); err != nil {
		return "", token, identity, err
	}
	if identity, err = s.Identities.Verify(ctx, request.Token); err != nil {
		return "", token, identity, err
	}
	if err := fitting(rules, identity); err != nil {
		return "", token, identity, err
	}
	secret, token, fresh, err := s.Store.Exchange(ctx, identity, request.App, exchangedLives)
	switch {
	case store.CodeOf(err) == store.CodeNotFound: // the app is gone by now
	case err != nil:
		err = store.Problemf(store.CodeUnreachable, "make a token: %w", err)
	case !fresh:
		err = errors.New("the token was exchanged before")
	}
	return secret, token, identity, err
}

// fitting wants one of the rules to allow the identity, and says why each of them does not.
func fitting(rules []store.Trust, identity store.Identity) error {
	reasons := []string{}
	for _, rule := range rules {
		reason := rule.Allows(identity)
		if reason == "" {
			return nil
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 {
		return errors.New("nobody is trusted to deploy the app")
	}
	return errors.New(strings.Join(reasons, "; "))
}
