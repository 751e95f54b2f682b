package web

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

var statusOf = map[store.Code]int{
	store.CodeUsage:        http.StatusBadRequest,
	store.CodeUnauthorised: http.StatusUnauthorized,
	store.CodeNotFound:     http.StatusNotFound,
	store.CodeConflict:     http.StatusConflict,
	store.CodeCancelled:    http.StatusConflict,
	store.CodeFailed:       http.StatusUnprocessableEntity,
	store.CodeErrored:      http.StatusInternalServerError,
	store.CodeUnreachable:  http.StatusGatewayTimeout,
}

var errForbidden = store.Problemf(store.CodeUnauthorised, "the token does not allow this").
	WithHint("shipgate token create --rights admin, on the server's own machine")

// answerError gives every error the one form that users see. What is not meant for them is logged, once, here.
func (s *server) answerError(err error, c echo.Context) {
	if c.Request().Context().Err() != nil {
		return // the client has left, and reads no answer
	}
	problem, status := s.problemOf(err, c)
	if c.Response().Committed {
		return // a stream broke off; that it has no end tells its reader
	}
	if isPage(c) {
		s.answerErrorPage(c, problem, status)
		return
	}
	if status == http.StatusTooManyRequests {
		c.Response().Header().Set("Retry-After", "60")
	}
	if status == http.StatusUnauthorized {
		c.Response().Header().Set("WWW-Authenticate", `Basic realm="shipgate", charset="UTF-8"`)
	}
	if err := c.JSON(status, problem); err != nil {
		s.Logger.Debug("client left before its answer", "path", c.Path(), "error", err)
	}
}

func (s *server) problemOf(err error, c echo.Context) (*store.Problem, int) {
	if problem, known := store.AsProblem(err); known {
		if errors.Is(err, errForbidden) || errors.Is(err, errForeignPage) {
			return problem, http.StatusForbidden
		}
		if errors.Is(err, errTooMany) || errors.Is(err, store.ErrTooManyWrongTokens) {
			return problem, http.StatusTooManyRequests
		}
		return problem, statusOf[problem.Code]
	}
	var routed *echo.HTTPError
	if errors.As(err, &routed) {
		switch routed.Code {
		case http.StatusNotFound, http.StatusMethodNotAllowed:
			nothing := store.Problemf(store.CodeNotFound, "there is nothing at %s %s", c.Request().Method, c.Request().URL.Path)
			if !isPage(c) {
				nothing = nothing.WithHint("GET /api/v1/openapi.json lists what there is")
			}
			return nothing, routed.Code
		case http.StatusRequestEntityTooLarge:
			return store.Problemf(store.CodeUsage, "the request is larger than %s", maxBody), routed.Code
		}
		if routed.Code < 500 {
			return store.Problemf(store.CodeUsage, "the request cannot be read: %v", routed.Message), http.StatusBadRequest
		}
	}
	s.Logger.Error("answer request", "method", c.Request().Method, "path", c.Request().URL.Path, "error", err)
	if id := c.Param("deployment"); id != "" {
		return store.Problemf(store.CodeErrored, "internal error, see deployment %s", id).WithHint("shipgate show %s", id), http.StatusInternalServerError
	}
	return store.Problemf(store.CodeErrored, "internal error").WithHint("shipgate doctor"), http.StatusInternalServerError
}
