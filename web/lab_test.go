package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/shipgate/shipgate/store"
)

const (
	firstCommit  = "1111111111111111111111111111111111111111"
	secondCommit = "2222222222222222222222222222222222222222"
)

// lab is the API on a real store, with collaborators that have state. Every answer is held to the OpenAPI document.
type lab struct {
	volumes string // VOLUME paths of the images of releases
	image   string // of releases

	imageVolumes map[string]string // what the engine says of images; "away": it does not answer

	t          *testing.T
	store      *store.Store
	runner     *fakeRunner
	git        *fakeRepositories
	github     *fakeGitHub
	identities *fakeIdentities
	log        *lockedBuffer
	admin      string // a token
	url        string
	base       string // what the server takes for its public address
	document   routers.Router
	end        context.CancelFunc // of the server's lifetime
	close      func()             // ends the server and waits for its handlers

	collect   func(ctx context.Context, dry bool) ([]store.Garbage, error)
	logs      func(ctx context.Context, container string, tail int, follow bool, write func(string)) error
	forgotten []string
}

func newLab(t *testing.T) *lab { return newLabBeating(t, time.Hour) }

// newLabBeating sets how often a silent stream gives a sign of life.
func newLabBeating(t *testing.T, heartbeat time.Duration) *lab {
	t.Helper()
	opened, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	lifetime, end := context.WithCancel(context.Background())
	l := &lab{t: t, store: opened, log: &lockedBuffer{}, end: end, document: loadDocument(t)}
	l.runner = &fakeRunner{store: opened}
	l.git = &fakeRepositories{commits: map[string]string{"main": firstCommit, "feature": secondCommit, secondCommit: secondCommit}, tip: firstCommit}
	l.github, l.identities = &fakeGitHub{}, &fakeIdentities{}
	l.collect = func(context.Context, bool) ([]store.Garbage, error) { return nil, nil }
	l.admin = l.token(store.Token{Name: "test", Rights: store.Rights{store.RightAdmin}})
	server := httptest.NewServer(New(Options{
		Store: opened, Runner: l.runner, Repositories: l.git, GitHub: l.github, Identities: l.identities, BaseURL: func() string { return l.base }, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Lifetime: lifetime, Heartbeat: heartbeat, Version: "test",
		Logs: func(ctx context.Context, container string, tail int, follow bool, write func(string)) error {
			return l.logs(ctx, container, tail, follow, write)
		},
		Doctor: func(context.Context) Report {
			return Report{ServerID: opened.ServerID(), Findings: []store.Finding{{Level: "ok", Text: "all is well"}}}
		},
		Destroyed: func(_ context.Context, app string, withData bool) error {
			if withData {
				app += " with data"
			}
			l.forgotten = append(l.forgotten, app)
			return nil
		},
		ImageVolumes: func(_ context.Context, image string) (string, error) {
			if l.imageVolumes[image] == "away" {
				return "", errors.New("the engine does not answer")
			}
			return l.imageVolumes[image], nil
		},
		Collect: func(ctx context.Context, dry bool) ([]store.Garbage, error) { return l.collect(ctx, dry) },
		URL:     func(host string) string { return "http://" + host }, Logger: slog.New(slog.NewTextHandler(l.log, nil)),
	}))
	l.close = sync.OnceFunc(func() { end(); server.Close() })
	t.Cleanup(l.close)
	l.url = server.URL
	return l
}

