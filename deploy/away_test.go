package deploy

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// hungEngine answers nothing until the caller gives up.
type hungEngine struct {
	Engine
	asked chan struct{}
}

func (e hungEngine) List(ctx context.Context, _ string) ([]store.Container, error) {
	select {
	case e.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestHistorySaysThatTheEngineIsAway(t *testing.T) {
	s := openStore(t)
	_, err := s.CreateApp(t.Context(), store.App{Name: appName, Source: store.SourceStatic, Config: []byte(`{}`), Hosts: []string{appHost}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Enqueue(t.Context(), store.NewDeployment{App: appName, Trigger: store.TriggerPush, SHA: sha(1), Ref: "refs/heads/main"})
	if err != nil {
		t.Fatal(err)
	}
	engine := hungEngine{asked: make(chan struct{}, 1)}
	a := &attempt{
		Runner: &Runner{Options: Options{Store: s, Engine: engine, Patience: Patience{Notice: 50 * time.Millisecond}}},
		d:      d, masked: strings.NewReplacer(), logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	changed, unwatch := s.Watch(store.DeploymentTopic(d.ID))
	defer unwatch()
	stop := a.sayWhenAway(t.Context())
	<-engine.asked
	for told := false; !told; {
		<-changed
		events, err := s.Events(t.Context(), d.ID, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range events {
			told = told || (event.Kind == "wait" && strings.HasPrefix(event.Text, "for the Docker engine, which does not answer"))
		}
	}
	stop()
}
