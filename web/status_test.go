package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// What is known of an app's containers is in its state, the list of all, the metrics and the first page.
func TestStatusOfApps(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	for _, name := range []string{"up", "stopped"} {
		l.createApp(name)
		l.advance(l.enqueue(name), store.StepLive)
	}
	l.createApp("never")
	live, _, err := l.store.Live(ctx, "up")
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.store.SetContainerStates(ctx, "up", []store.ContainerState{{
		Container: live.Container, Deployment: live.Deployment, Routed: true, State: store.RunExited, ExitCode: 3, Since: live.Since,
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.ask("POST", "/api/v1/apps/stopped/stop", "").must(t, http.StatusOK)
	var all []store.AppStatus
	l.ask("GET", "/api/v1/status", "").must(t, http.StatusOK).into(t, &all)
	got := []string{}
	for _, one := range all {
		got = append(got, one.App+" "+one.State)
	}
	if strings.Join(got, ", ") != "never never, stopped stopped, up exited" || !all[2].Down() || all[1].Down() || all[0].Down() {
		t.Errorf("states: %v", got)
	}
	metrics := l.ask("GET", "/metrics", "").must(t, http.StatusOK).body
	for _, line := range []string{`shipgate_app_up{app="up"} 0`, `shipgate_app_wanted{app="up"} 1`, `shipgate_app_wanted{app="stopped"} 0`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %s in the metrics", line)
		}
	}
	if strings.Contains(metrics, `shipgate_app_up{app="never"}`) {
		t.Error("what was never live has a metric")
	}
	l.ask("POST", "/api/v1/apps/stopped/start", "").must(t, http.StatusOK)
	var app appJSON
	l.ask("GET", "/api/v1/apps/stopped", "").must(t, http.StatusOK).into(t, &app)
	if app.Status.State == store.AppStopped {
		t.Errorf("a started app is %+v", app.Status)
	}
	l.ask("POST", "/api/v1/apps/up/restart", "").must(t, http.StatusAccepted)
}

// The page of the live deployment shows how each of its containers does; that of another one does not.
func TestPageShowsTheRuntimeState(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	earlier := l.advance(l.enqueue("hello"), store.StepDone)
	live := l.advance(l.enqueue("hello"), store.StepDone)
	now, _, err := l.store.Live(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	browser := l.browser(l.session(l.admin, time.Hour))
	page := func(path string) string { return browser.get(path).must(t, http.StatusOK).body }
	for state, want := range map[store.ContainerState][]string{
		{State: store.RunRunning}:                              {"serves now", "running</span> since", "!restart"},
		{State: store.RunRestarting, ExitCode: 2, Restarts: 7}: {"live, and", "restarting (2)</span>", "7 restarts", "!serves now"},
		{State: store.RunExited, ExitCode: 3, Restarts: 1}:     {"live, and", "exited (3)</span>", "1 restart<", "!serves now"},
		{State: store.RunUnhealthy}:                            {"unhealthy</span>", "!serves now"},
	} {
		state.Container, state.Deployment, state.Routed, state.Since = now.Container, live.ID, true, now.Since
		if _, err := l.store.SetContainerStates(t.Context(), "hello", []store.ContainerState{state}); err != nil {
			t.Fatal(err)
		}
		text := page(fmt.Sprintf("/deployments/%d", live.ID))
		for _, part := range append(want, now.Container) {
			unwanted, not := strings.CutPrefix(part, "!")
			if strings.Contains(text, unwanted) == not {
				t.Errorf("%s: %q in the page: %v", state.State, unwanted, !not)
			}
		}
		if other := page(fmt.Sprintf("/deployments/%d", earlier.ID)); strings.Contains(other, now.Container) {
			t.Error("a deployment that is not live shows the live container")
		}
		if first := page("/"); !strings.Contains(first, state.Text()) {
			t.Errorf("the first page does not say %s", state.Text())
		}
	}
}
