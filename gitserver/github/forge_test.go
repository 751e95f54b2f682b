package github

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

const (
	vectorSecret = "It's a Secret to Everybody" // of the example in GitHub's documentation
	mainRef      = "refs/heads/main"
)

var shaA, shaB, shaC, shaD = strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40), strings.Repeat("d", 40)

var errOffline = store.Problemf(store.CodeUnreachable, "the forge cannot be reached")

// forge is a forge with one repository, and what the git side has of it.
type forge struct {
	mu       sync.Mutex
	down     map[string]error // by app; "" stands for all
	heads    map[string]string
	messages map[string]string
	files    map[string][]string // what a commit has that no other has
	gone     map[string]bool
	tips     map[string]string // by app: what was deployed here
	here     map[string]bool
	asked    int // for heads
	onHead   func()
}

func newForge() *forge {
	return &forge{down: map[string]error{}, heads: map[string]string{}, messages: map[string]string{}, files: map[string][]string{},
		gone: map[string]bool{}, tips: map[string]string{}, here: map[string]bool{}}
}

func (f *forge) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *forge) trouble(app string) error { return cmp.Or(f.down[""], f.down[app]) }

func (f *forge) Fetch(_ context.Context, app, sha string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.here[app+sha] {
		return false, nil
	}
	if err := f.trouble(app); err != nil {
		return false, err
	}
	if f.gone[sha] {
		return false, store.Problemf(store.CodeNotFound, "there is no commit %s", sha)
	}
	f.here[app+sha] = true
	return true, nil
}

func (f *forge) RemoteHead(_ context.Context, app, branch string) (string, error) {
	f.mu.Lock()
	f.asked++
	sha, err, onHead := f.heads[branch], f.trouble(app), f.onHead
	f.mu.Unlock()
	if onHead != nil {
		onHead()
	}
	if err != nil {
		return "", err
	}
	return sha, nil
}

func (f *forge) Follows(_ context.Context, app store.App, pushed string) (branch, tip string, err error) {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return "", "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	tip = f.tips[app.Name]
	switch named := config.Shared().Branch; {
	case named != "":
		return "refs/heads/" + named, tip, nil
	case tip == "" && pushed == "refs/heads/master":
		return pushed, tip, nil
	}
	return mainRef, tip, nil
}

func (f *forge) Changed(_ context.Context, app, from, to string, match func(string) bool) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone[from] {
		return false, errors.New("object not found")
	}
	if !f.here[app+to] {
		return false, fmt.Errorf("commit %s was not fetched", to)
	}
	return slices.ContainsFunc(slices.Concat(f.files[from], f.files[to]), match), nil
}

func (f *forge) Message(_ context.Context, app, sha string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.here[app+sha] {
		return "", fmt.Errorf("commit %s was not fetched", sha)
	}
	return f.messages[sha], nil
}

// nobody is a network without anyone in it.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no network in this test")
}

// depot is a server's side that takes webhooks and works on them.
type depot struct {
	testing.TB
	dir   string
	store *store.Store
	forge *forge
	hub   *GitHub
	log   *lockedBuffer
	guids int
}

// newDepot opens a depot with a secret. Nothing is worked on before start.
func newDepot(t testing.TB) *depot {
	t.Helper()
	d := &depot{TB: t, dir: t.TempDir(), forge: newForge(), log: &lockedBuffer{}}
	d.open()
	d.check(d.store.SetSecret(t.Context(), secretName, store.ForgeAccess{Kind: store.AccessToken, Token: "a-token-of-tests", WebhookSecret: vectorSecret}))
	t.Cleanup(func() { d.close() })
	return d
}

func (d *depot) open() {
	d.Helper()
	var err error
	d.store, err = store.Open(d.Context(), d.dir)
	d.check(err)
	d.hub = New(Options{Store: d.store, Repositories: d.forge, Transport: nobody{},
		Logger: slog.New(slog.NewTextHandler(d.log, nil))})
}

func (d *depot) close() {
	d.hub.Close()
	d.store.Close()
}

// reopen is what a crash and the next start leave: whatever was not written is gone.
func (d *depot) reopen() {
	d.Helper()
	d.close()
	d.open()
}

// start works on the deliveries only.
func (d *depot) start() *depot {
	ctx, stop := context.WithCancel(context.Background())
	d.hub.stop = stop
	d.hub.work.Go(func() { d.hub.runDeliveries(ctx) })
	return d
}

func (d *depot) check(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *depot) app(name string, fields ...string) {
	d.Helper()
	d.following(name, store.Repository{Owner: "octo", Name: "hello"}, fields...)
}

func (d *depot) following(name string, r store.Repository, fields ...string) {
	d.Helper()
	fields = append([]string{`"port":8080`, fmt.Sprintf(`"repo_owner":%q,"repo_name":%q`, r.Owner, r.Name)}, fields...)
	_, err := d.store.CreateApp(d.Context(), store.App{Name: name, Source: store.SourceDockerfile,
		Hosts: []string{name + ".localhost"}, Config: []byte("{" + strings.Join(fields, ",") + "}")})
	d.check(err)
}

