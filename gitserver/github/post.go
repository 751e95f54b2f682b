package github

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	gh "github.com/google/go-github/v60/github"

	"github.com/shipgate/shipgate/store"
)

// longestDescription is what live GitHub takes, in characters, of a status' description; its REST description does not say.
const longestDescription = 140

// deliver tells GitHub of one post.
func (g *GitHub) deliver(ctx context.Context, a *access, post store.Post) error {
	if err := store.ValidateCommitID(post.SHA); err != nil {
		return err
	}
	if post.Kind == store.PostDeployment {
		return g.postDeployment(ctx, a, post)
	}
	return g.postStatus(ctx, a, post)
}

// postStatus sets the commit status. GitHub keeps at most 1000 of one context and commit; ours are two for each deployment.
func (g *GitHub) postStatus(ctx context.Context, a *access, post store.Post) error {
	status := &gh.RepoStatus{
		State: new(statusState(post.Verdict)), TargetURL: new(g.pageOf(post)), Context: new(post.Context()),
		Description: new(g.describe(post)),
	}
	return a.inRepository(ctx, post.Repository, forStatus, func(ctx context.Context, client *gh.Client) error {
		if post.Attempts > 0 {
			if there, err := isThere(ctx, client, post, status); there || err != nil {
				return err
			}
		}
		path := fmt.Sprintf("repos/%s/statuses/%s", post.Repository, post.SHA)
		return a.do(ctx, client, http.MethodPost, path, status, nil)
	})
}

// isThere says whether an earlier attempt got through, of which we never had the answer.
func isThere(ctx context.Context, client *gh.Client, post store.Post, status *gh.RepoStatus) (bool, error) {
	request, err := client.NewRequest(http.MethodGet, fmt.Sprintf("repos/%s/commits/%s/statuses?per_page=100", post.Repository, post.SHA), nil)
	if err != nil {
		return false, fmt.Errorf("make request: %w", err)
	}
	var newestFirst []*gh.RepoStatus
	if _, err := client.Do(ctx, request, &newestFirst); err != nil {
		return false, err
	}
	for _, there := range newestFirst {
		if strings.EqualFold(there.GetContext(), status.GetContext()) {
			return there.GetState() == status.GetState() && there.GetTargetURL() == status.GetTargetURL() &&
				there.GetDescription() == status.GetDescription(), nil
		}
	}
	return false, nil
}

func statusState(verdict store.Verdict) string {
	switch verdict {
	case "":
		return "pending"
	case store.Succeeded:
		return "success"
	case store.Failed:
		return "failure"
	}
	return "error"
}

// describe says in one short line how a deployment stands.
func (g *GitHub) describe(post store.Post) string {
	text := cmp.Or(post.Reason, string(post.Verdict))
	switch post.Verdict {
	case "":
		text = fmt.Sprintf("Deployment %d is under way", post.Deployment)
	case store.Succeeded:
		text = "Live in " + seconds(post.Took)
		if address := g.addressOf(post); address != "" {
			text = "Live at " + address + " in " + seconds(post.Took)
		}
	}
	return oneLine(g.Store.Masked(text), longestDescription)
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// addressOf gives where the app is to be seen; empty when that is nowhere, or under many names.
func (g *GitHub) addressOf(post store.Post) string {
	if post.Host == "" || strings.HasPrefix(post.Host, "*") || g.URL == nil {
		return ""
	}
	return g.URL(post.Host)
}

// pageOf gives the address of the deployment's page. Where the app shows its logs to the public, it opens to every reader.
func (g *GitHub) pageOf(post store.Post) string {
	page := fmt.Sprintf("%s/deployments/%d", g.base, post.Deployment)
	if post.PublicLogs {
		page += "?key=" + g.Store.PageKey(post.Deployment)
	}
	return page
}
