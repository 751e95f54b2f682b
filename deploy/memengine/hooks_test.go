package memengine_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

var errInjected = errors.New("injected")

func spec(deployment int64, image string) store.ContainerSpec {
	return store.ContainerSpec{
		Name: fmt.Sprintf("hello-%d", deployment), App: "hello", Deployment: deployment, Image: image, Port: 8080,
		Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 214, 0, byte(1 + deployment)}), 8080),
	}
}

func engineWith(behaviour memengine.Behaviour) *memengine.Engine {
	engine := memengine.New()
	engine.Behave("image", behaviour)
	return engine
}

func TestHooksSeeEveryVerb(t *testing.T) {
	engine := engineWith(memengine.Behaviour{})
	var before, after []string
	engine.Before = func(op string) error { before = append(before, op); return nil }
	engine.After = func(op string) error { after = append(after, op); return nil }
	ctx := t.Context()
	_, poolErr := engine.Pool(ctx)
	_, watchErr := engine.Watch(ctx, "hello-1")
	startErr := engine.Start(ctx, spec(1, "image"))
	_, listErr := engine.List(ctx, "hello")
	_, diagnoseErr := engine.Diagnose(ctx, "hello-1", 1)
	stopErr := engine.Stop(ctx, "hello-1", time.Second)
	removeErr := engine.Remove(ctx, "hello-1")
	if err := errors.Join(poolErr, watchErr, startErr, listErr, diagnoseErr, stopErr, removeErr); err != nil {
		t.Fatal(err)
	}
	wanted := []string{"pool", "watch hello-1", "start hello-1", "list", "diagnose hello-1", "stop hello-1", "remove hello-1"}
	if !slices.Equal(before, wanted) || !slices.Equal(after, wanted) {
		t.Errorf("before %q, after %q, want %q", before, after, wanted)
	}
}

func TestFaultsComeBeforeOrAfterTheEffect(t *testing.T) {
	type engineAndContext struct {
		*memengine.Engine
		cancel context.CancelFunc
	}
	for name, c := range map[string]struct {
		inject  func(e engineAndContext)
		wanted  error
		crashes bool
		started bool
	}{
		"error before":  {func(e engineAndContext) { e.Before = func(string) error { return errInjected } }, errInjected, false, false},
		"error after":   {func(e engineAndContext) { e.After = func(string) error { return errInjected } }, errInjected, false, true},
		"cancel before": {func(e engineAndContext) { e.Before = func(string) error { e.cancel(); return nil } }, context.Canceled, false, false},
		"crash before":  {func(e engineAndContext) { e.Before = func(string) error { panic(errInjected) } }, nil, true, false},
		"crash after":   {func(e engineAndContext) { e.After = func(string) error { panic(errInjected) } }, nil, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			engine := engineWith(memengine.Behaviour{})
			c.inject(engineAndContext{engine, cancel})
			crashed, err := start(ctx, engine)
			if !errors.Is(err, c.wanted) || crashed != c.crashes {
				t.Errorf("error %v, crashed %t", err, crashed)
			}
			engine.Before, engine.After = nil, nil
			if containers := engine.Containers(); len(containers) == 1 != c.started {
				t.Errorf("containers %+v", containers)
			}
			if err := engine.Start(t.Context(), spec(1, "image")); err != nil {
				t.Errorf("start after the fault: %v", err)
			}
		})
	}
}

func start(ctx context.Context, engine *memengine.Engine) (crashed bool, err error) {
	defer func() { crashed = recover() != nil }()
	return false, engine.Start(ctx, spec(1, "image"))
}

func TestBehaviours(t *testing.T) {
	exited := store.ContainerEvent{Kind: store.ContainerExited, ExitCode: 3}
	for name, c := range map[string]struct {
		behaviour memengine.Behaviour
		events    []store.ContainerEvent
		healthy   []bool // what probes get, in order; refused ones are left out
		listening string
	}{
		"serves":           {memengine.Behaviour{}, nil, []bool{true, true, true}, "0.0.0.0:8080"},
		"answers badly":    {memengine.Behaviour{Unhealthy: true}, nil, []bool{false, false, false}, "0.0.0.0:8080"},
		"listens late":     {memengine.Behaviour{ListensAfter: 2}, nil, []bool{true}, "0.0.0.0:8080"},
		"never listens":    {memengine.Behaviour{NeverListens: true}, nil, nil, ""},
		"only on loopback": {memengine.Behaviour{LoopbackOnly: true}, nil, nil, "127.0.0.1:8080"},
		"exits":            {memengine.Behaviour{Exits: true, ExitCode: 3}, []store.ContainerEvent{exited}, nil, ""},
		"out of memory": {memengine.Behaviour{OOM: true},
			[]store.ContainerEvent{{Kind: store.ContainerOOM}, {Kind: store.ContainerExited, ExitCode: 137}}, nil, ""},
		"found unhealthy": {memengine.Behaviour{Health: "unhealthy"},
			[]store.ContainerEvent{{Kind: store.ContainerUnhealthy}}, []bool{true, true, true}, "0.0.0.0:8080"},
	} {
		t.Run(name, func(t *testing.T) {
			engine := engineWith(c.behaviour)
			ctx, cancel := context.WithCancel(t.Context())
			events, err := engine.Watch(ctx, "hello-1")
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.Start(t.Context(), spec(1, "image")); err != nil {
				t.Fatal(err)
			}
			var healthy []bool
			for range 3 {
				if deployment, well, ok := engine.Serving(spec(1, "image").Address); ok && deployment == 1 {
					healthy = append(healthy, well)
				}
			}
			diagnosis, err := engine.Diagnose(t.Context(), "hello-1", 50)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			var seen []store.ContainerEvent
			for event := range events {
				seen = append(seen, event)
			}
			if !slices.Equal(seen, c.events) || !slices.Equal(healthy, c.healthy) {
				t.Errorf("events %+v, probes %v", seen, healthy)
			}
			listening := ""
			if len(diagnosis.Listening) > 0 {
				listening = diagnosis.Listening[0].String()
			}
			if listening != c.listening {
				t.Errorf("listening on %q, want %q", listening, c.listening)
			}
		})
	}
}

func TestACrashOfTheProcessIsSeen(t *testing.T) {
	engine := engineWith(memengine.Behaviour{})
	if err := engine.Start(t.Context(), spec(1, "image")); err != nil {
		t.Fatal(err)
	}
	engine.Exit("hello-1", 9)
	if _, _, ok := engine.Serving(spec(1, "image").Address); ok || engine.Containers()[0].Running {
		t.Error("it still serves")
	}
}

func TestABadCommandFailsTheStart(t *testing.T) {
	engine := engineWith(memengine.Behaviour{StartFails: "no such file"})
	if err := engine.Start(t.Context(), spec(1, "image")); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("start says %v", err)
	}
	diagnosis, err := engine.Diagnose(t.Context(), "hello-1", 1)
	if err != nil || diagnosis.ExitCode != 127 || diagnosis.Error != "no such file" {
		t.Errorf("diagnosis %+v, error %v", diagnosis, err)
	}
}
