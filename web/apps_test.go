package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestAppFromBeginningToEnd(t *testing.T) {
	l := newLab(t)
	var apps []appJSON
	if l.ask("GET", "/api/v1/apps", "").must(t, 200).into(t, &apps); apps == nil || len(apps) != 0 {
		t.Errorf("no apps are %+v", apps)
	}
	var app appJSON
	l.ask("POST", "/api/v1/apps", `{"name":"hello","source":"dockerfile","hosts":["Hello.localhost"],"config":{"port":8080}}`).must(t, 201).into(t, &app)
	if app.Strategy != store.Recreate || app.URL != "http://hello.localhost" || app.Live != nil {
		t.Errorf("created %+v", app)
	}
	l.advance(l.enqueue("hello"), store.StepDone)
	l.ask("GET", "/api/v1/apps/hello", "").must(t, 200).into(t, &app)
	if app.Live == nil || app.Live.Deployment != 1 || app.Live.Container != store.ContainerName(l.store.ServerID(), "hello", 1) {
		t.Errorf("live is %+v", app.Live)
	}
	l.ask("DELETE", "/api/v1/apps/hello?with_data=true", "").must(t, 204)
	if !slices.Equal(l.runner.destroyed, []string{"hello"}) || !slices.Equal(l.git.destroyed, []string{"hello"}) || !slices.Equal(l.forgotten, []string{"hello with data"}) {
		t.Errorf("destroyed %v, %v, %v", l.runner.destroyed, l.git.destroyed, l.forgotten)
	}
	l.problem("GET", "/api/v1/apps/hello", "", 404)
	l.problem("DELETE", "/api/v1/apps/hello", "", 404)
}

func TestAppWithoutHostsHasAnEmptyList(t *testing.T) {
	l := newLab(t)
	got := l.ask("POST", "/api/v1/apps", `{"name":"worker","source":"dockerfile"}`).must(t, 201)
	if !strings.Contains(got.body, `"hosts":[]`) || !strings.Contains(got.body, `"url":""`) {
		t.Error(got.body)
	}
}

// Data is kept unless somebody asked to lose it, and everything is kept when the runner cannot let go.
func TestDestroyKeepsWhatItMust(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.runner.refuseNext = store.Problemf(store.CodeErrored, "the engine is away")
	l.problem("DELETE", "/api/v1/apps/hello", "", 500)
	l.ask("GET", "/api/v1/apps/hello", "").must(t, 200)
	if len(l.git.destroyed) != 0 || len(l.forgotten) != 0 {
		t.Errorf("lost %v, %v", l.git.destroyed, l.forgotten)
	}
	l.ask("DELETE", "/api/v1/apps/hello", "").must(t, 204)
	if !slices.Equal(l.forgotten, []string{"hello"}) {
		t.Errorf("forgot %v", l.forgotten)
	}
}

func TestAppThatCannotBe(t *testing.T) {
	l := newLab(t)
	l.createApp("taken")
	for body, want := range map[string]struct {
		status int
		text   string
	}{
		`{"name":"Bad Name","source":"dockerfile"}`:                                  {400, "app name"},
		`{"name":"a","source":"dockerfile","hosts":["http://x"]}`:                    {400, "is not a host name"},
		`{"name":"a","source":"rocket"}`:                                             {400, "unknown"},
		`{"name":"a","source":"compose","config":{"deploy_strategy":"blue-green"}}`:  {400, "not possible for compose"},
		`{"name":"a","source":"image"}`:                                              {400, "image is missing"},
		`{"name":"a","source":"dockerfile","config":{"deploy_strategy":"sideways"}}`: {400, "recreate or blue-green"},
		`{"name":"a","source":"dockerfile","config":{"prot":8080}}`:                  {400, "prot"},
		`{"name":"a","source":"dockerfile","colour":"red"}`:                          {400, "colour"},
		`{"name":"a"`:                                                    {400, "cannot be read"},
		`{"name":"a","source":"dockerfile"} {}`:                          {400, "more than one"},
		`{"name":"a","source":"dockerfile"} x`:                           {400, "cannot be read"},
		`{"name":"taken","source":"dockerfile"}`:                         {409, "already"},
		`{"name":"b","source":"dockerfile","hosts":["taken.localhost"]}`: {409, "belongs to app"},
		`{"name":"` + strings.Repeat("a", 2<<20) + `"}`:                  {413, "larger than"},
	} {
		problem := l.problem("POST", "/api/v1/apps", body, want.status)
		if !strings.Contains(problem.Message, want.text) {
			t.Errorf("%.80s: %s", body, problem.Message)
		}
	}
}

