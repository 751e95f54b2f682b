package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// What a request wants of its one deployment, against what the app's config says.
func TestWishesOfADeployment(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for body, want := range map[string]store.Deployment{
		`{}`:                                   {},
		`{"strategy":""}`:                      {},
		`{"strategy":"recreate"}`:              {AskedStrategy: "recreate"},
		`{"ref":"main","strategy":"recreate"}`: {AskedStrategy: "recreate"},
		`{"github_deployment":"auto"}`:         {},
		`{"github_deployment":"off"}`:          {StatusOnly: true},
		`{"sha":"` + secondCommit + `","strategy":"blue-green","github_deployment":"off"}`: {AskedStrategy: "blue-green", StatusOnly: true},
	} {
		var made deploymentJSON
		l.deploy("hello", body, "").must(t, 202).into(t, &made)
		d, err := l.store.Deployment(t.Context(), made.ID)
		if err != nil || d.AskedStrategy != want.AskedStrategy || d.StatusOnly != want.StatusOnly {
			t.Errorf("%s gives %q, %t, %v", body, d.AskedStrategy, d.StatusOnly, err)
		}
	}
	for _, body := range []string{
		`{"built_from":"` + firstCommit + `"}`, `{"ref":"main","built_from":"` + firstCommit + `"}`, `{"sha":"` + secondCommit + `","built_from":"abc"}`,
	} {
		l.problem("POST", "/api/v1/apps/hello/deployments", body, 400)
	}
	var built deploymentJSON
	l.deploy("hello", `{"sha":"`+secondCommit+`","built_from":"`+firstCommit+`"}`, "").must(t, 202).into(t, &built)
	if built.SHA != secondCommit || built.BuiltFrom != firstCommit {
		t.Errorf("built %+v", built)
	}
	for _, body := range []string{`{"strategy":"rolling"}`, `{"github_deployment":"on"}`, `{"rollback_to":0,"strategy":"recreate"}`} {
		l.problem("POST", "/api/v1/apps/hello/deployments", body, 400)
	}
	l.ask("POST", "/api/v1/apps", `{"name":"stack","source":"compose","hosts":["stack.localhost"]}`).must(t, 201)
	l.deploy("stack", `{"strategy":"recreate"}`, "").must(t, 202)
	problem := l.problem("POST", "/api/v1/apps/stack/deployments", `{"strategy":"blue-green"}`, 400)
	if !strings.Contains(problem.Message, "Compose manages the stack itself") {
		t.Errorf("problem %+v", problem)
	}
}

func TestPlanOfAWish(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for query, want := range map[string]store.Strategy{"": store.BlueGreen, "?strategy=": store.BlueGreen, "?strategy=recreate": store.Recreate} {
		var plan store.Plan
		l.ask("GET", "/api/v1/apps/hello/plan"+query, "").must(t, 200).into(t, &plan)
		if plan.Strategy != want {
			t.Errorf("%s plans %s", query, plan.Strategy)
		}
	}
	l.problem("GET", "/api/v1/apps/hello/plan?strategy=rolling", "", 400)
}

// GitHub makes a deployment of each job with an environment, so that ours would be the second.
func TestJobsWithAnEnvironmentHaveTheirDeployment(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for environment, want := range map[string]bool{"": false, "production": true} {
		secret, _, fresh, err := l.store.Exchange(t.Context(), store.Identity{Issuer: "i", Number: "n" + environment, Environment: environment, ExpiresAt: time.Now().Add(time.Hour)}, "hello", time.Hour)
		if err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		request := l.request("POST", "/api/v1/apps/hello/deployments", `{"github_deployment":"auto"}`)
		request.Header.Set("Authorization", "Bearer "+secret)
		var made deploymentJSON
		l.send(request).must(t, 202).into(t, &made)
		if d, err := l.store.Deployment(t.Context(), made.ID); err != nil || d.StatusOnly != want {
			t.Errorf("environment %q: only a status %t, %v", environment, d.StatusOnly, err)
		}
	}
}

