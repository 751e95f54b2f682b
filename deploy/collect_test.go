package deploy

import (
	"testing"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

// Only what nothing needs is collected: not what is live, of a stack, or of an app at work, and nothing at all when only a look
// was asked for.
func TestCollect(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{})
	stack := s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
	live := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	s.app("busy", `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	stray := func(app string, deployment int64, free string) string {
		spec, _ := s.engine.Spec(live.Container)
		spec.Name, spec.App, spec.Deployment, spec.Address = store.ContainerName(s.store.ServerID(), app, deployment), app, deployment, sockets(free)[0]
		s.must(s.engine.Start(t.Context(), spec))
		return spec.Name
	}
	old, busy, unknown := stray(appName, 77, "10.214.3.1:8080"), stray("busy", 78, "10.214.3.2:8080"), stray("gone", 79, "10.214.3.3:8080")
	s.app("gone", `{"deploy_strategy":"blue-green"}`)
	s.must(s.store.DestroyApp(t.Context(), "gone"))
	builds := s.gateBuilds()
	s.push("busy", 2)
	builds.wait(t)
	all := map[string]bool{stack.Container: true, "shipgate-shop-other-1": true, live.Container: true, busy: true, old: true, unknown: true}
	for _, dry := range []bool{true, false} {
		garbage, err := s.runner.Collect(t.Context(), dry)
		s.must(err)
		if len(garbage) != 2 || garbage[0].Name != unknown || garbage[1].Name != old || garbage[1].Kind != "container" || garbage[1].App != appName {
			t.Errorf("dry %t: %+v", dry, garbage)
		}
		if !dry {
			delete(all, old)
			delete(all, unknown)
		}
		s.wantStates(all)
	}
	close(builds.proceed)
}
