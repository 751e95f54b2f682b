package deploy

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

const digest = "ghcr.io/acme/hello@sha256:0123"

// imageServer has an app whose images exist elsewhere, and tells what its builder is asked for.
func imageServer(t *testing.T) (*server, *[]store.BuildRequest) {
	t.Helper()
	s := newServer(t)
	s.appOf(store.SourceImage, "web", `{"image":"ghcr.io/acme/hello:1","healthcheck":{"path":"/"}}`)
	var asked []store.BuildRequest
	s.builder.mu.Lock()
	s.builder.artefacts[""] = store.Artefact{Image: image(1), Port: 8080, Digest: digest}
	s.builder.mu.Unlock()
	s.builder.during = func(_ context.Context, request store.BuildRequest) error {
		asked = append(asked, request)
		return nil
	}
	return s, &asked
}

func (s *server) deployImage(app, image string) store.Deployment {
	s.t.Helper()
	d, err := s.store.Enqueue(s.t.Context(), store.NewDeployment{App: app, Trigger: store.TriggerAPI, Image: image})
	s.must(err)
	return d
}

// An image has no commit: none is fetched, no branch moves, also when it is gone back to.
func TestImageIsDeployedWithoutACommit(t *testing.T) {
	s, asked := imageServer(t)
	s.branches.tips["web"] = sha(7)
	var touched []string
	s.setInject(func(point string) error {
		if strings.Contains(point, "obtain commit") || strings.Contains(point, "check branch") {
			touched = append(touched, point)
		}
		return nil
	})
	first := s.wantVerdict(s.deployImage("web", "ghcr.io/acme/hello:2").ID, store.Succeeded, "")
	s.wantVerdict(s.deployImage("web", "ghcr.io/acme/hello:3").ID, store.Succeeded, "")
	if len(*asked) != 2 || (*asked)[0].Image != "ghcr.io/acme/hello:2" || (*asked)[1].Image != "ghcr.io/acme/hello:3" {
		t.Errorf("the builder was asked for %+v", *asked)
	}
	back, err := s.runner.Rollback(t.Context(), "web", first.ID)
	s.must(err)
	s.wantVerdict(back.ID, store.Succeeded, "")
	if tip := s.branches.tip("web"); tip != sha(7) || len(touched) > 0 {
		t.Errorf("the branch says %.7s; %v", tip, touched)
	}
}

// What a Release is made of is looked for when going back is asked for, and again when its turn comes.
func TestRollbackWhoseArtefactIsGone(t *testing.T) {
	s, _ := imageServer(t)
	first := s.wantVerdict(s.deployImage("web", "").ID, store.Succeeded, "")
	second := s.wantVerdict(s.deployImage("web", "").ID, store.Succeeded, "")
	builds := s.gateBuilds()
	s.deployImage("web", "")
	builds.wait(t)
	back, err := s.runner.Rollback(t.Context(), "web", first.ID)
	s.must(err)
	s.builder.mu.Lock()
	s.builder.gone = map[string]bool{image(1): true}
	s.builder.mu.Unlock()
	close(builds.proceed)
	late := s.wantVerdict(back.ID, store.Failed, "is gone")
	if want := "get it again: shipgate deploy web --image " + digest; late.Hint != want {
		t.Errorf("the hint is %q, want %q", late.Hint, want)
	}
	s.builder.mu.Lock()
	s.builder.gone = nil
	s.builder.mu.Unlock()
	kept, err := s.store.Kept(t.Context())
	s.must(err)
	delete(kept.Apps["web"], first.ID)
	_, err = s.store.MarkPruned(t.Context(), kept)
	s.must(err)
	if _, err := s.runner.Rollback(t.Context(), "web", first.ID); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("a release that was pruned: %v", err)
	}
	if _, err := s.runner.Rollback(t.Context(), "web", second.ID); err != nil {
		t.Errorf("a release that was kept: %v", err)
	}
}

// A purge holds for the route and for what later deployments say came before.
func TestPurgeSite(t *testing.T) {
	s := newServer(t)
	s.appOf(store.SourceStatic, "site", `{"publish_dir":"public","deploy_strategy":"blue-green"}`)
	for n := range 3 {
		tree := filepath.Join(s.builder.sites, sha(n))
		s.must(os.MkdirAll(tree, 0o755))
		s.must(os.WriteFile(filepath.Join(tree, "manifest.json"), []byte("{}"), 0o644))
		s.builder.mu.Lock()
		s.builder.artefacts[sha(n)] = store.Artefact{Site: sha(n)}
		s.builder.mu.Unlock()
	}
	s.wantVerdict(s.push("site", 0).ID, store.Succeeded, "")
	s.wantVerdict(s.push("site", 1).ID, store.Succeeded, "")
	without := func() (paths [][]string) {
		route, _, _ := s.router.look("site")
		live, _, err := s.store.Live(t.Context(), "site")
		if err != nil || !route.Target.Equal(live.Target) {
			t.Errorf("routed %+v, live %+v, %v", route.Target, live.Target, err)
		}
		for _, earlier := range route.Target.Earlier {
			paths = append(paths, earlier.Without)
		}
		return paths
	}
	for range 2 { // repeated, it says the same
		if n, err := s.runner.PurgeSite(t.Context(), "site", "/assets/../img/"); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if got := without(); fmt.Sprint(got) != "[[img]]" {
		t.Errorf("without %q", got)
	}
	s.wantVerdict(s.push("site", 2).ID, store.Succeeded, "")
	if got := without(); fmt.Sprint(got) != "[[] [img]]" {
		t.Errorf("after the next deployment without %q", got)
	}
	if n, err := s.runner.PurgeSite(t.Context(), "site", "/"); n != 2 || err != nil || len(without()) != 0 {
		t.Errorf("%d, %v, left %q", n, err, without())
	}
}

// The files of the site that is replaced stay reachable for as long as the config says, counted from the deployment's start.
func TestSiteKeepsTheFilesOfTheOneBefore(t *testing.T) {
	s := newServer(t)
	s.appOf(store.SourceStatic, "site", `{"publish_dir":"public","keep_assets":"2h","deploy_strategy":"blue-green"}`)
	for n := range 2 {
		tree := filepath.Join(s.builder.sites, sha(n))
		s.must(os.MkdirAll(tree, 0o755))
		s.must(os.WriteFile(filepath.Join(tree, "manifest.json"), []byte("{}"), 0o644))
		s.builder.mu.Lock()
		s.builder.artefacts[sha(n)] = store.Artefact{Site: sha(n)}
		s.builder.mu.Unlock()
	}
	s.wantVerdict(s.push("site", 0).ID, store.Succeeded, "")
	second := s.wantVerdict(s.push("site", 1).ID, store.Succeeded, "")
	live, _, err := s.store.Live(t.Context(), "site")
	s.must(err)
	route, _, _ := s.router.look("site")
	want := []store.EarlierSite{{Site: filepath.Join(s.builder.sites, sha(0)), Until: second.StartedAt.Add(2 * time.Hour)}}
	if !live.Target.Equal(store.Target{Deployment: second.ID, Site: live.Target.Site, Earlier: want}) || !route.Target.Equal(live.Target) {
		t.Errorf("live %+v, routed %+v, want earlier %+v", live.Target, route.Target, want)
	}
}
