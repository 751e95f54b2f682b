package github

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	gh "github.com/google/go-github/v60/github"

	"github.com/shipgate/shipgate/store"
)

// mark is what a GitHub Deployment of ours carries, by which it is found again.
type mark struct {
	Shipgate struct {
		Server     string `json:"server"`
		Deployment int64  `json:"deployment"`
	} `json:"shipgate"`
}

func (g *GitHub) markOf(post store.Post) (m mark) {
	m.Shipgate.Server, m.Shipgate.Deployment = g.Store.ServerID(), post.Deployment
	return m
}

// postDeployment makes the GitHub Deployment, unless it is there, and says how it stands.
func (g *GitHub) postDeployment(ctx context.Context, a *access, post store.Post) error {
	return a.inRepository(ctx, post.Repository, forDeployment, func(ctx context.Context, client *gh.Client) error {
		id, err := g.ensureDeployment(ctx, client, post)
		if err != nil {
			return err
		}
		status := &gh.DeploymentStatusRequest{
			State: new(deploymentState(post.Verdict)), LogURL: new(g.pageOf(post)), Description: new(g.describe(post)),
		}
		if address := g.addressOf(post); address != "" && post.Verdict == store.Succeeded {
			status.EnvironmentURL = &address
		}
		_, _, err = client.Repositories.CreateDeploymentStatus(ctx, post.Repository.Owner, post.Repository.Name, id, status)
		return err
	})
}

// deploymentState calls what was cancelled or superseded an error, as the commit status does: "inactive" would say that it
// had been live.
func deploymentState(verdict store.Verdict) string {
	if verdict == "" {
		return "in_progress"
	}
	return statusState(verdict)
}

func (g *GitHub) ensureDeployment(ctx context.Context, client *gh.Client, post store.Post) (id int64, err error) {
	id, err = g.Store.ForgeDeployment(ctx, post.Deployment)
	if id != 0 || err != nil {
		return id, err
	}
	tried, err := g.triedBefore(ctx, post)
	if err == nil && tried {
		id, err = g.findDeployment(ctx, client, post)
	}
	if err == nil && id == 0 {
		id, err = g.createDeployment(ctx, client, post)
	}
	if err != nil {
		return 0, err
	}
	return id, g.Store.SetForgeDeployment(context.WithoutCancel(ctx), post.Deployment, id)
}

// triedBefore says whether the deployment may be at GitHub already: by an earlier attempt, or by the pending post that this
// one has taken the place of.
func (g *GitHub) triedBefore(ctx context.Context, post store.Post) (bool, error) {
	posts, err := g.Store.Posts(ctx, post.Deployment)
	return post.Attempts > 0 || slices.ContainsFunc(posts, func(other store.Post) bool {
		return other.ID != post.ID && other.Kind == post.Kind && other.Attempts > 0
	}), err
}

func (g *GitHub) findDeployment(ctx context.Context, client *gh.Client, post store.Post) (id int64, err error) {
	found, _, err := client.Repositories.ListDeployments(ctx, post.Repository.Owner, post.Repository.Name, &gh.DeploymentsListOptions{
		SHA: post.SHA, Environment: post.Environment, ListOptions: gh.ListOptions{PerPage: 100},
	})
	if err != nil {
		return 0, err
	}
	want := g.markOf(post)
	for _, deployment := range found {
		if readMark(deployment.Payload) == want {
			return deployment.GetID(), nil
		}
	}
	return 0, nil
}

// readMark reads a payload, which GitHub gives as an object or as a text that holds one. That of others is no mark.
func readMark(payload json.RawMessage) (m mark) {
	var text string
	if json.Unmarshal(payload, &text) == nil {
		payload = json.RawMessage(text)
	}
	if json.Unmarshal(payload, &m) != nil {
		return mark{}
	}
	return m
}

// createDeployment asks GitHub neither to merge anything nor to wait for any status, our own pending one among them.
func (g *GitHub) createDeployment(ctx context.Context, client *gh.Client, post store.Post) (id int64, err error) {
	created, _, err := client.Repositories.CreateDeployment(ctx, post.Repository.Owner, post.Repository.Name, &gh.DeploymentRequest{
		Ref: new(post.SHA), Task: new("deploy"), AutoMerge: new(false), RequiredContexts: &[]string{}, Environment: new(post.Environment),
		Description: new(oneLine(fmt.Sprintf("%s, deployment %d", post.App, post.Deployment), longestDescription)), Payload: g.markOf(post),
	})
	var accepted *gh.AcceptedError
	if errors.As(err, &accepted) || (err == nil && created.GetID() == 0) {
		return 0, &trouble{kind: transient, message: "GitHub accepted the deployment without making it"}
	}
	return created.GetID(), err
}
