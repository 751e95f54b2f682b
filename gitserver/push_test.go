package gitserver

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestFirstAndNextPush(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(func(ctx context.Context, d store.Deployment) error {
		return r.store.Log(ctx, d.ID, store.Event{Kind: "build", Text: "step 1\nstep 2 \x1b[31mred"})
	})
	c := r.newClone()
	sha := c.commit("Add search", "index.html", numbered(500, "one"))
	out := c.mustPush("main")
	contains(t, out,
		"remote: hello · "+sha[:7]+" Add search · deployment 1",
		"remote: plan    ", "remote: build   step 1", "remote: build   step 2 [31mred", "remote: live    http://hello.localhost in 0.1 s",
		"* [new branch]      main -> main")
	equal(t, "branch", r.tip("refs/heads/main"), sha)
	equal(t, "hidden ref", r.tip("refs/deployments/1"), sha)
	d, err := r.store.Deployment(t.Context(), 1)
	check(t, err)
	equal(t, "verdict", d.Verdict, store.Succeeded)
	equal(t, "sha", d.SHA, sha)

	next := c.commit("Change a line", "index.html", numbered(500, "two"))
	contains(t, c.mustPush("main"), sha[:7]+".."+next[:7], "deployment 2")
	equal(t, "branch", r.tip("refs/heads/main"), next)
	contains(t, c.mustPush("main"), "Everything up-to-date")
	r.clean()
}

func TestFailedDeploymentKeepsBranch(t *testing.T) {
	r := newRig(t, Limits{})
	w := r.deploy(nil)
	c := r.newClone()
	good := c.commit("Good", "a", "1")
	c.mustPush("main")
	w.become(func(context.Context, store.Deployment) error {
		return errors.New("health check failed: GET /healthz: 503 after 30 s")
	})
	bad := c.commit("Bad", "a", "2")
	out := c.mustFail("! [remote rejected] main -> main (health check failed: GET /healthz: 503 after 30 s)", "main")
	contains(t, out, "remote: failed  health check failed")
	equal(t, "branch", r.tip("refs/heads/main"), good)
	equal(t, "hidden ref", r.tip("refs/deployments/2"), bad)
	// The objects are there already, and are not sent again.
	if out, _ := c.try("push", "--progress", "shipgate", "main"); !strings.Contains(out, "Total 0") {
		t.Errorf("objects were sent again:\n%s", out)
	}
	r.clean()
}
