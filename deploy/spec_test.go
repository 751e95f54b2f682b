package deploy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// appOf makes an app of another source than dockerfile.
func (s *server) appOf(source store.Source, name, config string) {
	s.t.Helper()
	_, err := s.store.CreateApp(s.t.Context(), store.App{Name: name, Source: source, Hosts: []string{name + ".example.com"}, Config: []byte(config)})
	s.must(err)
}

func TestContainerHasWhatTheConfigSays(t *testing.T) {
	s := newServer(t)
	s.configure(appName, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz"},"stop_signal":"SIGQUIT","resources":{"memory":"64m"},"volumes":[{"name":"cache","path":"/cache","read_only":true}]}`)
	d := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	spec, _ := s.engine.Spec(d.Container)
	if spec.StopSignal != "SIGQUIT" || spec.Resources.Memory != 64<<20 || len(spec.Volumes) != 1 || spec.Volumes[0].Name != "cache" {
		t.Errorf("spec %+v", spec)
	}
	for _, variable := range []string{"SHIPGATE_APP=hello", "SHIPGATE_DEPLOYMENT=1", "SHIPGATE_SHA=" + sha(1), "PORT=8080"} {
		if !slices.Contains(spec.Env, variable) {
			t.Errorf("%s is not in %q", variable, spec.Env)
		}
	}
}

func TestDenoStorageForcesRecreateAndSaysSo(t *testing.T) {
	s := newServer(t)
	s.appOf(store.SourceStatic, "pad", `{"mode":"deno","storage_enabled":true,"deploy_strategy":"blue-green","healthcheck":{"path":"/"}}`)
	d := s.wantVerdict(s.push("pad", 1).ID, store.Succeeded, "")
	spec, _ := s.engine.Spec(d.Container)
	if len(spec.Volumes) != 1 || spec.Volumes[0].Name != store.StorageVolume || spec.Volumes[0].Path != store.DenoStorage {
		t.Errorf("volumes %+v", spec.Volumes)
	}
	if d.Strategy != store.Recreate {
		t.Errorf("strategy %s", d.Strategy)
	}
}

// A shipgate.yaml may make what was asked for impossible, which the history says.
func TestRepoFileThatForcesAStrategySaysSo(t *testing.T) {
	s := newServer(t)
	s.configure(appName, `{"healthcheck":{"path":"/healthz"},"volumes":[{"name":"data","path":"/data"}]}`)
	s.branches.files = map[string]string{sha(1): "strategy: blue-green\n"}
	d := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if said := strings.Join(s.lines(d.ID), "\n"); d.Strategy != store.Recreate || !strings.Contains(said, "plan blue-green was asked for and is not possible: ") {
		t.Errorf("strategy %s:\n%s", d.Strategy, said)
	}
}

// What was built from uploaded files goes back under the commit that the forge knows.
func TestGoingBackToAnUploadNamesItsCommit(t *testing.T) {
	s := newServer(t)
	upload, err := s.store.Enqueue(t.Context(), store.NewDeployment{App: appName, Trigger: store.TriggerAPI, SHA: sha(1), Ref: mainBranch, BuiltFrom: sha(7)})
	s.must(err)
	s.wantVerdict(upload.ID, store.Succeeded, "")
	s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	back, err := s.runner.Rollback(t.Context(), appName, upload.ID)
	s.must(err)
	if s.wantVerdict(back.ID, store.Succeeded, ""); back.BuiltFrom != sha(7) {
		t.Errorf("it was built from %q", back.BuiltFrom)
	}
}

// timedCommands tell how much time a command was given.
type timedCommands struct {
	Commands
	given time.Duration
}

func (c *timedCommands) Run(ctx context.Context, spec store.ContainerSpec, log func(string)) (int, error) {
	deadline, _ := ctx.Deadline()
	c.given = time.Until(deadline)
	return c.Commands.Run(ctx, spec, log)
}

func TestReleaseCommandIsBounded(t *testing.T) {
	commands := &timedCommands{}
	s := newServer(t, func(o *Options) { commands.Commands, o.Commands = o.Commands, commands })
	s.configure(appName, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz"},"release":"./migrate"}`)
	s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	if commands.given <= store.DefaultReleaseTime-time.Minute || commands.given > store.DefaultReleaseTime {
		t.Errorf("the command was given %s", commands.given)
	}
}

// A strategy that was asked for with a deployment comes before those of the config and of shipgate.yaml, and holds for
// that one only: its release goes back with what these say.
func TestAskedStrategyIsForOneDeployment(t *testing.T) {
	s := newServer(t)
	s.configure(appName, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz"}}`)
	ask := func(n int, strategy string) store.Deployment {
		asked, err := s.store.Enqueue(t.Context(), store.NewDeployment{App: appName, Trigger: store.TriggerAPI, SHA: sha(n), Ref: mainBranch, Strategy: strategy})
		s.must(err)
		return s.wantVerdict(asked.ID, store.Succeeded, "")
	}
	first := ask(1, "recreate")
	if said := strings.Join(s.lines(first.ID), "\n"); first.Strategy != store.Recreate || !strings.Contains(said, "plan recreate was asked for with this deployment") {
		t.Errorf("strategy %s:\n%s", first.Strategy, said)
	}
	s.branches.files = map[string]string{sha(2): "strategy: blue-green\nport: 9000\n"}
	if d := ask(2, "recreate"); d.Strategy != store.Recreate || strings.Contains(strings.Join(s.lines(d.ID), "\n"), "shipgate.yaml decides") {
		t.Errorf("with a shipgate.yaml: strategy %s:\n%s", d.Strategy, strings.Join(s.lines(d.ID), "\n"))
	}
	if d := ask(3, ""); d.Strategy != store.BlueGreen {
		t.Errorf("the next: strategy %s", d.Strategy)
	}
	back, err := s.runner.Rollback(t.Context(), appName, first.ID)
	s.must(err)
	if d := s.wantVerdict(back.ID, store.Succeeded, ""); d.Strategy != store.BlueGreen {
		t.Errorf("going back: strategy %s", d.Strategy)
	}
	s.configure(appName, `{"volumes":[{"name":"data","path":"/data"}],"healthcheck":{"path":"/healthz"}}`)
	forced := ask(4, "blue-green")
	if said := strings.Join(s.lines(forced.ID), "\n"); forced.Strategy != store.Recreate || strings.Contains(said, "asked for with this deployment") || !strings.Contains(said, "plan blue-green was asked for and is not possible: ") {
		t.Errorf("strategy %s:\n%s", forced.Strategy, said)
	}
}
