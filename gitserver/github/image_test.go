package github

import (
	"testing"

	"github.com/shipgate/shipgate/store"
)

// A push does not deploy an app whose versions are images, however it becomes known.
func TestPushesDoNotDeployImages(t *testing.T) {
	d := newDepot(t)
	d.app("api")
	_, err := d.store.CreateApp(t.Context(), store.App{Name: "web", Source: store.SourceImage, Hosts: []string{"web.localhost"},
		Config: []byte(`{"image":"example.com/web:1","port":8080,"repo_owner":"octo","repo_name":"hello"}`)})
	d.check(err)
	d.forge.heads[mainRef] = shaA
	c := newCatchUp(d.hub)
	c.round(t.Context())
	d.forge.set(func() { d.forge.heads[mainRef] = shaB })
	c.round(t.Context())
	d.wants("looked for", d.shas("api")+"; "+d.shas("web"), "b:caught up; ")
	d.wants("what was seen of the image app's branch", d.head("web", mainRef), "")
	d.start()
	d.wants("told", d.outcome("push", pushed(mainRef, shaB, shaC, 100, "c")),
		"api: deployment 2; web: it deploys an image; shipgate deploy web --image REF deploys it")
	d.wants("deployments", d.shas("web"), "")
}