// post sends a delivery as GitHub would.
func (d *depot) post(guid, event string, body []byte, change ...func(*http.Request)) *httptest.ResponseRecorder {
	d.Helper()
	r := httptest.NewRequest(http.MethodPost, webhookPath, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("X-GitHub-Event", event)
	r.Header.Set("X-GitHub-Delivery", guid)
	r.Header.Set("X-Hub-Signature-256", githubtest.Signature(vectorSecret, body))
	for _, do := range change {
		do(r)
	}
	answer := httptest.NewRecorder()
	d.hub.ServeHTTP(answer, r)
	return answer
}

// epoch is what the seconds of test pushes count from: no app of a test was made after it.
const epoch = 4_000_000_000

func at(second int64) time.Time { return time.Unix(epoch+second, 0).UTC() }

var pushTimes = regexp.MustCompile(`"pushed_at": ?("[^"]*"|\d+)`)

// asOfNow gives a recorded payload a time after the apps of the test were made, in its own way of writing it.
func asOfNow(payload []byte) []byte {
	return pushTimes.ReplaceAllFunc(payload, func(field []byte) []byte {
		if bytes.HasSuffix(field, []byte(`"`)) {
			return []byte(`"pushed_at":"` + at(0).Format(time.RFC3339) + `"`)
		}
		return fmt.Appendf(nil, `"pushed_at":%d`, at(0).Unix())
	})
}

// pushed is the body of a push event. Second 0 leaves its time out.
func pushed(ref, before, after string, second int64, message string) []byte {
	if second != 0 {
		second += epoch
	}
	return fmt.Appendf(nil, `{"ref":%q,"before":%q,"after":%q,"head_commit":{"id":%q,"message":%q},
		"repository":{"id":4242,"full_name":"octo/hello","pushed_at":%d}}`, ref, before, after, after, message, second)
}

// deliver posts an event that has to be accepted, and gives its GUID.
func (d *depot) deliver(event string, body []byte) string {
	d.Helper()
	d.guids++
	guid := fmt.Sprintf("guid-%d", d.guids)
	if answer := d.post(guid, event, body); answer.Code != http.StatusAccepted {
		d.Fatalf("answered %d %s", answer.Code, answer.Body)
	}
	return guid
}

// outcome delivers an event and waits for what comes of it.
func (d *depot) outcome(event string, body []byte) string {
	d.Helper()
	return d.ended(d.deliver(event, body)).Outcome
}

func (d *depot) delivery(guid string) store.Delivery {
	d.Helper()
	all, err := d.store.Deliveries(d.Context(), 1000)
	d.check(err)
	for _, one := range all {
		if one.GUID == guid {
			return one
		}
	}
	d.Fatalf("there is no delivery %s", guid)
	return store.Delivery{}
}

// until waits for something to become true.
func (d *depot) until(what string, holds func() bool) {
	d.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.Fatalf("%s: never; the log says %s", what, d.log.String())
		}
	}
}

// due lists what waits, with its bodies.
func (d *depot) due() []store.Delivery {
	d.Helper()
	due, err := d.store.DueDeliveries(d.Context(), d.hub.now(), 10)
	d.check(err)
	for n, one := range due {
		due[n].Body, err = d.store.DeliveryBody(d.Context(), one.ID)
		d.check(err)
	}
	return due
}

func (d *depot) ended(guid string) (one store.Delivery) {
	d.Helper()
	d.until("the end of "+guid, func() bool {
		one = d.delivery(guid)
		return !one.EndedAt.IsZero()
	})
	return one
}

func (d *depot) deployments(app string) []store.Deployment {
	d.Helper()
	all, err := d.store.Deployments(d.Context(), app, 100)
	d.check(err)
	slices.Reverse(all)
	return all
}

// shas are the first digits of what was to be deployed, in order, with its triggers.
func (d *depot) shas(app string) (said string) {
	d.Helper()
	for _, one := range d.deployments(app) {
		said += " " + one.SHA[:1] + ":" + string(one.Trigger)
	}
	return strings.TrimSpace(said)
}

// finish brings the unfinished deployment of an app to its end.
func (d *depot) finish(app string, verdict store.Verdict) {
	d.Helper()
	one, found, err := d.store.Claim(d.Context(), app)
	d.check(err)
	if !found {
		d.Fatalf("nothing of %s waits", app)
	}
	if verdict != store.Succeeded {
		d.advance(one, store.StepUndoing, store.StepUndone)(store.Change{Verdict: verdict, Reason: "so it was meant"})
		return
	}
	steps := store.StepsOf(one.Strategy)
	for _, step := range steps[1:] {
		var change store.Change
		switch step {
		case store.StepBuilt:
			change.Release = &store.Release{Source: store.SourceDockerfile, Config: []byte("{}"), SealedEnv: []byte("x")}
		case store.StepLive:
			change.Verdict = store.Succeeded
			change.Live = &store.Live{Deployment: one.ID, Release: one.Release, SHA: one.SHA}
		}
		one, err = d.store.Advance(d.Context(), one, step, change)
		d.check(err)
	}
	d.forge.set(func() { d.forge.tips[app] = one.SHA })
}

func (d *depot) advance(one store.Deployment, steps ...store.Step) func(store.Change) {
	return func(change store.Change) {
		d.Helper()
		for _, step := range steps {
			var err error
			one, err = d.store.Advance(d.Context(), one, step, change)
			d.check(err)
		}
	}
}

func (d *depot) wants(what, got, want string) {
	d.Helper()
	if got != want {
		d.Errorf("%s: got %q, want %q", what, got, want)
	}
}
