package deploy

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

// stackServer is a server with a compose app, whose commit n is stack n.
func stackServer(t *testing.T, behaviours ...memengine.Behaviour) *server {
	t.Helper()
	s := newServer(t)
	_, err := s.store.CreateApp(t.Context(), store.App{
		Name: "shop", Source: store.SourceCompose, Hosts: []string{"shop.example.com"}, Config: []byte(`{"healthcheck":{"path":"/healthz","timeout":"1s"}}`),
	})
	s.must(err)
	for n, behaviour := range behaviours {
		artefact := store.Artefact{Stack: "shop/" + sha(n), Port: 8080}
		s.builder.mu.Lock()
		s.builder.artefacts[sha(n)] = artefact
		s.builder.mu.Unlock()
		s.stacks.Behave("/stacks/"+artefact.Stack, behaviour)
	}
	return s
}

func TestStackThatFailsIsTakenBack(t *testing.T) {
	for name, bad := range map[string]memengine.Behaviour{
		"exits": {Exits: true, ExitCode: 3, Log: []string{"boom"}}, "unhealthy": {Unhealthy: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := stackServer(t, memengine.Behaviour{}, bad, memengine.Behaviour{})
			first := s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
			other := "shipgate-shop-other-1"
			s.wantStates(map[string]bool{first.Container: true, other: true})
			failed := s.wantVerdict(s.push("shop", 1).ID, store.Failed, "")
			s.wantStates(map[string]bool{first.Container: true, other: true})
			s.wantLive("shop", first.ID)
			if _, _, held := s.router.look("shop"); held {
				t.Error("requests are held for ever")
			}
			if name == "exits" && !strings.Contains(strings.Join(s.lines(failed.ID), "\n"), "boom") {
				t.Errorf("what it wrote is not said:\n%s", strings.Join(s.lines(failed.ID), "\n"))
			}
			last := s.wantVerdict(s.push("shop", 2).ID, store.Succeeded, "")
			s.wantStates(map[string]bool{last.Container: true, other: true})
			s.must(s.runner.Destroy(t.Context(), "shop"))
			s.wantStates(map[string]bool{})
		})
	}
}

func TestFirstStackThatFailsGoesDown(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{Unhealthy: true})
	s.wantVerdict(s.push("shop", 0).ID, store.Failed, "health check failed")
	s.wantStates(map[string]bool{})
}

// Compose said that all runs, and then the routed service ended: in the time of a crash of ours, or by itself.
func TestStackThatEndedBeforeTheGate(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{}, memengine.Behaviour{})
	s.configure("shop", `{}`)
	first := s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
	s.setInject(func(point string) error {
		if name, up := strings.CutPrefix(point, "after up "); up && !strings.HasPrefix(name, first.Container) {
			name, _, _ = strings.Cut(name, " ")
			s.engine.Exit(name, 1)
		}
		return nil
	})
	s.wantVerdict(s.push("shop", 1).ID, store.Failed, "has ended since")
	s.wantLive("shop", first.ID)
	s.wantStates(map[string]bool{first.Container: true, "shipgate-shop-other-1": true})
}

// Without a health check, neither ours nor the compose file's, a routed service has to accept connections and to live a while.
func TestStackWithoutHealthcheck(t *testing.T) {
	for name, test := range map[string]struct {
		behaviour memengine.Behaviour
		dies      bool
		says      string
	}{
		"lives":                          {says: ""},
		"dies within the window":         {dies: true, says: "exited with code 9"},
		"healthy, as Compose has waited": {behaviour: memengine.Behaviour{Health: "healthy", NeverListens: true}},
	} {
		t.Run(name, func(t *testing.T) {
			s := stackServer(t, memengine.Behaviour{}, test.behaviour)
			s.configure("shop", `{"liveness":"30ms"}`)
			first := s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
			if test.dies {
				s.configure("shop", `{"liveness":"1m"}`)
				s.setInject(func(point string) error {
					if strings.HasPrefix(point, "after probe #") {
						s.engine.Exit(s.container("shop", 2), 9)
					}
					return nil
				})
			}
			verdict := store.Succeeded
			if test.says != "" {
				verdict = store.Failed
			}
			second := s.wantVerdict(s.push("shop", 1).ID, verdict, test.says)
			if verdict == store.Failed {
				s.wantLive("shop", first.ID)
				return
			}
			s.wantLive("shop", second.ID)
		})
	}
}

// What is live is started at boot, also a stack, and nobody else waits for that.
func TestStackIsStartedAtBootInItsLane(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{}, memengine.Behaviour{})
	first := s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
	s.must(s.runner.Close())
	s.engine.Exit(first.Container, 0)
	slow, reached := make(chan struct{}), make(chan struct{})
	s.setInject(func(point string) error {
		if strings.HasPrefix(point, "before up "+first.Container) {
			close(reached)
			<-slow
		}
		return nil
	})
	s.boot() // does not wait
	<-reached
	s.wantVerdict(s.push(appName, 5).ID, store.Succeeded, "")
	next := s.push("shop", 1)
	close(slow)
	second := s.wantVerdict(next.ID, store.Succeeded, "")
	s.wantStates(map[string]bool{s.container(appName, 2): true, second.Container: true, "shipgate-shop-other-1": true})
}

// Its own server is the only one that knows a stack's app; one that is of no app is taken down.
func TestStackOfNoAppIsTakenDown(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{})
	s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
	s.must(s.runner.Close())
	s.must(s.store.DestroyApp(t.Context(), "shop"))
	s.boot()
	s.wantStates(map[string]bool{})
}

// Compose itself replaces what changed of a stack: stopped before, its other services would be started anew at each deployment.
func TestOtherServicesOfAStackAreLeftAlone(t *testing.T) {
	s := stackServer(t, memengine.Behaviour{}, memengine.Behaviour{})
	s.wantVerdict(s.push("shop", 0).ID, store.Succeeded, "")
	ran := s.stacks.Other("shop")
	s.wantVerdict(s.push("shop", 1).ID, store.Succeeded, "")
	if now := s.stacks.Other("shop"); now != ran {
		t.Errorf("%s became %s", ran, now)
	}
}
