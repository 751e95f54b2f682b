package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// outcome is what one call of the command line did.
type outcome struct {
	code           int
	stdout, stderr string
}

// shipgate calls the command line in this process.
func shipgate(ctx context.Context, env map[string]string, stdin string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &stdout, &stderr, func(name string) string { return env[name] })
	return outcome{code, stdout.String(), stderr.String()}
}

// fakeServer answers as it is told and remembers what it was asked.
type fakeServer struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]http.HandlerFunc
	asked   []string // METHOD path body
	tokens  []string
}

func newFakeServer(t *testing.T, answers map[string]http.HandlerFunc) *fakeServer {
	f := &fakeServer{answers: answers}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	f.tokens = append(f.tokens, r.Header.Get("Authorization"))
	answer := f.answers[r.Method+" "+r.URL.Path]
	f.mu.Unlock()
	if answer == nil {
		refuse(http.StatusNotFound, store.CodeNotFound, "there is nothing at "+r.URL.Path)(w, r)
		return
	}
	answer(w, r)
}

func (f *fakeServer) env() map[string]string {
	return map[string]string{"SHIPGATE_URL": f.URL, "SHIPGATE_TOKEN": "sg_test"}
}

func reply(status int, value any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}
}

func refuse(status int, code store.Code, message string) http.HandlerFunc {
	return reply(status, store.Problem{Code: code, Message: message, Hint: "shipgate try again"})
}