func loadDocument(t *testing.T) routers.Router {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

func (l *lab) token(token store.Token) string {
	l.t.Helper()
	secret, _, err := l.store.CreateToken(l.t.Context(), token)
	if err != nil {
		l.t.Fatal(err)
	}
	return secret
}

// answer is what came back of a request.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) into(t *testing.T, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), value); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// must fails the test unless the status is the expected one.
func (a answer) must(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// ask makes a request as the admin.
func (l *lab) ask(method, path, body string) answer {
	l.t.Helper()
	return l.send(l.request(method, path, body))
}

func (l *lab) request(method, path, body string) *http.Request {
	l.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(l.t.Context(), method, l.url+path, content)
	if err != nil {
		l.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Authorization", "Bearer "+l.admin)
	return request
}

// send makes the request and checks the answer, and the request too where it was taken, against the document.
func (l *lab) send(request *http.Request) answer {
	l.t.Helper()
	var sent []byte
	if request.GetBody != nil {
		body, _ := request.GetBody()
		sent, _ = io.ReadAll(body)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	got := answer{response.StatusCode, response.Header, string(body)}
	l.hold(request, sent, got)
	return got
}

func (l *lab) hold(request *http.Request, sent []byte, got answer) {
	l.t.Helper()
	asked := request.Clone(context.Background())
	asked.Body, asked.URL.Host, asked.URL.Scheme = io.NopCloser(bytes.NewReader(sent)), "", ""
	route, parameters, err := l.document.FindRoute(asked)
	if errors.Is(err, routers.ErrPathNotFound) || errors.Is(err, routers.ErrMethodNotAllowed) {
		if got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed {
			l.t.Errorf("%s %s answers %d and is not in the document", request.Method, request.URL.Path, got.status)
		}
		return
	}
	if err != nil {
		l.t.Fatal(err)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if got.status < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			l.t.Errorf("%s %s was taken against the document: %v", request.Method, request.URL.Path, err)
		}
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: got.status, Header: got.header, Options: input.Options,
		Body: io.NopCloser(strings.NewReader(got.body)),
	})
	if err != nil {
		l.t.Errorf("%s %s answers against the document: %v\n%s", request.Method, request.URL.Path, err, got.body)
	}
}

func init() {
	asText := func(body io.Reader, _ http.Header, _ *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		text, err := io.ReadAll(body)
		return string(text), err
	}
	openapi3filter.RegisterBodyDecoder("text/event-stream", asText)
	openapi3filter.RegisterBodyDecoder("text/plain", asText)
	openapi3filter.RegisterBodyDecoder("application/x-tar", asText)
	openapi3filter.RegisterBodyDecoder("application/gzip", asText)
}

// problem asks for something that is refused.
func (l *lab) problem(method, path, body string, status int) store.Problem {
	l.t.Helper()
	var problem store.Problem
	l.ask(method, path, body).must(l.t, status).into(l.t, &problem)
	return problem
}

func (l *lab) createApp(name string) {
	l.t.Helper()
	l.ask("POST", "/api/v1/apps", `{"name":"`+name+`","source":"dockerfile","hosts":["`+name+`.localhost"],"config":{"deploy_strategy":"blue-green"}}`).
		must(l.t, http.StatusCreated)
}

// enqueue puts a deployment into the queue and takes it out again, as the runner does.
func (l *lab) enqueue(app string) store.Deployment {
	l.t.Helper()
	_, err := l.store.Enqueue(l.t.Context(), store.NewDeployment{App: app, Trigger: store.TriggerPush, SHA: firstCommit, Ref: "refs/heads/main", Subject: "One"})
	if err != nil {
		l.t.Fatal(err)
	}
	claimed, _, err := l.store.Claim(l.t.Context(), app)
	if err != nil {
		l.t.Fatal(err)
	}
	return claimed
}

// advance drives a deployment up to a step of its strategy.
func (l *lab) advance(d store.Deployment, to store.Step) store.Deployment {
	l.t.Helper()
	for d.Step != to {
		steps := store.StepsOf(d.Strategy)
		next := steps[slices.Index(steps, d.Step)+1]
		change := store.Change{}
		switch next {
		case store.StepBuilt:
			change.Release = &store.Release{App: d.App, SHA: d.SHA, Source: store.SourceDockerfile, Artefact: store.Artefact{Image: l.image, Volumes: l.volumes}, Config: []byte("{}"), SealedEnv: l.sealed(map[string]string{"STARTED_WITH": "env-of-the-release"})}
		case store.StepLive:
			change.Verdict = store.Succeeded
			change.Live = &store.Live{App: d.App, Deployment: d.ID, Release: d.Release, SHA: d.SHA, Container: store.ContainerName(l.store.ServerID(), d.App, d.ID)}
		}
		advanced, err := l.store.Advance(l.t.Context(), d, next, change)
		if err != nil {
			l.t.Fatal(err)
		}
		d = advanced
	}
	return d
}

func (l *lab) sealed(env map[string]string) []byte {
	l.t.Helper()
	box, err := l.store.SealEnv(env)
	if err != nil {
		l.t.Fatal(err)
	}
	return box
}

func (l *lab) line(d store.Deployment, text string) {
	l.t.Helper()
	if err := l.store.Log(l.t.Context(), d.ID, store.Event{Kind: "build", Text: text}); err != nil {
		l.t.Fatal(err)
	}
}

// fakeRunner remembers what it was asked for, and queues rollbacks as the real one does.
type fakeRunner struct {
	store      *store.Store
	mu         sync.Mutex
	rerouted   []string
	destroyed  []string
	refuseNext error
	shared     int // how often the router was told who may call whom
}

func (r *fakeRunner) refusal() error {
	err := r.refuseNext
	r.refuseNext = nil
	return err
}

func (r *fakeRunner) Rollback(ctx context.Context, app string, to int64) (store.Deployment, error) {
	goal, err := r.store.Deployment(ctx, max(to, 1))
	if err != nil {
		return store.Deployment{}, err
	}
	return r.store.Enqueue(ctx, store.NewDeployment{App: app, Trigger: store.TriggerRollback, SHA: goal.SHA, Release: goal.Release, RollbackOf: goal.ID})
}

func (r *fakeRunner) StopApp(ctx context.Context, app string) error { return r.store.StopApp(ctx, app) }

func (r *fakeRunner) StartApp(ctx context.Context, app string) error {
	return r.store.StartApp(ctx, app)
}

func (r *fakeRunner) PurgeSite(ctx context.Context, app, under string) (int, error) {
	return r.store.PurgeSite(ctx, app, under)
}

func (r *fakeRunner) Restart(ctx context.Context, app string) (store.Deployment, error) {
	live, _, err := r.store.Live(ctx, app)
	if err != nil {
		return store.Deployment{}, err
	}
	return r.store.Enqueue(ctx, store.NewDeployment{App: app, Trigger: store.TriggerRestart, SHA: live.SHA, Release: live.Release})
}

func (r *fakeRunner) SetCallers(context.Context) error {
	r.shared++
	return nil
}

func (r *fakeRunner) Reroute(_ context.Context, app string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rerouted = append(r.rerouted, app)
	return r.refusal()
}

func (r *fakeRunner) Destroy(_ context.Context, app string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refusal(); err != nil {
		return err
	}
	r.destroyed = append(r.destroyed, app)
	return nil
}

// fakeRepositories knows commits by the names they go by.
type fakeRepositories struct {
	commits   map[string]string
	files     map[string]string // by commit and name
	tip       string
	destroyed []string
	uploaded  string
	fault     error
	wait      func(context.Context) error // nil: no wait
}

func (g *fakeRepositories) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Git", r.URL.Path)
	_, _ = w.Write(body)
}

func (g *fakeRepositories) Resolve(ctx context.Context, app, ref string) (string, string, error) {
	if g.wait != nil {
		return "", "", g.wait(ctx)
	}
	if ref == "" {
		return g.tip, "One", g.fault
	}
	if sha, known := g.commits[ref]; known {
		return sha, "Subject of " + ref, g.fault
	}
	return "", "", store.Problemf(store.CodeNotFound, "%s has no branch, tag or commit %q", app, ref)
}

func (g *fakeRepositories) Upload(_ context.Context, app store.App, subject string, content io.Reader) (store.Upload, error) {
	body, err := io.ReadAll(content)
	g.uploaded = app.Name + ": " + subject + ": " + string(body[:min(len(body), 20)])
	return store.Upload{SHA: g.tip, Files: 1, Bytes: int64(len(body))}, errors.Join(err, g.fault)
}

func (g *fakeRepositories) File(_ context.Context, _, sha, name string) ([]byte, bool, error) {
	content, found := g.files[sha+"/"+name]
	return []byte(content), found, nil
}

func (g *fakeRepositories) DeployBranch(context.Context, store.App) (string, string, error) {
	return "refs/heads/main", g.tip, nil
}

func (g *fakeRepositories) Destroy(_ context.Context, app string) error {
	g.destroyed = append(g.destroyed, app)
	return nil
}

// fakeGitHub is connected or not, and makes Apps from codes that are good once.
type fakeGitHub struct {
	mu         sync.Mutex
	connection *store.ForgeConnection
	given      store.ForgeAccess // the last one
	received   int64             // bytes of webhook deliveries
	used       map[string]bool   // codes
}

func (g *fakeGitHub) RepositoryIDs(_ context.Context, owner, name string) (string, string, error) {
	if owner != "acme" || name != "web" {
		return "", "", store.Problemf(store.CodeErrored, "look up %s/%s: GitHub refuses", owner, name)
	}
	return "11", "22", nil
}

// fakeIdentities take "REPOSITORY_ID/NUMBER" for a token, and "forged" in its end for one that is not genuine.
type fakeIdentities struct{ verified atomic.Int32 }

func (*fakeIdentities) Read(token string) (store.Identity, error) {
	repository, number, ok := strings.Cut(token, "/")
	if !ok {
		return store.Identity{}, errors.New("the token has not three parts")
	}
	return store.Identity{
		Issuer: store.GitHubIssuer, Number: number, Repository: "acme/web", RepositoryID: repository, OwnerID: "22", Ref: "refs/heads/main",
		Event: "push", RunID: "7", ExpiresAt: time.Now().Add(time.Minute),
	}, nil
}

func (i *fakeIdentities) Issuer() string { return store.GitHubIssuer }

func (i *fakeIdentities) Verify(_ context.Context, token string) (store.Identity, error) {
	i.verified.Add(1)
	if strings.HasSuffix(token, "forged") {
		return store.Identity{}, errors.New("the token's signature is not the issuer's")
	}
	if strings.HasSuffix(token, "away") {
		return store.Identity{}, store.Problemf(store.CodeUnreachable, "the issuer cannot be asked for its keys")
	}
	return i.Read(token)
}

func (g *fakeGitHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.received, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusAccepted)
}

