package deploy

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

// server is a whole runner at work in a world, as serve has one.
type server struct {
	*world
	t      *testing.T
	store  *store.Store
	runner *Runner
}

func newServer(t *testing.T, adjust ...func(*Options)) *server {
	t.Helper()
	checkGoroutines(t)
	s := &server{world: newWorld(), t: t, store: openStore(t)}
	s.builder.sites = t.TempDir()
	s.app(appName, `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz"}}`)
	for n := range 10 {
		s.version(n, memengine.Behaviour{})
	}
	s.boot(adjust...)
	return s
}

func (s *server) boot(adjust ...func(*Options)) {
	options := s.options(s.store)
	for _, change := range adjust {
		change(&options)
	}
	s.runner = New(options)
	s.must(s.runner.Start(s.t.Context()))
	s.t.Cleanup(func() { s.runner.Close() })
}

// container names the container of an app's deployment.
func (s *server) container(app string, deployment int64) string {
	return store.ContainerName(s.store.ServerID(), app, deployment)
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) app(name, config string) {
	s.t.Helper()
	_, err := s.store.CreateApp(s.t.Context(), store.App{
		Name: name, Source: store.SourceDockerfile, Hosts: []string{name + ".example.com"}, Config: []byte(config),
	})
	s.must(err)
}

// version makes commit n build to image n, which behaves like this.
func (s *server) version(n int, behaviour memengine.Behaviour) {
	s.builder.mu.Lock()
	s.builder.artefacts[sha(n)] = store.Artefact{Image: image(n), Port: 8080}
	s.builder.mu.Unlock()
	s.engine.Behave(image(n), behaviour)
}

func (s *server) push(app string, n int) store.Deployment {
	s.t.Helper()
	d, err := s.store.Enqueue(s.t.Context(), store.NewDeployment{
		App: app, Trigger: store.TriggerPush, SHA: sha(n), Ref: mainBranch,
		Updates: []store.RefUpdate{{Name: mainBranch, Old: s.branches.tip(app), New: sha(n)}},
	})
	s.must(err)
	return d
}

// until waits for a deployment to be as it is wanted, woken by its changes.
func (s *server) until(id int64, what string, wanted func(store.Deployment) bool) store.Deployment {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	changed, stop := s.store.Watch(store.DeploymentTopic(id))
	defer stop()
	for {
		d, err := s.store.Deployment(ctx, id)
		s.must(err)
		if wanted(d) {
			return d
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.t.Fatalf("deployment %d never became %s: it is %s, %q\n%s", id, what, d.Step, d.Verdict, strings.Join(s.lines(id), "\n"))
		}
	}
}

func (s *server) end(id int64) store.Deployment {
	s.t.Helper()
	return s.until(id, "finished", func(d store.Deployment) bool { return d.Step.Terminal() })
}

func (s *server) wantVerdict(id int64, verdict store.Verdict, reason string) store.Deployment {
	s.t.Helper()
	d := s.end(id)
	if d.Verdict != verdict || !strings.Contains(d.Reason, reason) {
		s.t.Fatalf("deployment %d: %s %q, want %s %q\n%s", id, d.Verdict, d.Reason, verdict, reason, strings.Join(s.lines(id), "\n"))
	}
	return d
}

func (s *server) wantLive(app string, id int64) {
	s.t.Helper()
	live, _, err := s.store.Live(s.t.Context(), app)
	s.must(err)
	if route, _, _ := s.router.look(app); live.Deployment != id || route.Target.Deployment != id {
		s.t.Fatalf("live %d, route to %d, want %d", live.Deployment, route.Target.Deployment, id)
	}
}

// lines is a deployment's history as a push shows it, without the steps.
func (s *server) lines(id int64) []string {
	s.t.Helper()
	events, err := s.store.Events(context.Background(), id, 0, 1000)
	s.must(err)
	var lines []string
	for _, event := range events {
		if event.Kind != "step" && event.Step != store.StepQueued {
			lines = append(lines, event.Kind+" "+event.Text)
		}
	}
	return lines
}

func (s *server) wantLine(id int64, line string) {
	s.t.Helper()
	if lines := s.lines(id); !slices.Contains(lines, line) {
		s.t.Errorf("%q is not in the history of %d:\n%s", line, id, strings.Join(lines, "\n"))
	}
}

// gate makes builds wait until they are let go, one by one or all. Started tells the commit of each build that has begun.
type buildGate struct {
	started chan string
	proceed chan struct{}
}

func (s *server) gateBuilds() *buildGate {
	g := &buildGate{started: make(chan string, 10_000), proceed: make(chan struct{})}
	s.builder.during = func(ctx context.Context, request store.BuildRequest) error {
		g.started <- request.SHA
		select {
		case <-g.proceed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g
}

func (g *buildGate) wait(t *testing.T) string {
	t.Helper()
	select {
	case sha := <-g.started:
		return sha
	case <-time.After(time.Minute):
		t.Fatal("no build began")
		return ""
	}
}