// events streams a history, and its verdict when there is one.
func events(d store.Deployment, lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n, line := range lines {
			kind, text, _ := strings.Cut(line, " ")
			data, _ := json.Marshal(store.Event{ID: int64(n + 1), Kind: kind, Text: text})
			fmt.Fprintf(w, "id: %d\nevent: line\ndata: %s\n\n: still here\n\n", n+1, data)
		}
		if d.Verdict != "" {
			data, _ := json.Marshal(d)
			fmt.Fprintf(w, "id: 9\nevent: verdict\ndata: %s\n\n", data)
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// The verdict, or else the code of what went wrong, decides the exit status.
func TestExitCodes(t *testing.T) {
	running := store.Deployment{ID: 7, App: "hello", SHA: "3f9c2ab0", Subject: "Add search"}
	for name, test := range map[string]struct {
		verdict store.Verdict
		refused http.HandlerFunc
		code    int
	}{
		"succeeded":    {verdict: store.Succeeded, code: 0},
		"failed":       {verdict: store.Failed, code: 1},
		"superseded":   {verdict: store.Superseded, code: 1},
		"errored":      {verdict: store.Errored, code: 5},
		"cancelled":    {verdict: store.Cancelled, code: 130},
		"usage":        {refused: refuse(400, store.CodeUsage, "no"), code: 2},
		"not found":    {refused: refuse(404, store.CodeNotFound, "no"), code: 2},
		"conflict":     {refused: refuse(409, store.CodeConflict, "no"), code: 2},
		"unauthorised": {refused: refuse(401, store.CodeUnauthorised, "no"), code: 3},
		"forbidden":    {refused: refuse(403, store.CodeUnauthorised, "no"), code: 3},
		"away":         {refused: refuse(504, store.CodeUnreachable, "no"), code: 4},
		"internal":     {refused: refuse(500, store.CodeErrored, "no"), code: 5},
		"another one":  {refused: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) }, code: 5},
	} {
		ended := running
		ended.Verdict = test.verdict
		create := reply(202, running)
		if test.refused != nil {
			create = test.refused
		}
		f := newFakeServer(t, map[string]http.HandlerFunc{
			"POST /api/v1/apps/hello/deployments": create,
			"GET /api/v1/deployments/7/events":    events(ended, "plan blue-green", "queued x", "step built", "build #5 COPY"),
		})
		got := shipgate(t.Context(), f.env(), "", "deploy", "hello")
		if got.code != test.code {
			t.Errorf("%s: exit %d, want %d: %s", name, got.code, test.code, got.stderr)
		}
		if test.refused == nil && got.stdout != "hello · 3f9c2ab Add search · deployment 7\nplan    blue-green\nbuild   #5 COPY\n" {
			t.Errorf("%s: shows %q", name, got.stdout)
		}
		if test.refused != nil && name != "another one" && got.stderr != "error: no\nhint:  shipgate try again\n" {
			t.Errorf("%s: says %q", name, got.stderr)
		}
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	f := newFakeServer(t, nil)
	for _, args := range [][]string{
		{"bogus"}, {"deploy"}, {"deploy", "a", "b"}, {"deploy", "a", "--colour"}, {"deploy", "a", "--ref", "x", "--image", "y"},
		{"app", "create", "a", "--repo", "nobody"}, {"app", "create", "a", "--volume", "data"}, {"app", "create", "a", "--build-arg", "A"},
		{"app", "create", "a", "--config-json", "missing.json"}, {"env", "a", "put", "A=b"}, {"env", "a", "set"}, {"env", "a", "set", "A"},
		{"app", "destroy", "a"}, {"serve"}, {"proxy"}, {"rollback", "a", "--to", "one"},
	} {
		if got := shipgate(t.Context(), f.env(), "", args...); got.code != exitUsage || !strings.HasPrefix(strings.TrimPrefix(got.stderr, "This removes a for good. Type its name to go on: "), "error: ") {
			t.Errorf("%q: exit %d, %q", args, got.code, got.stderr)
		}
	}
	if len(f.asked) != 0 {
		t.Errorf("the server was asked %q", f.asked)
	}
}

// Who stops watching does not stop the deployment.
func TestInterruptDetaches(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	running := store.Deployment{ID: 7, App: "hello"}
	f := newFakeServer(t, map[string]http.HandlerFunc{
		"POST /api/v1/apps/hello/deployments": reply(202, running),
		"GET /api/v1/deployments/7/events": func(w http.ResponseWriter, r *http.Request) {
			interrupt()
			events(running)(w, r)
		},
	})
	got := shipgate(ctx, f.env(), "", "deploy", "hello")
	if got.code != exitCancelled || !strings.Contains(got.stderr, "shipgate cancel 7") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
	for _, asked := range f.asked {
		if strings.Contains(asked, "cancel") {
			t.Errorf("it asked %s", asked)
		}
	}
}

// A stream that breaks off is taken up after the last line that was seen.
func TestFollowResumes(t *testing.T) {
	ended := store.Deployment{ID: 7, App: "hello", Verdict: store.Succeeded}
	calls := 0
	f := newFakeServer(t, map[string]http.HandlerFunc{"POST /api/v1/apps/hello/deployments": reply(202, store.Deployment{ID: 7, App: "hello"})})
	f.answers["GET /api/v1/deployments/7/events"] = func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 1 {
			fmt.Fprint(w, "id: 4\nevent: line\ndata: {\"id\":4,\"kind\":\"build\",\"text\":\"once\"}\n\n")
			return
		}
		if r.URL.Query().Get("after") != "4" {
			t.Errorf("resumed with %s", r.URL.RawQuery)
		}
		events(ended)(w, r)
	}
	got := shipgate(t.Context(), f.env(), "", "deploy", "hello")
	if got.code != 0 || strings.Count(got.stdout, "build   once") != 1 || calls != 2 {
		t.Errorf("exit %d after %d calls: %q %q", got.code, calls, got.stdout, got.stderr)
	}
}

func TestDeployBodies(t *testing.T) {
	for body, args := range map[string][]string{
		`{"ref":""}`:         {"deploy", "hello"},
		`{"ref":"v1"}`:       {"deploy", "hello", "--ref", "v1"},
		`{"image":"nginx"}`:  {"deploy", "hello", "--image", "nginx"},
		`{"rollback_to":0}`:  {"rollback", "hello"},
		`{"rollback_to":41}`: {"rollback", "hello", "--to", "41"},
	} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"POST /api/v1/apps/hello/deployments": reply(202, store.Deployment{ID: 7, App: "hello"})})
		got := shipgate(t.Context(), f.env(), "", append(args, "--no-wait")...)
		if got.code != 0 || got.stdout != "deployment 7\n" {
			t.Errorf("%q: exit %d, %q", args, got.code, got.stdout)
		}
		if want := "POST /api/v1/apps/hello/deployments " + body; len(f.asked) != 1 || f.asked[0] != want {
			t.Errorf("%q asks %q, want %q", args, f.asked, want)
		}
	}
}

