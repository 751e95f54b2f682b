package web

import (
	"context"
	"fmt"
	"net/http"
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
)

// limitExchanges keeps strangers from making us call issuers and write refusals at will.
func limitExchanges() echo.MiddlewareFunc {
	total := rate.NewLimiter(exchangesTotal, totalBurst)
	each := middleware.RateLimiterWithConfig(middleware.RateLimiterConfig{
		Store: middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{
			Rate: exchangeRate, Burst: exchangeBurst, ExpiresIn: 3 * time.Minute,
		}),
		DenyHandler: func(echo.Context, string, error) error { return errTooMany },
	})
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return each(func(c echo.Context) error {
			if !total.Allow() {
				return errTooMany
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
		return err
	}
	entry := store.AuditEntry{Action: c.Request().Method + " " + c.Path(), Remote: c.RealIP()}
	secret, token, identity, err := s.exchangeFor(c.Request().Context(), request)
	entry.Who = identity.Repository
	if err != nil {
		entry.Outcome, entry.Reason = store.AuditRefused, err.Error()
		if _, unknown := s.Store.App(c.Request().Context(), request.App); unknown == nil {
			entry.App = request.App
		}
		s.audit(c, s.Store.AuditQuietly, entry)
		return errExchange
	}
	entry.Outcome, entry.App, entry.Token = store.AuditDone, token.App, token.ID
	s.audit(c, s.Store.Audit, entry)
	return c.JSON(http.StatusOK, exchangedToken{Token: secret, ExpiresAt: token.ExpiresAt})
}

// exchangeFor looks first whether the claims fit, then whether they are genuine, and then takes the token for good.
func (s *server) exchangeFor(ctx context.Context, request exchangeRequest) (secret string, token store.Token, identity store.Identity, err error) {
	if identity, err = s.Identities.Read(request.Token); err != nil {
		return "", token, identity, err
	}
	rules, err := s.Store.Trusts(ctx, request.App)
	if err != nil {
		return "", token, identity, err
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
	if err == nil && !fresh {
		err = fmt.Errorf("the token was exchanged before")
	}
	return secret, token, identity, err
}

// fitting wants one of the rules to allow the identity, and says why the last of them does not.
func fitting(rules []store.Trust, identity store.Identity) error {
	reason := "nobody is trusted to deploy the app"
	for _, rule := range rules {
		if reason = rule.Allows(identity); reason == "" {
			return nil
		}
	}
	return fmt.Errorf("%s", reason)
}
