package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the child that is killed; see TestNothingIsLostWhenTheProcessIsKilled.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SHIPGATE_STORE_TEST_VICTIM"); dir != "" {
		os.Exit(victim(dir))
	}
	os.Exit(m.Run())
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newStore(t *testing.T) *Store {
	t.Helper()
	return openStore(t, t.TempDir())
}

// must gives the value of a call that is not what the test is about.
func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantProblem checks the code of a Problem, that it has a message, and that its message or hint has the given words.
func wantProblem(t *testing.T, err error, code Code, words ...string) {
	t.Helper()
	problem, ok := AsProblem(err)
	if !ok || problem.Code != code {
		t.Fatalf("got error %v, want a %s Problem", err, code)
	}
	for _, word := range words {
		if !strings.Contains(problem.Message+" "+problem.Hint, word) {
			t.Errorf("problem %q (hint %q) does not say %q", problem.Message, problem.Hint, word)
		}
	}
}

func newApp(t *testing.T, s *Store, name string) App {
	t.Helper()
	return must[App](t)(s.CreateApp(t.Context(), App{
		Name: name, Source: SourceDockerfile, Hosts: []string{name + ".localhost"},
		Config: []byte(`{"deploy_strategy":"blue-green","port":8080}`),
	}))
}

func enqueue(t *testing.T, s *Store, app string) Deployment {
	t.Helper()
	return must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: app, Trigger: TriggerPush, SHA: "3f9c2ab0", Ref: "refs/heads/main"}))
}

// claimed enqueues a deployment and takes it out of the queue.
func claimed(t *testing.T, s *Store, app string) Deployment {
	t.Helper()
	enqueue(t, s, app)
	d, found, err := s.Claim(t.Context(), app)
	if err != nil || !found {
		t.Fatalf("claim: found %t, error %v", found, err)
	}
	return d
}

// advanceTo walks the deployment along its strategy to the step, the way the runner does.
func advanceTo(t *testing.T, s *Store, d Deployment, to Step) Deployment {
	t.Helper()
	for d.Step != to {
		steps := StepsOf(d.Strategy)
		for i, step := range steps {
			if step == d.Step {
				d = must[Deployment](t)(s.Advance(t.Context(), d, steps[i+1], usualChange(t, s, d, steps[i+1])))
				break
			}
		}
	}
	return d
}

func usualChange(t *testing.T, s *Store, d Deployment, to Step) Change {
	t.Helper()
	switch to {
	case StepBuilt:
		if d.Release != 0 {
			return Change{}
		}
		app := must[App](t)(s.App(t.Context(), d.App))
		env := must[[]byte](t)(s.SealEnv(must[map[string]string](t)(s.Env(t.Context(), d.App))))
		return Change{Release: &Release{Source: app.Source, Config: app.Config, SealedEnv: env, Artefact: Artefact{Image: "sha256:1c9e", Port: 8080}}}
	case StepLive:
		return Change{Verdict: Succeeded, Live: &Live{Deployment: d.ID, Release: d.Release, SHA: d.SHA,
			Container: d.Container, Target: Target{Deployment: d.ID, Address: "10.214.0.7:8080"}}}
	}
	return Change{}
}

// texts gives the kinds and texts of a deployment's history.
func texts(t *testing.T, s *Store, deployment int64) []string {
	t.Helper()
	var lines []string
	for _, event := range must[[]Event](t)(s.Events(t.Context(), deployment, 0, 1000)) {
		lines = append(lines, event.Kind+" "+event.Text)
	}
	return lines
}

// woken takes the token of a watch, waiting for it if need be.
func woken(t *testing.T, changed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		t.Errorf("%s woke nobody", what)
	}
}

// inAnyFile says whether the bytes are in the database or its log.
func inAnyFile(t *testing.T, dir string, needle []byte) bool {
	t.Helper()
	files := must[[]string](t)(filepath.Glob(filepath.Join(dir, "shipgate.db*")))
	if len(files) < 2 {
		t.Fatalf("expected a database and its log, got %v", files)
	}
	for _, file := range files {
		if bytes.Contains(must[[]byte](t)(os.ReadFile(file)), needle) {
			return true
		}
	}
	return false
}

// errorsOf is errors.Join by a name that reads well in check.
func errorsOf(errs ...error) error { return errors.Join(errs...) }