// A duration of zero is said to the server; one that is not given is not.
func TestZeroDurationFlags(t *testing.T) {
	for flag, want := range map[string]string{
		"liveness": `"liveness":"0s"`, "drain": `"drain":"0s"`, "hold": `"hold":"0s"`, "stop-grace": `"stop_grace":"0s"`,
		"keep-assets": `"keep_assets":"0s"`, "rollback-warm": `"rollback":{"warm":"0s"}`, "health-timeout": `"healthcheck":{"timeout":"0s"}`,
	} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"PATCH /api/v1/apps/hello": reply(200, map[string]any{"name": "hello"})})
		got := shipgate(t.Context(), f.env(), "", "app", "update", "hello", "--"+flag, "0s")
		if want = `PATCH /api/v1/apps/hello {"config":{` + want + `}}`; got.code != 0 || len(f.asked) != 1 || f.asked[0] != want {
			t.Errorf("--%s 0s: exit %d, asks %q, want %s", flag, got.code, f.asked, want)
		}
	}
}

func TestAppCreate(t *testing.T) {
	f := newFakeServer(t, map[string]http.HandlerFunc{
		"POST /api/v1/apps":   reply(201, map[string]any{"name": "hello", "source": "dockerfile", "strategy": "blue-green", "hosts": []string{"a.localhost"}}),
		"POST /api/v1/tokens": reply(201, map[string]any{"secret": "sg_secret"}),
	})
	got := shipgate(t.Context(), f.env(), "", "app", "create", "hello", "--source", "dockerfile", "--host", "a.localhost", "--health", "/up", "--health-timeout", "5s",
		"--port", "80", "--memory", "64m", "--cpus", "0.5", "--volume", "data:/data:ro", "--build-arg", "A=1=2", "--branch", "live", "--repo", "me/it")
	if got.code != 0 || !strings.Contains(got.stdout, "git remote add shipgate http://x:sg_secret@"+strings.TrimPrefix(f.URL, "http://")+"/hello.git\n") {
		t.Errorf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	want := []string{
		`POST /api/v1/apps {"config":{"branch":"live","build_args":{"A":"1=2"},"deploy_strategy":"blue-green","healthcheck":{"path":"/up","timeout":"5s"},"port":80,` +
			`"repo_name":"it","repo_owner":"me","resources":{"cpus":0.5,"memory":"64m"},"volumes":[{"name":"data","path":"/data","read_only":true}]},` +
			`"hosts":["a.localhost"],"name":"hello","source":"dockerfile"}`,
		`POST /api/v1/tokens {"app":"hello","name":"remote of hello","rights":["read","deploy"]}`,
	}
	if strings.Join(f.asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(f.asked, "\n"), strings.Join(want, "\n"))
	}
}

// Blue-green is written down where it is possible and nothing else was said.
func TestAppCreateChoosesTheStrategy(t *testing.T) {
	for _, test := range []struct {
		stdin, strategy string
		args            []string
	}{
		{``, "blue-green", nil},
		{``, "recreate", []string{"--strategy", "recreate"}},
		{``, "recreate", []string{"--volume", "data:/data"}},
		{``, "blue-green", []string{"--volume", "data:/data:ro"}},
		{``, "blue-green", []string{"--source", "static", "--publish-dir", "public"}},
		{`{"mode":"deno","storage_enabled":true}`, "recreate", []string{"--source", "static", "--config-json", "-"}},
		{`{"deploy_strategy":"recreate"}`, "recreate", []string{"--config-json", "-"}},
		{`{"deploy_strategy":"recreate"}`, "blue-green", []string{"--config-json", "-", "--strategy", "blue-green"}},
	} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"POST /api/v1/apps": reply(201, map[string]any{"name": "hello"})})
		got := shipgate(t.Context(), f.env(), test.stdin, append([]string{"app", "create", "hello", "--source", "dockerfile", "--no-token"}, test.args...)...)
		if got.code != 0 || len(f.asked) != 1 || !strings.Contains(f.asked[0], `"deploy_strategy":"`+test.strategy+`"`) {
			t.Errorf("%s %q: exit %d, asked %q, %s", test.stdin, test.args, got.code, f.asked, got.stderr)
		}
	}
}

