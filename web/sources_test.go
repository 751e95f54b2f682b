package web

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestDeployImage(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"shop","source":"image","config":{"image":"ghcr.io/acme/shop:1"}}`).must(t, 201)
	for body, want := range map[string]struct{ image, sha string }{
		`{}`:                              {"ghcr.io/acme/shop:1", ""},
		`{"image":"ghcr.io/acme/shop:2"}`: {"ghcr.io/acme/shop:2", ""},
		`{"image":"shop","sha":"` + firstCommit + `"}`: {"shop", firstCommit},
	} {
		var d store.Deployment
		l.ask("POST", "/api/v1/apps/shop/deployments", body).must(t, 202).into(t, &d)
		if d.Image != want.image || d.SHA != want.sha || d.Subject != want.image {
			t.Errorf("%s: image %q, commit %q, subject %q", body, d.Image, d.SHA, d.Subject)
		}
	}
	for body, hint := range map[string]string{
		`{"ref":"main"}`: "--image", `{"sha":"` + firstCommit + `"}`: "--image", `{"image":"Not An Image"}`: "docker pull",
	} {
		if problem := l.problem("POST", "/api/v1/apps/shop/deployments", body, 400); !strings.Contains(problem.Hint, hint) {
			t.Errorf("%s: hint %q does not name %q", body, problem.Hint, hint)
		}
	}
}

func TestRegistriesKeepTheirPasswords(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"shop","source":"static"}`).must(t, 201)
	l.ask("PUT", "/api/v1/registries/ghcr.io", `{"username":"robot","password":"open-sesame-42"}`).must(t, 204)
	l.ask("PUT", "/api/v1/registries/127.0.0.1:5000", `{"username":"robot","password":"another-42-word"}`).must(t, 204)
	listed := l.ask("GET", "/api/v1/registries", "").must(t, 200)
	if strings.Contains(listed.body, "sesame") || !strings.Contains(listed.body, `"host":"ghcr.io","app":"","username":"robot"`) {
		t.Errorf("listed: %s", listed.body)
	}
	if _, password, found, err := l.store.RegistryLogin(t.Context(), "", "127.0.0.1:5000"); err != nil || !found || password != "another-42-word" {
		t.Errorf("login %q, %v, %v", password, found, err)
	}
	l.ask("DELETE", "/api/v1/registries/ghcr.io", "").must(t, 204)
	l.problem("DELETE", "/api/v1/registries/ghcr.io", "", 404)
	l.problem("PUT", "/api/v1/registries/ghcr.io", `{"username":"robot"}`, 400)
	l.ask("PUT", "/api/v1/registries/quay.io?app=shop", `{"username":"robot","password":"open-sesame-42"}`).must(t, 204)
	if _, _, found, err := l.store.RegistryLogin(t.Context(), "other", "quay.io"); err != nil || found {
		t.Errorf("another app has the login of shop: %t, %v", found, err)
	}
	l.problem("PUT", "/api/v1/registries/quay.io?app=none", `{"username":"robot","password":"open-sesame-42"}`, 404)
	l.problem("DELETE", "/api/v1/registries/quay.io", "", 404)
	l.ask("DELETE", "/api/v1/registries/quay.io?app=shop", "").must(t, 204)
}

func TestCollectSaysWhatItDidAndWhatItCouldNot(t *testing.T) {
	l := newLab(t)
	var dry []bool
	l.collect = func(_ context.Context, only bool) ([]store.Garbage, error) {
		dry = append(dry, only)
		return []store.Garbage{{Kind: "image", App: "shop", Name: "shipgate/shop:1", Bytes: 5}, {Kind: "ref", Name: "x", Bytes: 2}}, errors.New("no engine")
	}
	var answer struct {
		Items   []store.Garbage
		Bytes   int64
		Trouble string
	}
	l.ask("POST", "/api/v1/gc", `{"dry_run":true}`).must(t, 200).into(t, &answer)
	l.ask("POST", "/api/v1/gc", ``).must(t, 200)
	if len(answer.Items) != 2 || answer.Bytes != 7 || answer.Trouble != "no engine" {
		t.Errorf("answer %+v", answer)
	}
	if len(dry) != 2 || !dry[0] || dry[1] {
		t.Errorf("asked to only look: %v", dry)
	}
	l.collect = func(context.Context, bool) ([]store.Garbage, error) { return nil, errors.New("no database") }
	l.problem("POST", "/api/v1/gc", ``, 500)
}

func TestPlanHeedsTheCommitsOwnFile(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"blog","source":"dockerfile","config":{"deploy_strategy":"recreate"}}`).must(t, 201)
	l.git.files = map[string]string{firstCommit + "/shipgate.yaml": "strategy: blue-green\n"}
	var plan store.Plan
	l.ask("GET", "/api/v1/apps/blog/plan", "").must(t, 200).into(t, &plan)
	if plan.Strategy != store.BlueGreen {
		t.Errorf("plan %v, want the file's blue-green", plan)
	}
	l.git.files = map[string]string{firstCommit + "/shipgate.yaml": "hosts: [a]\n"}
	l.problem("GET", "/api/v1/apps/blog/plan", "", 422)
	l.git.tip = ""
	l.ask("GET", "/api/v1/apps/blog/plan", "").must(t, 200)
}

func TestSchemaIsServedToAll(t *testing.T) {
	l := newLab(t)
	request := l.request("GET", "/schema/shipgate.json", "")
	request.Header.Del("Authorization")
	if answer := l.send(request).must(t, 200); !strings.Contains(answer.body, "json-schema.org") {
		t.Errorf("answer %s", answer.body)
	}
}
