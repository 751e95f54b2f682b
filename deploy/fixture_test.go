package deploy

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/deploy/memengine"
	"github.com/shipgate/shipgate/store"
)

const appName, appHost = "hello", "hello.example.com"

func sha(n int) string { return strings.Repeat(fmt.Sprintf("%x", n%16), 40) }

func image(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// laboratory is one scenario's store, used again for every schedule with a new world and the app made anew.
type laboratory struct {
	scenario
	t     *testing.T
	store *store.Store
	sql   *sql.DB          // what the store has no method for
	asked *sql.Stmt        // see look
	back  store.Deployment // what a rollback goes back to
	sites string
}

func newLaboratory(t *testing.T, s scenario) *laboratory {
	l := &laboratory{scenario: s, t: t, store: openStore(t), sites: fastDir(t)}
	var err error
	if l.sql, err = sql.Open("sqlite", "file:"+filepath.Join(l.store.Dir(), "shipgate.db")+"?_pragma=busy_timeout(10000)"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.sql.Close() })
	l.asked, err = l.sql.Prepare(`SELECT verdict, container, coalesce((SELECT deployment FROM live), 0),
		coalesce((SELECT container FROM deployments WHERE id = (SELECT deployment FROM live)), ''),
		coalesce((SELECT container FROM deployments WHERE id = ?2), '') FROM deployments WHERE id = ?1`)
	l.must(err)
	return l
}

func (l *laboratory) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *laboratory) config() []byte {
	config := map[string]any{"deploy_strategy": l.strategy, "drain": "100ms", "stop_grace": "50ms"}
	if l.repoFile { // which has it otherwise
		config["deploy_strategy"] = map[store.Strategy]store.Strategy{store.Recreate: store.BlueGreen, store.BlueGreen: store.Recreate}[l.strategy]
	}
	if l.command != "" {
		config["release"] = "./migrate"
	}
	if l.warm {
		config["rollback"] = map[string]any{"warm": "10m"}
	}
	if l.site {
		config["publish_dir"] = "public"
	} else {
		timeout := "30s"
		if l.hasty {
			timeout = "3s"
		}
		if l.version != "healthy" {
			timeout = "25ms" // what never becomes healthy need not be waited for
		}
		config["healthcheck"] = map[string]any{"path": "/healthz", "timeout": timeout}
	}
	switch l.source {
	case store.SourceImage:
		config["image"] = "ghcr.io/acme/hello:1"
	case store.SourceStatic:
		config["mode"], config["storage_enabled"], config["deploy_strategy"] = "deno", l.storage, store.BlueGreen
	}
	blob, err := json.Marshal(config)
	l.must(err)
	return blob
}

// stage makes the world as the scenario has it and enqueues the deployment under test.
func (l *laboratory) stage() (*world, store.Deployment) {
	ctx := l.t.Context()
	if _, err := l.store.App(ctx, appName); err == nil {
		l.must(l.store.DestroyApp(ctx, appName))
	}
	app := store.App{Name: appName, Source: store.SourceDockerfile, Hosts: []string{appHost}, Config: l.config()}
	if l.site {
		app.Source = store.SourceStatic
	}
	if l.source != "" {
		app.Source = l.source
	}
	_, err := l.store.CreateApp(ctx, app)
	l.must(err)
	w := newWorld()
	w.builder.sites = l.sites
	w.engine.Behave(image(0), memengine.Behaviour{})
	w.engine.Behave(image(1), memengine.Behaviour{})
	tried := memengine.Behaviour{Unhealthy: l.version == "unhealthy", Exits: l.version == "exits", ExitCode: 3}
	if l.command == "fails" {
		tried.CommandCode = 4
	}
	w.engine.Behave(image(2), tried)
	w.stacks.Behave("/stacks/"+stackOf(2), tried)
	if l.stray {
		l.settle(w, 0, false)
	}
	request := store.NewDeployment{App: appName, Trigger: store.TriggerPush, SHA: sha(2), Ref: mainBranch}
	if l.rollback {
		l.back = l.settle(w, 1, true)
		request.Trigger, request.SHA, request.Release, request.RollbackOf = store.TriggerRollback, sha(1), l.back.Release, l.back.ID
	}
	if l.previous {
		l.settle(w, 3, true)
	}
	w.builder.artefacts[sha(2)] = l.artefact(2, l.version != "gone")
	if l.repoFile {
		w.branches.files = map[string]string{sha(2): "strategy: " + string(l.strategy) + "\n"}
	}
	request.Updates = []store.RefUpdate{{Name: mainBranch, Old: w.branches.tip(appName), New: request.SHA}}
	if l.source == store.SourceImage { // the commit is only told
		request.Trigger, request.Ref, request.Updates = store.TriggerAPI, "", nil
	}
	d, err := l.store.Enqueue(ctx, request)
	l.must(err)
	return w, d
}