// An update says only what it changes.
func TestAppUpdate(t *testing.T) {
	for want, args := range map[string][]string{
		`{"config":{}}`: nil,
		`{"config":{"healthcheck":{"timeout":"9s"}}}`:         {"--health-timeout", "9s"},
		`{"config":{"resources":{"cpus":2}}}`:                 {"--cpus", "2"},
		`{"config":{"deploy_strategy":"recreate"}}`:           {"--strategy", "recreate"},
		`{"config":{},"hosts":["a.localhost","b.localhost"]}`: {"--host", "a.localhost", "--host", "b.localhost"},
	} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"PATCH /api/v1/apps/hello": reply(200, map[string]any{"name": "hello"})})
		got := shipgate(t.Context(), f.env(), "", append([]string{"app", "update", "hello"}, args...)...)
		if got.code != 0 || len(f.asked) != 1 || f.asked[0] != "PATCH /api/v1/apps/hello "+want {
			t.Errorf("%q: exit %d, asked %q", args, got.code, f.asked)
		}
	}
}

func TestDestroyAsksForTheName(t *testing.T) {
	for stdin, code := range map[string]int{"hello\n": 0, "yes\n": exitUsage, "": exitUsage} {
		f := newFakeServer(t, map[string]http.HandlerFunc{
			"DELETE /api/v1/apps/hello": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		})
		got := shipgate(t.Context(), f.env(), stdin, "app", "destroy", "hello", "--with-data")
		if got.code != code || (code == 0) != (len(f.asked) == 1 && strings.HasSuffix(f.asked[0], "?with_data=true")) {
			t.Errorf("%q: exit %d, asked %q", stdin, got.code, f.asked)
		}
	}
}

func TestDestroySaysWhichVolumesStay(t *testing.T) {
	f := newFakeServer(t, map[string]http.HandlerFunc{"DELETE /api/v1/apps/hello": reply(200, map[string]any{"volumes_left": []string{"a", "b"}})})
	if got := shipgate(t.Context(), f.env(), "", "app", "destroy", "hello", "--yes"); got.code != 0 || !strings.Contains(got.stderr, "docker volume rm a b\n") {
		t.Errorf("exit %d, %s", got.code, got.stderr)
	}
}

// What an app writes cannot command the terminal of who reads its log, unless that is wanted.
func TestLogsArePlain(t *testing.T) {
	for raw, want := range map[bool]string{false: "red\nlast\n", true: "\x1b[31mred\u202e\nlast"} {
		f := newFakeServer(t, map[string]http.HandlerFunc{"GET /api/v1/apps/hello/logs": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "\x1b[31mred\u202e\nlast")
		}})
		got := shipgate(t.Context(), f.env(), "", "logs", "hello", fmt.Sprintf("--raw=%t", raw))
		if got.stdout != want || len(f.asked) != 1 || !strings.Contains(f.asked[0], fmt.Sprintf("raw=%t", raw)) {
			t.Errorf("raw %t: %q, asked %q", raw, got.stdout, f.asked)
		}
	}
}