func (g *fakeGitHub) Connect(_ context.Context, access store.ForgeAccess) (store.ForgeConnection, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if access.Kind != store.AccessApp && access.Kind != store.AccessToken {
		return store.ForgeConnection{}, store.Problemf(store.CodeUsage, "kind %q is unknown", access.Kind)
	}
	g.given = access
	g.connection = &store.ForgeConnection{Kind: access.Kind, APIURL: "https://api.github.com", WebURL: "https://github.com", WebhookURL: "http://x/webhooks/github"}
	return *g.connection, nil
}

func (g *fakeGitHub) Connection(context.Context) (store.ForgeConnection, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.connection == nil {
		return store.ForgeConnection{}, false, nil
	}
	return *g.connection, true, nil
}

func (g *fakeGitHub) Disconnect(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.connection = nil
	return nil
}

func (g *fakeGitHub) Manifest(_ context.Context, account, apiURL, state string) (store.ForgeSetup, error) {
	if strings.ContainsAny(account, "/ ") {
		return store.ForgeSetup{}, store.Problemf(store.CodeUsage, "%q is not an organization", account)
	}
	return store.ForgeSetup{Action: "https://github.com/settings/apps/new?state=" + state, Manifest: `{"name":"shipgate","note":"\"><b>"}`}, nil
}

func (g *fakeGitHub) CompleteSetup(ctx context.Context, apiURL, code string) (store.ForgeConnection, error) {
	if g.used[code] || code == "wrong" {
		return store.ForgeConnection{}, store.Problemf(store.CodeNotFound, "GitHub does not know this code").WithHint("shipgate github connect")
	}
	g.used = map[string]bool{code: true}
	connection, err := g.Connect(ctx, store.ForgeAccess{Kind: store.AccessApp, APIURL: apiURL})
	connection.AppSlug, connection.InstallURL = "shipgate-test", "https://github.com/apps/shipgate-test/installations/new"
	return connection, err
}

// lockedBuffer takes the log of several requests.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
