package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

const testBase = "https://shipgate.example.com"

// office is a store with one app that follows one repository, and a GitHub side that is started when the test says so.
type office struct {
	*testing.T
	fake  *githubtest.Fake
	repo  *githubtest.Repository
	sha   string
	store *store.Store
	dir   string
	log   *lockedBuffer
	hub   *GitHub
}

// lockedBuffer takes what several goroutines log.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(line)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// newOffice opens everything but starts nothing. At the end no request may have been one that no sound client makes, and no
// secret may be in anything that is kept or shown.
func newOffice(t *testing.T, config string) *office {
	t.Helper()
	fake, err := githubtest.New()
	o := &office{T: t, fake: fake, dir: t.TempDir(), log: &lockedBuffer{}}
	o.check(err)
	t.Cleanup(func() { fake.Close() })
	const shared = "../../../shared/data/github-openapi-subset.json"
	if err := fake.HoldTo(shared); errors.Is(err, fs.ErrNotExist) {
		t.Logf("GitHub's own description is not at %s: only ours is held to", shared)
	} else {
		o.check(err)
	}
	o.repo, err = fake.Repository("octocat", "hello")
	o.check(err)
	o.sha = o.commit("Begin")
	o.store, err = store.Open(t.Context(), o.dir)
	o.check(err)
	o.app("hello", config)
	o.hub = o.open()
	t.Cleanup(func() {
		o.hub.Close()
		for _, violation := range fake.Violations() {
			t.Errorf("violation: %s", violation)
		}
		o.noSecrets()
		o.store.Close()
	})
	return o
}

func (o *office) check(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) commit(message string) string {
	o.Helper()
	sha, err := o.repo.Commit("main", message, map[string]string{"a": message})
	o.check(err)
	return sha
}

func (o *office) app(name, more string) {
	o.Helper()
	config := `{"deploy_strategy":"blue-green","port":8080,"repo_owner":"octocat","repo_name":"hello"` + more + `}`
	_, err := o.store.CreateApp(o.Context(), store.App{
		Name: name, Source: store.SourceDockerfile, Hosts: []string{name + ".localhost"}, Config: []byte(config),
	})
	o.check(err)
}

// open makes a GitHub that tries again soon.
func (o *office) open() *GitHub {
	hub := New(Options{
		Store: o.store, Repositories: absent{}, URL: func(host string) string { return "https://" + host },
		Logger: slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	hub.base = testBase
	hub.backoff = func(int) time.Duration { return time.Millisecond }
	hub.timeout = 20 * time.Second
	hub.doubt = 0
	return hub
}

// start works on the outbox only.
func (o *office) start() {
	ctx, stop := context.WithCancel(context.Background())
	o.hub.stop = stop
	o.hub.work.Go(func() { o.hub.runOutbox(ctx) })
}

func (o *office) connectApp() store.ForgeAccess {
	o.Helper()
	access, err := o.fake.AppAccess()
	o.check(err)
	_, err = o.hub.Connect(o.Context(), access)
	o.check(err)
	return access
}

func (o *office) enqueue(app string, trigger store.Trigger, sha string) store.Deployment {
	o.Helper()
	d, err := o.store.Enqueue(o.Context(), store.NewDeployment{App: app, Trigger: trigger, SHA: sha, Ref: "refs/heads/main"})
	o.check(err)
	return d
}

// decide takes the deployment that waits to its verdict.
func (o *office) decide(app string, verdict store.Verdict, reason string) store.Deployment {
	o.Helper()
	d, found, err := o.store.Claim(o.Context(), app)
	if err != nil || !found {
		o.Fatalf("claim: found %t, error %v", found, err)
	}
	to := []store.Step{store.StepUndoing, store.StepUndone}
	if verdict == store.Succeeded {
		to = []store.Step{store.StepBuilt, store.StepStarted, store.StepHealthy, store.StepRouted, store.StepLive, store.StepDone}
	}
	for _, step := range to {
		var change store.Change
		switch step {
		case store.StepBuilt:
			env, err := o.store.SealEnv(nil)
			o.check(err)
			change.Release = &store.Release{Source: store.SourceDockerfile, Config: []byte(`{}`), SealedEnv: env,
				Artefact: store.Artefact{Image: "sha256:1c9e", Port: 8080}}
		case store.StepLive:
			change.Live = &store.Live{Deployment: d.ID, Release: d.Release, SHA: d.SHA, Target: store.Target{Deployment: d.ID, Address: "10.214.0.7:8080"}}
			change.Verdict = verdict
		case store.StepUndoing, store.StepUndone:
			change.Verdict, change.Reason = verdict, reason
		}
		d, err = o.store.Advance(o.Context(), d, step, change)
		o.check(err)
	}
	return d
}

// wait waits for something to become true.
func (o *office) wait(what string, holds func() bool) {
	o.Helper()
	ctx, stop := context.WithTimeout(o.Context(), 60*time.Second)
	defer stop()
	if err := o.fake.WaitFor(ctx, holds); err != nil {
		o.Fatalf("%s: %v\n%s", what, err, o.log)
	}
}

// settled waits until nothing of a deployment is still to be told.
func (o *office) settled(d store.Deployment) []store.Post {
	o.Helper()
	var posts []store.Post
	o.wait(fmt.Sprintf("posts of %d", d.ID), func() bool {
		var err error
		posts, err = o.store.Posts(o.Context(), d.ID)
		o.check(err)
		for _, post := range posts {
			if post.Outcome == "" {
				return false
			}
		}
		return true
	})
	return posts
}

// states gives what GitHub was told by statuses, in order.
func (o *office) states() string {
	var states []string
	for _, status := range o.fake.Statuses(o.repo) {
		states = append(states, status.State)
	}
	return strings.Join(states, " ")
}

// notes gives what a deployment's history says of GitHub.
func (o *office) notes(d store.Deployment) []string {
	o.Helper()
	events, err := o.store.Events(o.Context(), d.ID, 0, 1000)
	o.check(err)
	var notes []string
	for _, event := range events {
		if event.Kind == "note" {
			notes = append(notes, event.Text)
		}
	}
	return notes
}

// noSecrets looks for every token and key in the database and the log.
func (o *office) noSecrets() {
	o.Helper()
	secrets := o.fake.Tokens()
	if access, err := o.fake.AppAccess(); err == nil {
		secrets = append(secrets, access.WebhookSecret, strings.Split(access.PrivateKey, "\n")[3])
	}
	files, err := filepath.Glob(filepath.Join(o.dir, "shipgate.db*"))
	o.check(err)
	texts := map[string]string{"the log": o.log.String()}
	for _, file := range files {
		content, err := os.ReadFile(file)
		o.check(err)
		texts[filepath.Base(file)] = string(content)
	}
	for where, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				o.Errorf("%.12s… is in %s", secret, where)
			}
		}
	}
}

// asText gives something as JSON.
func (o *office) asText(value any) string {
	o.Helper()
	text, err := json.Marshal(value)
	o.check(err)
	return string(text)
}

// absent is a git side that has nothing and cannot be reached.
type absent struct{}

var errAbsent = store.Problemf(store.CodeUnreachable, "nothing is here")

func (absent) Fetch(context.Context, string, string) (bool, error)        { return false, errAbsent }
func (absent) RemoteHead(context.Context, string, string) (string, error) { return "", errAbsent }
func (absent) Message(context.Context, string, string) (string, error)    { return "", errAbsent }
func (absent) Follows(context.Context, store.App, string) (branch, tip string, err error) {
	return "", "", errAbsent
}
func (absent) Changed(context.Context, string, string, string, func(string) bool) (bool, error) {
	return false, errAbsent
}
