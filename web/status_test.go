package web

import (
	"net/http"
	"strings"
	"testing"

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
