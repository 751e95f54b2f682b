package web

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// trustRequest is a rule without what the server knows itself. Without the numbers, the forge is asked for them.
type trustRequest struct {
	Issuer       string   `json:"issuer"`
	Repository   string   `json:"repository"`
	RepositoryID string   `json:"repository_id"`
	OwnerID      string   `json:"repository_owner_id"`
	Ref          string   `json:"ref"`
	Environment  string   `json:"environment"`
	Events       []string `json:"events"`
	Workflow     string   `json:"job_workflow_ref"`
}

func (s *server) listTrust(c echo.Context) error {
	app, err := s.Store.App(c.Request().Context(), c.Param("app"))
	if err != nil {
		return err
	}
	rules, err := s.Store.Trusts(c.Request().Context(), app.Name)
	if err != nil {
		return err
	}
	if rules == nil {
		rules = []store.Trust{}
	}
	return c.JSON(http.StatusOK, rules)
}

func (s *server) addTrust(c echo.Context) error {
	var request trustRequest
	if err := decode(c, &request); err != nil {
		return err
	}
	owner, name, ok := strings.Cut(request.Repository, "/")
	if !ok || owner == "" || name == "" || strings.Contains(name, "/") {
		return store.Problemf(store.CodeUsage, "repository %q is not OWNER/NAME", request.Repository)
	}
	if err := s.fillNumbers(c.Request().Context(), &request, owner, name); err != nil {
		return err
	}
	rule, err := s.Store.AddTrust(c.Request().Context(), store.Trust{
		App: c.Param("app"), Issuer: cmp.Or(request.Issuer, s.Identities.Issuer()), Repository: request.Repository, RepositoryID: request.RepositoryID, OwnerID: request.OwnerID,
		Ref: request.Ref, Environment: request.Environment, Events: request.Events, Workflow: request.Workflow,
	})
	if err != nil {
		return err
	}
	noteDetail(c, "rule %d, %s", rule.ID, rule.Describe())
	return c.JSON(http.StatusCreated, rule)
}

// fillNumbers asks the forge for the numbers that were not given.
func (s *server) fillNumbers(ctx context.Context, request *trustRequest, owner, name string) error {
	if request.RepositoryID != "" && request.OwnerID != "" {
		return nil
	}
	repositoryID, ownerID, err := s.GitHub.RepositoryIDs(ctx, owner, name)
	if err != nil {
		return err
	}
	for _, number := range []struct {
		what  string
		given *string
		known string
	}{{"repository", &request.RepositoryID, repositoryID}, {"owner", &request.OwnerID, ownerID}} {
		if *number.given != "" && *number.given != number.known {
			return store.Problemf(store.CodeUsage, "the %s of %s/%s has the number %s, not %s", number.what, owner, name, number.known, *number.given)
		}
		*number.given = number.known
	}
	return nil
}

func (s *server) removeTrust(c echo.Context) error {
	id, err := strconv.ParseInt(c.Param("trust"), 10, 64)
	if err != nil {
		return store.Problemf(store.CodeUsage, "%q is not the number of a trust", c.Param("trust")).WithHint("shipgate trust %s", c.Param("app"))
	}
	noteDetail(c, "rule %d", id)
	if err := s.Store.RemoveTrust(c.Request().Context(), c.Param("app"), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
