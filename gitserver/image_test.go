package gitserver

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// A push to an app whose versions are images is stored, and says what deploys.
func TestPushToAnImageApp(t *testing.T) {
	r := newRig(t, Limits{})
	app, err := r.store.CreateApp(t.Context(), store.App{Name: "web", Source: store.SourceImage,
		Config: []byte(`{"image":"example.com/web:1","port":8080}`), Hosts: []string{"web.localhost"}})
	check(t, err)
	token, _, err := r.store.CreateToken(t.Context(), store.Token{Name: "web", App: app.Name, Rights: store.Rights{store.RightDeploy}})
	check(t, err)
	c := r.newClone()
	c.git("remote", "set-url", "shipgate", strings.Replace(r.http.URL, "http://", "http://x:"+token+"@", 1)+"/web.git")
	first := c.commit("one", "a", "1")
	contains(t, c.mustPush("main", "main:feature"),
		"main stored; web deploys an image: shipgate deploy web --image REF", "feature stored; web deploys an image")
	c.git("tag", "v1")
	c.commit("two", "a", "2")
	c.mustPush("--atomic", "main", "v1")
	contains(t, c.mustPush("--delete", "main"), "main deleted")
	all, err := r.store.Deployments(t.Context(), "web", 10)
	check(t, err)
	equal(t, "deployments", len(all), 0)
	repository := r.server.repositories["web"]
	stored, err := repository.refs.all()
	check(t, err)
	equal(t, "refs", len(stored), 2)
	equal(t, "feature", stored["refs/heads/feature"].String(), first)
	hidden, err := repository.refs.deployments()
	check(t, err)
	equal(t, "refs of deployments", len(hidden), 0)
}
