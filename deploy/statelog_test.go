package deploy

import (
	"bytes"
	"log/slog"
	"regexp"
	"slices"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// Each change of a live container's state is one line in the log, however often it is looked at.
func TestEachChangeOfStateIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer // read when the runner is closed
	s := newServer(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	name := s.untilState(appName, store.RunRunning).Container
	s.engine.Exit(name, 3)
	s.wantStates(map[string]bool{name: true})
	s.untilState(appName, store.RunRunning)
	for range 3 {
		s.runner.Recheck()
	}
	s.must(s.runner.Close())
	var states []string
	line := regexp.MustCompile(`level=(\w+) msg="container state" app=` + appName + ` deployment=1 container=` + regexp.QuoteMeta(name) + ` state=(\w+) exit_code=(\d+) `)
	for _, found := range line.FindAllStringSubmatch(log.String(), -1) {
		states = append(states, found[1]+" "+found[2]+" "+found[3])
	}
	if want := []string{"INFO running 0", "WARN exited 3", "INFO running 0"}; !slices.Equal(states, want) {
		t.Errorf("logged %q, want %q:\n%s", states, want, &log)
	}
}
