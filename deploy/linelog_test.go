package deploy

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// A command that writes 100 MB costs the database no more than a few, and its history says so and keeps its end.
func TestLogOfADeploymentIsCapped(t *testing.T) {
	s := openStore(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.CreateApp(t.Context(), store.App{Name: appName, Source: store.SourceStatic, Config: []byte(`{}`), Hosts: []string{appHost}})
	must(err)
	d, err := s.Enqueue(t.Context(), store.NewDeployment{App: appName, Trigger: store.TriggerPush, SHA: sha(1), Ref: "refs/heads/main"})
	must(err)
	a := &attempt{Runner: &Runner{Options: Options{Store: s}}, d: d, masked: strings.NewReplacer("secret", "****"), logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, kind := range []string{"build", "release"} { // the second has what the first has left: nothing
		lines := a.newLineLog(kind)
		for i := range 500_000 {
			lines.add(fmt.Sprintf("%090d secret", i))
		}
		lines.add("the end of " + kind)
		lines.close()
	}
	count, bytes, err := s.LogSize(t.Context(), d.ID)
	must(err)
	if count > logLinesMost+2*tailLines+2 || bytes > logBytes+64<<10 {
		t.Errorf("%d lines with %d bytes are in the history", count, bytes)
	}
	events, err := s.Events(t.Context(), d.ID, 0, 20_000)
	must(err)
	var all strings.Builder
	for _, event := range events {
		fmt.Fprintln(&all, event.Kind, event.Text)
	}
	for text, times := range map[string]int{"only the last 100 lines are kept": 2, "build the end of build": 1, "release the end of release": 1, "secret": 0} {
		if got := strings.Count(all.String(), text); got != times {
			t.Errorf("%q is there %d times, want %d", text, got, times)
		}
	}
	files, err := filepath.Glob(filepath.Join(s.Dir(), "shipgate.db*"))
	must(err)
	var size int64
	for _, file := range files {
		info, err := os.Stat(file)
		must(err)
		size += info.Size()
	}
	if size > 10<<20 {
		t.Errorf("the database has %d bytes", size)
	}
}