func (l *laboratory) artefact(n int, complete bool) store.Artefact {
	switch {
	case l.stack():
		return store.Artefact{Stack: stackOf(n), Port: 8080}
	case !l.site:
		return store.Artefact{Image: image(n), Port: 8080}
	}
	tree := filepath.Join(l.sites, fmt.Sprint(n))
	l.must(os.MkdirAll(tree, 0o755))
	if complete {
		l.must(os.WriteFile(filepath.Join(tree, "manifest.json"), []byte("{}"), 0o644))
	}
	return store.Artefact{Site: fmt.Sprint(n)}
}

func stackOf(n int) string { return fmt.Sprintf("%s/%d", appName, n) }

// settle puts a version where an earlier deployment would have left it: live, or as a stray that a failed one could
// not remove. Versions that were live before it are gone.
func (l *laboratory) settle(w *world, n int, live bool) store.Deployment {
	ctx := l.t.Context()
	w.engine.Behave(image(n), memengine.Behaviour{})
	w.stacks.Behave("/stacks/"+stackOf(n), memengine.Behaviour{})
	old, had, err := l.store.Live(ctx, appName)
	l.must(err)
	_, err = l.store.Enqueue(ctx, store.NewDeployment{App: appName, Trigger: store.TriggerPush, SHA: sha(n), Ref: mainBranch})
	l.must(err)
	d, _, err := l.store.Claim(ctx, appName)
	l.must(err)
	r := New(w.options(l.store))
	defer r.Close()
	attempt, err := r.newAttempt(ctx, d, r.Logger)
	l.must(err)
	l.must(attempt.load(ctx))
	release, err := attempt.newRelease(l.artefact(n, true))
	l.must(err)
	attempt.release = release
	attempt.d, err = l.store.Advance(ctx, d, store.StepBuilt, store.Change{Release: &release})
	l.must(err)
	if l.stack() {
		l.must(attempt.place(ctx))
		l.must(attempt.up(ctx, 0, func(string) {}))
	} else if !l.site {
		l.must(attempt.place(ctx))
		spec, err := attempt.spec()
		l.must(err)
		l.must(w.engine.Start(ctx, spec))
	}
	if !live {
		l.end(attempt, store.StepUndoing, store.Change{Verdict: store.Failed})
		l.end(attempt, store.StepUndone, store.Change{Verdict: store.Failed})
		return attempt.d
	}
	l.must(attempt.applyRoute(ctx, appName, attempt.target()))
	for _, step := range store.StepsOf(d.Strategy)[2:] {
		change := store.Change{}
		if step == store.StepLive {
			change = store.Change{Verdict: store.Succeeded, Live: attempt.live()}
		}
		l.end(attempt, step, change)
	}
	if l.source != store.SourceImage {
		w.branches.tips[appName] = d.SHA
	}
	switch {
	case had && l.warm:
		l.must(w.engine.Stop(ctx, old.Container, 0))
		l.must(l.store.KeepWarm(ctx, old.Deployment, time.Now().Add(10*time.Minute)))
	case had && old.Container != "":
		l.must(w.engine.Remove(ctx, old.Container))
		l.must(l.store.FreeAddress(ctx, old.Deployment))
	}
	return attempt.d
}

func (l *laboratory) end(a *attempt, step store.Step, change store.Change) {
	var err error
	a.d, err = l.store.Advance(l.t.Context(), a.d, step, change)
	l.must(err)
}

// sight is what the store says at a point.
type sight struct {
	verdict         store.Verdict
	container       string // of the deployment under test
	live            int64
	liveContainer   string
	targetContainer string // of the deployment that requests go to
}

// look reads the store at once and quickly: it is asked at every point.
func (l *laboratory) look(deployment, target int64) (seen sight) {
	l.must(l.asked.QueryRow(deployment, target).Scan(&seen.verdict, &seen.container, &seen.live, &seen.liveContainer, &seen.targetContainer))
	return seen
}

// addresses are those that the store has given to containers and not got back, by deployment.
func (l *laboratory) addresses() map[int64]string {
	rows, err := l.sql.QueryContext(context.Background(), `SELECT deployment, address FROM addresses`)
	l.must(err)
	defer rows.Close()
	held := map[int64]string{}
	for rows.Next() {
		var deployment int64
		var address string
		l.must(rows.Scan(&deployment, &address))
		held[deployment] = address
	}
	l.must(rows.Err())
	return held
}