func TestOutcomeOfADeployment(t *testing.T) {
	l := newLab(t)
	l.base = "https://deploy.example.com"
	l.createApp("hello")
	show := func(d store.Deployment) (shown deploymentJSON) {
		l.ask("GET", fmt.Sprintf("/api/v1/deployments/%d", d.ID), "").must(t, 200).into(t, &shown)
		return shown
	}
	first := l.advance(l.enqueue("hello"), store.StepDone)
	waiting := l.enqueue("hello")
	got := show(waiting)
	if got.LogURL != fmt.Sprintf("https://deploy.example.com/deployments/%d", waiting.ID) || got.PreviousRelease != first.Release || got.ImageDigest != "" ||
		got.DurationMS != 0 || got.CutoverMS != 0 || len(got.Steps) != 1 {
		t.Errorf("before the build: %+v", got.outcomeJSON)
	}
	built, err := l.store.Advance(t.Context(), waiting, store.StepBuilt, store.Change{Release: &store.Release{
		App: "hello", Source: store.SourceDockerfile, Config: []byte("{}"), SealedEnv: l.sealed(nil), Artefact: store.Artefact{Image: "sha256:b1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond) // to start it
	healthy := l.advance(built, store.StepHealthy)
	time.Sleep(20 * time.Millisecond) // between healthy and live
	got = show(l.advance(healthy, store.StepDone))
	names := []string{}
	for _, one := range got.Steps {
		names = append(names, one.Name)
	}
	if !slices.Equal(names, []string{"wait", "build", "start", "gate", "route", "live", "drain"}) {
		t.Errorf("steps %v", names)
	}
	if got.ImageDigest != "sha256:b1" || got.CutoverMS < 20 || got.DurationMS < got.CutoverMS+30 || got.DurationMS != got.FinishedAt.Sub(got.CreatedAt).Milliseconds() {
		t.Errorf("at the end: %+v", got.outcomeJSON)
	}
	for _, test := range []struct {
		artefact store.Artefact
		want     string
	}{
		{store.Artefact{Image: "sha256:b1", Digest: "hello@sha256:d1"}, "hello@sha256:d1"}, {store.Artefact{Image: "hello:3"}, ""}, {store.Artefact{Site: "site-3"}, ""},
	} {
		made, err := l.store.Advance(t.Context(), l.enqueue("hello"), store.StepBuilt, store.Change{Release: &store.Release{
			App: "hello", Source: store.SourceImage, Config: []byte("{}"), SealedEnv: l.sealed(nil), Artefact: test.artefact,
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got = show(made); got.ImageDigest != test.want {
			t.Errorf("%+v gives the digest %q", test.artefact, got.ImageDigest)
		}
		l.advance(made, store.StepDone)
	}
	l.ask("PATCH", "/api/v1/apps/hello", `{"config":{"repo_owner":"o","repo_name":"r","public_logs":true}}`).must(t, 200)
	if got = show(first); got.LogURL != fmt.Sprintf("https://deploy.example.com/deployments/%d?key=%s", first.ID, l.store.PageKey(first.ID)) {
		t.Errorf("its public log is at %s", got.LogURL)
	}
}

func TestProtocolIsSaid(t *testing.T) {
	l := newLab(t)
	for path, status := range map[string]int{"/api/v1/apps": 200, "/api/v1/apps/nobody": 404, "/healthz": 200} {
		if got := l.ask("GET", path, "").must(t, status); got.header.Get("Shipgate-Protocol") != "1" {
			t.Errorf("%s: protocol %q", path, got.header.Get("Shipgate-Protocol"))
		}
	}
}

// The plan names the VOLUME paths of the live image that the app has no volume for.
func TestPlanNamesUncoveredVolumes(t *testing.T) {
	l := newLab(t)
	l.volumes = "/data"
	l.createApp("hello")
	l.advance(l.enqueue("hello"), store.StepLive)
	if got := l.ask("GET", "/api/v1/apps/hello/plan", "").must(t, 200).body; !strings.Contains(got, `"uncovered_volumes":["/data"]`) {
		t.Errorf("plan %s", got)
	}
}

// Of a release whose VOLUME paths were not stored, by an earlier version, the engine says them; without it there is a plan all the same.
func TestPlanNamesUncoveredVolumesOfOlderReleases(t *testing.T) {
	l := newLab(t)
	l.imageVolumes = map[string]string{"sha256:older": "/data\n/logs", "sha256:hung": "away"}
	for app, want := range map[string]string{"older": `"uncovered_volumes":["/data","/logs"]`, "hung": `"strategy"`, "none": `"strategy"`} {
		l.image = "sha256:" + app
		l.createApp(app)
		l.advance(l.enqueue(app), store.StepLive)
		got := l.ask("GET", "/api/v1/apps/"+app+"/plan", "").must(t, 200).body
		if !strings.Contains(got, want) || strings.Contains(got, "uncovered_volumes") != (app == "older") {
			t.Errorf("plan of %s: %s", app, got)
		}
	}
}