// The data directory's token is for its own server, whatever else is set.
func TestWhichServerIsAsked(t *testing.T) {
	local, remote := newFakeServer(t, nil), newFakeServer(t, nil)
	for _, f := range []*fakeServer{local, remote} {
		f.answers = map[string]http.HandlerFunc{"GET /api/v1/apps": reply(200, []any{})}
	}
	dir := t.TempDir()
	server, _ := json.Marshal(serverFile{Local: local.URL, API: "https://shipgate.example.com"})
	for name, content := range map[string]string{"admin-token": "sg_admin\n", "server.json": string(server)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		env   map[string]string
		args  []string
		asked *fakeServer
		token string
	}{
		{map[string]string{"SHIPGATE_DATA": dir}, nil, local, "sg_admin"},
		{nil, []string{"--data", dir}, local, "sg_admin"},
		{map[string]string{"SHIPGATE_DATA": dir, "SHIPGATE_TOKEN": "sg_mine"}, nil, local, "sg_mine"},
		{map[string]string{"SHIPGATE_URL": remote.URL + "/", "SHIPGATE_TOKEN": "sg_mine"}, nil, remote, "sg_mine"},
		{map[string]string{"SHIPGATE_URL": remote.URL, "SHIPGATE_DATA": dir}, nil, remote, ""},
		{map[string]string{"SHIPGATE_URL": remote.URL, "SHIPGATE_TOKEN": "sg_mine"}, []string{"--data", dir}, local, "sg_admin"},
	} {
		local.tokens, remote.tokens = nil, nil
		got := shipgate(t.Context(), test.env, "", append([]string{"app", "list"}, test.args...)...)
		if got.code != 0 || len(local.tokens)+len(remote.tokens) != 1 || len(test.asked.tokens) != 1 || strings.TrimSpace(test.asked.tokens[0]) != strings.TrimSpace("Bearer "+test.token) {
			t.Errorf("%v %q: exit %d, local %q, remote %q: %s", test.env, test.args, got.code, local.tokens, remote.tokens, got.stderr)
		}
	}
	if got := shipgate(t.Context(), nil, "", "app", "list"); got.code != exitUsage || !strings.Contains(got.stderr, "SHIPGATE_URL") {
		t.Errorf("no server named: exit %d, %q", got.code, got.stderr)
	}
	if got := shipgate(t.Context(), nil, "", "app", "list", "--data", t.TempDir()); got.code != exitUnreachable || !strings.Contains(got.stderr, "shipgate serve --data") {
		t.Errorf("a directory without a server: exit %d, %q", got.code, got.stderr)
	}
}

func TestServerThatIsAway(t *testing.T) {
	f := newFakeServer(t, nil)
	f.Close()
	got := shipgate(t.Context(), f.env(), "", "app", "list")
	if got.code != exitUnreachable || strings.Contains(got.stderr, "Get ") || !strings.Contains(got.stderr, "connection refused") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
	got = shipgate(t.Context(), f.env(), "", "doctor")
	if got.code != exitFailed || !strings.HasPrefix(got.stdout, "fail  the server at "+f.URL) {
		t.Errorf("doctor: exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
}

// On the server's own machine doctor looks further, and leaves nothing behind.
func TestDoctorWithoutServer(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"SHIPGATE_DATA": dir}
	got := shipgate(t.Context(), env, "", "doctor")
	for _, line := range []string{"fail  no server has been started on " + dir, "hint: shipgate serve --data " + dir, "fail  the proxy does not answer", "ok    data directory " + dir} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("no %q in\n%s%s", line, got.stdout, got.stderr)
		}
	}
	if left, err := os.ReadDir(dir); got.code != exitFailed || err != nil || len(left) != 0 {
		t.Errorf("exit %d, left %v, %v", got.code, left, err)
	}
}

func TestDoctorLevels(t *testing.T) {
	for level, code := range map[string]int{store.LevelOK: 0, store.LevelWarn: 0, store.LevelFail: exitFailed} {
		report := map[string]any{"findings": []map[string]string{{"level": store.LevelOK, "text": "a"}, {"level": level, "text": "b", "hint": "c"}}}
		f := newFakeServer(t, map[string]http.HandlerFunc{"GET /api/v1/doctor": reply(200, report)})
		got := shipgate(t.Context(), f.env(), "", "doctor")
		if want := fmt.Sprintf("ok    a\n%-5s b\n      hint: c\n", level); got.code != code || got.stdout != want {
			t.Errorf("%s: exit %d, %q", level, got.code, got.stdout)
		}
	}
	f := newFakeServer(t, map[string]http.HandlerFunc{"GET /api/v1/doctor": refuse(403, store.CodeUnauthorised, "no")})
	if got := shipgate(t.Context(), f.env(), "", "doctor"); got.code != exitUnauthorised {
		t.Errorf("without the right: exit %d", got.code)
	}
}

