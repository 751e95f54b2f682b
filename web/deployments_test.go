package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func (l *lab) deploy(app, body, key string) answer {
	l.t.Helper()
	request := l.request("POST", "/api/v1/apps/"+app+"/deployments", body)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	return l.send(request)
}

func TestDeploy(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for _, test := range []struct{ body, sha string }{
		{``, firstCommit}, {`{}`, firstCommit}, {`{"ref":"feature"}`, secondCommit}, {`{"sha":"` + secondCommit + `"}`, secondCommit},
	} {
		got := l.deploy("hello", test.body, "").must(t, http.StatusAccepted)
		var d deploymentJSON
		got.into(t, &d)
		if d.SHA != test.sha || d.Trigger != store.TriggerAPI || d.Verdict != "" || d.URL != "http://hello.localhost" {
			t.Errorf("%s gives %+v", test.body, d)
		}
		if got.header.Get("Location") != fmt.Sprintf("/api/v1/deployments/%d", d.ID) {
			t.Errorf("Location: %s", got.header.Get("Location"))
		}
		stored, err := l.store.Deployment(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		// Also where the branch is there already: a push that runs now may move it before.
		want := []store.RefUpdate{{Name: "refs/heads/main", Old: firstCommit, New: test.sha}}
		if !slices.Equal(stored.Updates, want) {
			t.Errorf("%s moves %v, want %v", test.body, stored.Updates, want)
		}
	}
}

func TestDeployTwiceWithOneKey(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	var first, again, another, elsewhere deploymentJSON
	l.deploy("hello", `{}`, "one").must(t, 202).into(t, &first)
	l.deploy("hello", `{}`, "one").must(t, 202).into(t, &again)
	l.deploy("hello", `{}`, "two").must(t, 202).into(t, &another)
	l.deploy("other", `{}`, "one").must(t, 202).into(t, &elsewhere)
	if first.ID != again.ID || first.ID == another.ID || first.ID == elsewhere.ID {
		t.Errorf("deployments %d, %d, %d, %d", first.ID, again.ID, another.ID, elsewhere.ID)
	}
	l.git.fault = store.Problemf(store.CodeUnreachable, "the forge does not answer")
	l.deploy("hello", `{}`, "three").must(t, http.StatusGatewayTimeout)
	l.deploy("hello", `{}`, "two").must(t, 202).into(t, &again) // which needs no forge
	if again.ID != another.ID {
		t.Errorf("deployment %d is joined, want %d", again.ID, another.ID)
	}
	l.deploy("hello", `{}`, strings.Repeat("k", 201)).must(t, 400)
	l.deploy("hello", `{"rollback_to":0}`, "three").must(t, 400)
}

func TestDeployWhatCannotBe(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	for body, status := range map[string]int{
		`{"ref":"nowhere"}`:                          400,
		`{"image":"nginx"}`:                          400,
		`{"sha":"main"}`:                             400,
		`{"ref":"main","rollback_to":1}`:             400,
		`{"rollback_to":99}`:                         404,
		`{"rollback_to":"one"}`:                      400,
		`{"branch":"main"}`:                          400,
		`{"ref":"main","sha":"` + firstCommit + `"}`: 400,
	} {
		if status == 400 && body == `{"ref":"nowhere"}` {
			status = 404
		}
		l.problem("POST", "/api/v1/apps/hello/deployments", body, status)
	}
	l.problem("POST", "/api/v1/apps/nobody/deployments", `{}`, 404)
	list, err := l.store.Deployments(t.Context(), "hello", 10)
	if err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func TestRollback(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	first := l.advance(l.enqueue("hello"), store.StepDone)
	var d deploymentJSON
	l.deploy("hello", `{"rollback_to":1}`, "").must(t, 202).into(t, &d)
	if d.Trigger != store.TriggerRollback || d.RollbackOf != first.ID || d.Release != first.Release {
		t.Errorf("rollback %+v", d)
	}
}

func TestListAndCancel(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.ask("GET", "/api/v1/apps/hello/deployments", "").must(t, 200)
	done := l.advance(l.enqueue("hello"), store.StepDone)
	waiting := l.enqueue("hello")
	var list []deploymentJSON
	l.ask("GET", "/api/v1/apps/hello/deployments", "").must(t, 200).into(t, &list)
	if len(list) != 2 || list[0].ID != waiting.ID || list[1].Verdict != store.Succeeded {
		t.Errorf("list %+v", list)
	}
	l.ask("GET", "/api/v1/apps/hello/deployments?limit=1", "").must(t, 200).into(t, &list)
	if len(list) != 1 {
		t.Errorf("limit gives %d", len(list))
	}
	for _, limit := range []string{"-1", "201", "many"} {
		l.problem("GET", "/api/v1/apps/hello/deployments?limit="+limit, "", 400)
	}
	l.problem("GET", "/api/v1/apps/nobody/deployments", "", 404)
	var asked deploymentJSON
	l.ask("POST", fmt.Sprintf("/api/v1/deployments/%d/cancel", waiting.ID), "").must(t, 202).into(t, &asked)
	if !asked.CancelAsked {
		t.Errorf("asked %+v", asked)
	}
	problem := l.problem("POST", fmt.Sprintf("/api/v1/deployments/%d/cancel", done.ID), "", 409)
	if problem.Code != store.CodeConflict || problem.Hint == "" {
		t.Errorf("too late: %+v", problem)
	}
	l.problem("POST", "/api/v1/deployments/99/cancel", "", 404)
	l.problem("GET", "/api/v1/deployments/last", "", 400)
}

// However much a build writes, all steps and the end are shown.
func TestShowOutlinesALongHistory(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	var lines []store.Event
	for n := range 1200 {
		lines = append(lines, store.Event{Kind: "build", Text: fmt.Sprintf("line %d", n)})
	}
	d = l.advance(d, store.StepBuilt)
	if err := l.store.Log(t.Context(), d.ID, lines...); err != nil {
		t.Fatal(err)
	}
	l.advance(d, store.StepDone)
	var shown deploymentJSON
	l.ask("GET", fmt.Sprintf("/api/v1/deployments/%d", d.ID), "").must(t, 200).into(t, &shown)
	var steps []store.Step
	for _, event := range shown.Events {
		if event.Step != "" {
			steps = append(steps, event.Step)
		}
	}
	if !slices.Equal(steps, store.StepsOf(store.BlueGreen)) {
		t.Errorf("steps %v", steps)
	}
	if len(shown.Events) > outlineTail+len(steps) || !strings.Contains(fmt.Sprint(shown.Events), "line 1199") {
		t.Errorf("%d events", len(shown.Events))
	}
}

// What is not meant for users is logged once and does not reach them.
func TestUnknownErrorsStayInside(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.git.fault = errors.New("open /var/lib/shipgate/repos: permission denied")
	problem := l.problem("POST", "/api/v1/apps/hello/deployments", `{}`, 500)
	if problem.Code != store.CodeErrored || problem.Message != "internal error" {
		t.Errorf("problem %+v", problem)
	}
	if n := strings.Count(l.log.String(), "permission denied"); n != 1 {
		t.Errorf("logged %d times: %s", n, l.log)
	}
}

// A client that leaves before its answer is no error of ours.
func TestClientThatLeavesIsNotLogged(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	l.git.wait = func(ctx context.Context) error {
		defer close(ended)
		leave()
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := http.DefaultClient.Do(l.request("POST", "/api/v1/apps/hello/deployments", `{}`).WithContext(ctx)); err == nil {
		t.Error("it got an answer")
	}
	<-ended
	l.close() // waits for the handler
	if strings.Contains(l.log.String(), "ERROR") {
		t.Errorf("logged: %s", l.log)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/nothing", "/api/v1/nothing", "/api/v1/apps/hello/nothing"} {
		l.problem("GET", path, "", 404)
	}
	l.problem("GET", "/webhooks/github", "", 405)
	l.problem("PUT", "/api/v1/apps", `{}`, 405)
}

// Pushes go to the git side as they are, whatever their size and origin.
func TestGitIsHandedOn(t *testing.T) {
	l := newLab(t)
	body := strings.Repeat("x", 3<<20)
	request, _ := http.NewRequestWithContext(t.Context(), "POST", l.url+"/hello.git/git-receive-pack", strings.NewReader(body))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Git") != "/hello.git/git-receive-pack" || response.ContentLength == 0 {
		t.Errorf("answered by %q", response.Header)
	}
	l.ask("GET", "/hello.git", "").must(t, 404)
}

func TestHealthAndMetrics(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.advance(l.enqueue("hello"), store.StepDone)
	l.enqueue("hello")
	l.ask("GET", "/healthz", "").must(t, 200)
	l.ask("GET", "/readyz", "").must(t, 200)
	metrics := l.ask("GET", "/metrics", "").must(t, 200).body
	for _, line := range []string{
		`shipgate_build_info{version="test"} 1`,
		`shipgate_deployments_total{app="hello",verdict="succeeded"} 1`,
		`shipgate_deployments_unfinished{app="hello"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s in\n%s", line, metrics)
		}
	}
	for _, line := range []string{`_count{step="queued"} 1`, `_count{step="built"} 1`, `_count{step="done"} 1`} {
		if !strings.Contains(metrics, "shipgate_phase_seconds"+line+"\n") {
			t.Errorf("no %s in\n%s", line, metrics)
		}
	}
	l.ask("GET", "/api/v1/doctor", "").must(t, 200)
	l.store.Close()
	l.problem("GET", "/readyz", "", 500)
}
