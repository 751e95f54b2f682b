package action

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

var errTimeout = errors.New("the time is up")

// trigger asks the server to deploy. Asked again with the same key, it gives the same deployment.
func (r *run) trigger(ctx context.Context) (d deployment, err error) {
	body := map[string]any{}
	switch {
	case r.inputs.path != "":
		sha, err := r.upload(ctx)
		if err != nil {
			return d, err
		}
		body["sha"] = sha
		if commitID.MatchString(r.place.sha) {
			body["built_from"] = r.place.sha
		}
	case r.inputs.image != "":
		body["image"] = r.inputs.image
		if r.inputs.sha != "" {
			body["sha"] = r.inputs.sha
		}
	case r.inputs.sha != "":
		body["sha"] = r.inputs.sha
	default:
		body["ref"] = r.inputs.ref
	}
	if r.inputs.strategy != "" {
		body["strategy"] = r.inputs.strategy
	}
	if r.inputs.statusOnly {
		body["github_deployment"] = "off"
	}
	return r.post(ctx, body)
}

func (r *run) post(ctx context.Context, body map[string]any) (d deployment, err error) {
	header := http.Header{}
	if key := r.place.key(r.inputs); key != "" {
		header.Set("Idempotency-Key", key)
	}
	r.asked = body
	err = r.server.call(ctx, http.MethodPost, "/api/v1/apps/"+url.PathEscape(r.inputs.app)+"/deployments", header, body, &d)
	return d, err
}

// showPlan says what a deployment would do, and does nothing.
func (r *run) showPlan(ctx context.Context) error {
	var plan struct {
		Strategy string `json:"strategy"`
		Reason   string `json:"reason"`
		Gap      string `json:"gap"`
	}
	path := "/api/v1/apps/" + url.PathEscape(r.inputs.app) + "/plan?strategy=" + url.QueryEscape(r.inputs.strategy)
	if err := r.server.call(ctx, http.MethodGet, path, nil, nil, &plan); err != nil {
		return err
	}
	r.out.say(fmt.Sprintf("%s would be deployed %s: %s; %s", r.inputs.app, plan.Strategy, plan.Reason, plan.Gap))
	return nil
}

// cancelPatience is less than the 7.5 s after which the runner sends the next signal.
const cancelPatience = 6 * time.Second

// interrupted cancels the deployment or lets it go on, as the workflow wants it. One that was only being asked for is
// asked for again, to learn its number.
func (r *run) interrupted(ctx context.Context, d deployment) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelPatience)
	defer cancel()
	if r.asked == nil {
		return &problem{Code: "cancelled", Message: "cancelled before anything was asked for", Hint: "run the job again"}
	}
	if d.ID == 0 {
		var err error
		if d, err = r.post(ctx, r.asked); err != nil {
			return &problem{Code: "cancelled", Message: "cancelled; whether there is a deployment is not known: " + err.Error(), Hint: "look at " + r.inputs.server}
		}
	}
	if r.inputs.detach {
		return &problem{Code: "cancelled", Message: fmt.Sprintf("cancelled; deployment %d goes on (on-cancel: detach)", d.ID), Hint: "look at " + r.server.page(d)}
	}
	if err := r.cancel(ctx, d.ID); err != nil {
		return &problem{Code: "cancelled", Message: fmt.Sprintf("cancelled; deployment %d could not be cancelled: %v", d.ID, err), Hint: fmt.Sprintf("shipgate cancel %d", d.ID)}
	}
	return &problem{Code: "cancelled", Message: fmt.Sprintf("cancelled; the server was asked to cancel deployment %d", d.ID), Hint: "look at " + r.server.page(d)}
}

// cancel asks the server to cancel, with another token where the one at hand is out of time.
func (r *run) cancel(ctx context.Context, id int64) error {
	ask := func() error {
		return r.server.call(ctx, http.MethodPost, fmt.Sprintf("/api/v1/deployments/%d/cancel", id), nil, nil, nil)
	}
	err := ask()
	var refused *problem
	if !errors.As(err, &refused) || refused.Code != "unauthorised" || r.server.asked == nil {
		return err
	}
	if err := r.server.renew(ctx); err != nil {
		return err
	}
	return ask()
}