// A body whose length is not said beforehand is bounded as well.
func TestLongBodyOfUnknownLength(t *testing.T) {
	l := newLab(t)
	request := l.request("POST", "/api/v1/apps", "x")
	request.Body, request.ContentLength, request.GetBody = http.NoBody, -1, nil
	request.Body = readCloser{strings.NewReader(`{"name":"` + strings.Repeat("a", 2<<20) + `"}`)}
	l.send(request).must(t, http.StatusRequestEntityTooLarge)
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestUpdateMergesConfig(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"hello","source":"dockerfile","hosts":["a.localhost"],
		"config":{"port":80,"healthcheck":{"path":"/up","timeout":"5s"},"build_args":{"A":"1"}}}`).must(t, 201)
	for _, step := range []struct{ change, want string }{
		{`{}`, `{"port":80,"healthcheck":{"path":"/up","timeout":"5s"},"build_args":{"A":"1"}}`},
		{`{"config":{"healthcheck":{"timeout":"9s"}}}`, `{"port":80,"healthcheck":{"path":"/up","timeout":"9s"},"build_args":{"A":"1"}}`},
		{`{"config":{"port":null,"build_args":{"A":null,"B":"2"}}}`, `{"healthcheck":{"path":"/up","timeout":"9s"},"build_args":{"B":"2"}}`},
		{`{"config":{"healthcheck":null,"resources":{"memory":"64m"}}}`, `{"build_args":{"B":"2"},"resources":{"memory":67108864}}`},
	} {
		var app appJSON
		l.ask("PATCH", "/api/v1/apps/hello", step.change).must(t, 200).into(t, &app)
		if !sameJSON(t, app.Config, []byte(step.want)) {
			t.Errorf("%s gives %s, want %s", step.change, app.Config, step.want)
		}
	}
	if len(l.runner.rerouted) != 0 {
		t.Error("the route moved without a change of hosts")
	}
	l.problem("PATCH", "/api/v1/apps/hello", `{"config":[]}`, 400)
	l.problem("PATCH", "/api/v1/apps/hello", `{"config":{"nonsense":1}}`, 400)
	l.problem("PATCH", "/api/v1/apps/hello", `{"source":"static"}`, 400)
	l.problem("PATCH", "/api/v1/apps/nobody", `{}`, 404)
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var left, right any
	if err := errors.Join(json.Unmarshal(a, &left), json.Unmarshal(b, &right)); err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(left)
	y, _ := json.Marshal(right)
	return string(x) == string(y)
}

// A route that could not follow its hosts follows when the same change is asked for again.
func TestUpdateMovesTheRoute(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.runner.refuseNext = errors.New("secret detail of the proxy")
	problem := l.problem("PATCH", "/api/v1/apps/hello", `{"hosts":["new.localhost"]}`, 500)
	if problem.Message != "internal error" {
		t.Errorf("the answer is %q", problem.Message)
	}
	if n := strings.Count(l.log.String(), "secret detail of the proxy"); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, l.log)
	}
	l.ask("PATCH", "/api/v1/apps/hello", `{"hosts":["new.localhost"]}`).must(t, 200)
	if !slices.Equal(l.runner.rerouted, []string{"hello", "hello"}) {
		t.Errorf("rerouted %v", l.runner.rerouted)
	}
}

func TestPlan(t *testing.T) {
	l := newLab(t)
	l.ask("POST", "/api/v1/apps", `{"name":"db","source":"dockerfile","config":{"deploy_strategy":"blue-green","volumes":[{"name":"data","path":"/data"}]}}`).must(t, 201)
	var plan store.Plan
	l.ask("GET", "/api/v1/apps/db/plan", "").must(t, 200).into(t, &plan)
	if plan.Strategy != store.Recreate || !plan.Forced {
		t.Errorf("plan %+v", plan)
	}
	l.problem("GET", "/api/v1/apps/nobody/plan", "", 404)
}

func TestEnv(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.ask("PATCH", "/api/v1/apps/hello/env", `{"set":{"B":"secret value","A":""}}`).must(t, 200)
	names := l.ask("GET", "/api/v1/apps/hello/env", "").must(t, 200)
	if names.body != `[{"name":"A"},{"name":"B"}]`+"\n" {
		t.Error(names.body)
	}
	shown := l.ask("GET", "/api/v1/apps/hello/env?reveal=true", "").must(t, 200)
	if shown.body != `[{"name":"A","value":""},{"name":"B","value":"secret value"}]`+"\n" {
		t.Error(shown.body)
	}
	for _, token := range []store.Token{{Rights: store.Rights{store.RightEnv}}, {Rights: store.Rights{store.RightEnv}, App: "hello"}} {
		request := l.request("GET", "/api/v1/apps/hello/env?reveal=true", "")
		request.Header.Set("Authorization", "Bearer "+l.token(token))
		if got := l.send(request); got.status != 403 || strings.Contains(got.body, "secret") {
			t.Errorf("revealed to %+v: %d %s", token, got.status, got.body)
		}
	}
	left := l.ask("PATCH", "/api/v1/apps/hello/env", `{"unset":["B","NEVER"]}`).must(t, 200)
	if left.body != `[{"name":"A"}]`+"\n" {
		t.Error(left.body)
	}
	l.problem("PATCH", "/api/v1/apps/hello/env", `{"set":{"9LIVES":"x"}}`, 400)
	l.problem("PATCH", "/api/v1/apps/nobody/env", `{"set":{"A":"x"}}`, 404)
}

func TestTokens(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	var made createdToken
	l.ask("POST", "/api/v1/tokens", `{"name":"ci","app":"hello","rights":["read"],"seconds":60}`).must(t, 201).into(t, &made)
	if made.Secret == "" || made.ExpiresAt.Sub(made.CreatedAt).Seconds() < 59 {
		t.Errorf("made %+v", made)
	}
	if listed := l.ask("GET", "/api/v1/tokens", "").must(t, 200); strings.Contains(listed.body, made.Secret) || !strings.Contains(listed.body, `"ci"`) {
		t.Error(listed.body)
	}
	asBearer := func() answer {
		request := l.request("GET", "/api/v1/apps/hello", "")
		request.Header.Set("Authorization", "Bearer "+made.Secret)
		return l.send(request)
	}
	asBearer().must(t, 200)
	l.ask("DELETE", "/api/v1/tokens/2", "").must(t, 204)
	asBearer().must(t, 401)
	l.problem("DELETE", "/api/v1/tokens/2", "", 404)
	l.problem("DELETE", "/api/v1/tokens/two", "", 400)
	l.problem("POST", "/api/v1/tokens", `{"rights":["emperor"]}`, 400)
	l.problem("POST", "/api/v1/tokens", `{"rights":["read"],"app":"nobody"}`, 404)
	l.problem("POST", "/api/v1/tokens", `{"rights":["read"],"seconds":-1}`, 400)
}
