package github

import (
	"context"
	"net/http"
	"strconv"

	gh "github.com/google/go-github/v60/github"

	"github.com/shipgate/shipgate/store"
)

// RepositoryIDs asks GitHub for the numbers of a repository and of its owner, which outlive their names. Without a
// connection it is not asked: whoever sets up trust knows which server is meant.
func (g *GitHub) RepositoryIDs(ctx context.Context, owner, name string) (repository, ownerID string, err error) {
	named := store.Repository{Owner: owner, Name: name}
	if err := store.ValidateRepository(named); err != nil {
		return "", "", err
	}
	a, err := g.access(ctx)
	if err != nil {
		return "", "", err
	}
	if a == nil {
		return "", "", store.Problemf(store.CodeUsage, "GitHub is not connected, so the numbers of %s and its owner are needed", named).
			WithHint("gh api repos/%s --jq '.id, .owner.id' shows them; give them as --repo-id and --owner-id", named)
	}
	var answer struct {
		ID    int64 `json:"id"`
		Owner struct {
			ID int64 `json:"id"`
		} `json:"owner"`
	}
	err = a.inRepository(ctx, named, forLook, func(ctx context.Context, client *gh.Client) error {
		return a.do(ctx, client, http.MethodGet, "repos/"+named.String(), nil, &answer)
	})
	if err != nil {
		return "", "", g.problem(err, "look up "+named.String())
	}
	return strconv.FormatInt(answer.ID, 10), strconv.FormatInt(answer.Owner.ID, 10), nil
}