func TestClocks(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for engine, level := range map[string]string{
		now.Add(4 * time.Second).Format(time.RFC3339Nano):         store.LevelOK,
		now.Add(-time.Minute).Format(time.RFC3339Nano):            store.LevelWarn,
		now.Add(time.Hour).Format(time.RFC3339Nano):               store.LevelWarn,
		now.In(time.FixedZone("", 7200)).Format(time.RFC3339Nano): store.LevelOK,
		"": "",
	} {
		found := ""
		for _, finding := range examineClock(engine, now) {
			found += finding.Level
		}
		if found != level {
			t.Errorf("%q is %q, want %q", engine, found, level)
		}
	}
}

// What commands that read print with --json is JSON, with lists as arrays.
func TestJSON(t *testing.T) {
	d := store.Deployment{ID: 7, App: "hello", Verdict: store.Succeeded}
	f := newFakeServer(t, map[string]http.HandlerFunc{
		"GET /api/v1/apps":                    reply(200, []any{}),
		"GET /api/v1/apps/hello":              reply(200, map[string]any{"name": "hello", "config": map[string]any{}}),
		"GET /api/v1/apps/hello/plan":         reply(200, store.Plan{Strategy: store.BlueGreen}),
		"GET /api/v1/apps/hello/deployments":  reply(200, []store.Deployment{}),
		"GET /api/v1/apps/hello/env":          reply(200, []any{}),
		"GET /api/v1/deployments/7":           reply(200, d),
		"GET /api/v1/tokens":                  reply(200, []any{}),
		"GET /api/v1/doctor":                  reply(200, map[string]any{"findings": []any{}}),
		"POST /api/v1/apps/hello/deployments": reply(202, d),
		"GET /api/v1/deployments/7/events":    events(d, "plan x"),
	})
	for _, args := range [][]string{
		{"app", "list"}, {"app", "show", "hello"}, {"plan", "hello"}, {"deployments", "hello"}, {"env", "hello", "list"}, {"show", "7"},
		{"token", "list"}, {"doctor"}, {"deploy", "hello"},
	} {
		got := shipgate(t.Context(), f.env(), "", append(args, "--json")...)
		if got.code != 0 || !json.Valid([]byte(got.stdout)) || strings.HasPrefix(got.stdout, "null") {
			t.Errorf("%q: exit %d, %q, %q", args, got.code, got.stdout, got.stderr)
		}
	}
}

func TestShow(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	d := shownDeployment{Deployment: store.Deployment{
		ID: 7, App: "hello", Trigger: store.TriggerPush, SHA: "3f9c2ab0", Subject: "Add search", Strategy: store.BlueGreen, StrategyReason: "why not",
		Verdict: store.Failed, Reason: "health check failed", Hint: "shipgate logs hello", CreatedAt: begin,
	}}
	d.Events = []store.Event{{Kind: "step", Step: store.StepBuilt, At: begin.Add(1500 * time.Millisecond)}}
	for n := range 30 {
		d.Events = append(d.Events, store.Event{Kind: "log", Text: fmt.Sprintf("<%d>", n)})
	}
	f := newFakeServer(t, map[string]http.HandlerFunc{"GET /api/v1/deployments/7": reply(200, d)})
	got := shipgate(t.Context(), f.env(), "", "show", "7")
	want := `deployment  7 of hello, asked for by push
commit      3f9c2ab Add search
strategy    blue-green: why not
verdict     failed
reason      health check failed
hint        shipgate logs hello

03:04:06.500  built    +1.5s

log     <10>
`
	if !strings.HasPrefix(got.stdout, want) || !strings.HasSuffix(got.stdout, "log     <29>\n") {
		t.Errorf("shows\n%s", got.stdout)
	}
}
