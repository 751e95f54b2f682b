package deploy

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// queuedPushes come while one builds: 5,000 with SHIPGATE_BIG=1.
func queuedPushes() int {
	if os.Getenv("SHIPGATE_BIG") == "1" {
		return 5000
	}
	return 500
}

// Many deployments that wait are no burden: each has its verdict, and the newest is live.
func TestManyQueuedDeployments(t *testing.T) {
	s := newServer(t)
	builds := s.gateBuilds()
	first := s.push(appName, 1)
	builds.wait(t)
	newest := first
	for i := range queuedPushes() {
		newest = s.push(appName, i+2)
	}
	if unfinished, err := s.store.Unfinished(t.Context(), appName); err != nil || len(unfinished) != 2 {
		t.Errorf("%d are unfinished, %v", len(unfinished), err)
	}
	close(builds.proceed)
	s.wantVerdict(first.ID, store.Succeeded, "")
	s.wantVerdict(newest.ID, store.Succeeded, "")
	s.wantLive(appName, newest.ID)
	superseded := 0
	all, err := s.store.Deployments(context.WithoutCancel(t.Context()), appName, queuedPushes()+2)
	s.must(err)
	for _, d := range all {
		if d.Verdict == store.Superseded && d.Reason == fmt.Sprintf("superseded by deployment %d", d.ID+1) {
			superseded++
		}
	}
	if superseded != queuedPushes()-1 {
		t.Errorf("%d of %d were superseded by the next", superseded, queuedPushes()-1)
	}
}

// Many apps that are pushed to while one of them builds are all deployed.
func TestManyAppsWaitForOneBuild(t *testing.T) {
	s := newServer(t)
	builds := s.gateBuilds()
	running := s.push(appName, 1)
	builds.wait(t)
	waiting := map[string]int64{appName: running.ID}
	for i := range queuedPushes() / 5 {
		app := fmt.Sprintf("waits-%d", i)
		s.app(app, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
		waiting[app] = s.push(app, 2).ID
	}
	close(builds.proceed)
	for app, id := range waiting {
		s.wantVerdict(id, store.Succeeded, "")
		s.wantLive(app, id)
		for _, line := range s.lines(id) {
			if len(line) > 200 {
				t.Errorf("%s is told %q", app, line)
			}
		}
	}
}
