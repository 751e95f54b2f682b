package deploy

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
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

// engineThatHangs answers nothing from the next removal on, once it is told to.
type engineThatHangs struct {
	Engine
	armed, hangs *atomic.Bool
}

func (e engineThatHangs) Remove(ctx context.Context, name string) error {
	if e.armed.Load() {
		e.hangs.Store(true)
		<-ctx.Done()
		return ctx.Err()
	}
	return e.Engine.Remove(ctx, name)
}

func (e engineThatHangs) List(ctx context.Context, app string) ([]store.Container, error) {
	if e.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.Engine.List(ctx, app)
}

// An engine that hangs while a deployment is taken back is named long before that is given up.
func TestHistorySaysThatTheEngineIsAwayAtUndo(t *testing.T) {
	armed, hangs := &atomic.Bool{}, &atomic.Bool{}
	s := newServer(t, func(o *Options) {
		o.Engine, o.Patience.Notice, o.Patience.Engine = engineThatHangs{o.Engine, armed, hangs}, 100*time.Millisecond, 5*time.Second
	})
	s.version(1, memengine.Behaviour{NeverListens: true})
	d := s.push(appName, 1)
	s.until(d.ID, "started", func(d store.Deployment) bool { return d.Step == store.StepStarted })
	armed.Store(true)
	_, err := s.store.AskCancel(t.Context(), d.ID)
	s.must(err)
	told := func(store.Deployment) bool {
		return slices.ContainsFunc(s.lines(d.ID), func(line string) bool {
			return strings.HasPrefix(line, "wait for the Docker engine, which does not answer")
		})
	}
	if d := s.until(d.ID, "told", told); d.Step != store.StepUndoing || d.Verdict != "" {
		t.Errorf("it is told at %s, with the verdict %q", d.Step, d.Verdict)
	}
	armed.Store(false)
	hangs.Store(false)
	s.wantVerdict(d.ID, store.Cancelled, "cancelled on request")
	s.wantLine(d.ID, "wait over: the Docker engine answers")
}
