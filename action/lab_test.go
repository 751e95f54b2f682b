package action

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
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
)

// fakeServer is a shipgate with one app and the deployments that were asked for. It holds its clients to the API.
type fakeServer struct {
	*httptest.Server
	t *testing.T

	mu          sync.Mutex
	deployments map[string]deployment // by idempotency key
	events      []event               // the history of each deployment
	verdict     deployment            // what its end adds
	asked       []map[string]any      // bodies of what was asked for
	uploaded    []byte
	cancelled   []string
	exchanged   map[string]bool // identities
	resumed     []string        // Last-Event-IDs
	tokens      []string        // what was used
	breakAfter  int             // events of one stream; 0: all
	refuse      []int           // statuses for the next deployments asked for
	expire      string          // a token that is not taken any more
	mute        time.Duration   // how long each stream is silent before it breaks off
	mutes       int             // how many of them
	hold        chan struct{}
	front       []int         // statuses that something in front of the server gives to the next streams; below zero: the server
	spent       int           // exchanges whose answers are lost
	onBreak     func()        // at the end of a stream that has no verdict
	hang        bool          // asked to cancel, it does not answer
	pause       time.Duration // before the last event of a stream
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	f := &fakeServer{t: t, deployments: map[string]deployment{}, exchanged: map[string]bool{}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.verdict = deployment{Verdict: "succeeded", Strategy: "blue-green", StrategyReason: "health check", Release: 7, Previous: 41, PreviousRelease: 6, ImageDigest: "sha256:1c",
		DurationMS: 6500, CutoverMS: 1500, Steps: []stepTime{{"wait", 3}, {"build", 6000}, {"gate", 30}, {"route", 1500}}}
	for n, line := range []string{"plan blue-green: health check; no gap expected", "build #1 FROM scratch", "=built", "start web-42 on 10.0.0.2:8080", "=started",
		"gate GET / → 200", "=healthy", "route web.example.com → 42", "=routed", "=live", "live https://web.example.com in 6.5 s"} {
		kind, text, _ := strings.Cut(line, " ")
		e := event{ID: int64(10 + n), At: at.Add(time.Duration(n) * 500 * time.Millisecond), Kind: kind, Text: text}
		if step, ok := strings.CutPrefix(line, "="); ok {
			e.Kind, e.Step, e.Text = "step", step, ""
		}
		f.events = append(f.events, e)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/apps/web/deployments", f.create)
	mux.HandleFunc("POST /api/v1/apps/web/uploads", f.upload)
	mux.HandleFunc("GET /api/v1/apps/web/plan", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"strategy":"%s","reason":"volume data is writable","gap":"requests wait"}`, cmp.Or(r.URL.Query().Get("strategy"), "recreate"))
	})
	mux.HandleFunc("GET /api/v1/deployments/{id}/events", f.stream)
	mux.HandleFunc("POST /api/v1/deployments/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if f.hang {
			f.mu.Unlock()
			<-r.Context().Done()
			f.mu.Lock()
		}
		defer f.mu.Unlock()
		f.cancelled = append(f.cancelled, r.PathValue("id"))
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "{}")
	})
	mux.HandleFunc("POST /api/v1/oidc/exchange", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Token, App string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.App != "web" || !strings.HasPrefix(body.Token, "identity for "+f.URL) {
			f.t.Errorf("exchanged %+v, %v", body, err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.exchanged[body.Token] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.exchanged[body.Token] = true
		if f.spent > 0 {
			f.spent--
			w.Header().Set("Content-Length", "100") // and less comes
			return
		}
		fmt.Fprintf(w, `{"token":"sg_exchanged_%d","expires_at":"2026-01-01T00:00:00Z"}`, len(f.tokens))
	})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.inFront(w, r) {
			return
		}
		w.Header().Set("Shipgate-Protocol", "1")
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if r.URL.Path != "/api/v1/oidc/exchange" && !strings.HasPrefix(token, "sg_") || token == f.expired() && token != "" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"code":"unauthorised","message":"the token is not valid","hint":"shipgate token create"}`)
			return
		}
		f.mu.Lock()
		f.tokens = append(f.tokens, token)
		f.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

// inFront answers in place of the server, as a proxy does whose server is away.
func (f *fakeServer) inFront(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.front) == 0 || !strings.HasSuffix(r.URL.Path, "/events") {
		return false
	}
	status := f.front[0]
	if status < 0 { // the server itself says so
		w.Header().Set("Shipgate-Protocol", "1")
		status = -status
	}
	w.WriteHeader(status)
	f.front = f.front[1:]
	return true
}

func (f *fakeServer) expired() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.expire
}

func (f *fakeServer) create(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.refuse) > 0 {
		w.WriteHeader(f.refuse[0])
		f.refuse = f.refuse[1:]
		return
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Errorf("asked for a deployment with no JSON: %v", err)
	}
	for name := range body {
		if !strings.Contains("ref sha image strategy github_deployment built_from", name) {
			f.t.Errorf("the API knows no %s", name)
		}
	}
	key := r.Header.Get("Idempotency-Key")
	d, again := f.deployments[key]
	if !again {
		f.asked = append(f.asked, body)
		d = deployment{ID: int64(42 + len(f.deployments)), App: "web", SHA: strings.Repeat("a", 40), Subject: "Add search", URL: "https://web.example.com"}
		f.deployments[key] = d
	}
	if f.hold != nil && !again {
		f.mu.Unlock()
		<-f.hold
		f.mu.Lock()
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(d)
}

func (f *fakeServer) upload(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/gzip" {
		f.t.Errorf("uploaded %s: %v", r.Header.Get("Content-Type"), err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uploaded = content
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"sha":"%s","tree":"%x","files":2,"bytes":10}`, strings.Repeat("b", 40), sha1.Sum(content))
}

func (f *fakeServer) stream(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	last := r.Header.Get("Last-Event-ID")
	f.resumed = append(f.resumed, last)
	after, sent := int64(0), 0
	_, _ = fmt.Sscan(last, &after)
	events, limit, end := f.events, f.breakAfter, f.verdict
	for _, d := range f.deployments {
		if fmt.Sprint(d.ID) == r.PathValue("id") {
			end.ID, end.App, end.SHA, end.Subject, end.URL = d.ID, d.App, d.SHA, d.Subject, d.URL
		}
	}
	mute := f.mutes > 0
	if mute {
		f.mutes--
	}
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	if mute {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(f.mute):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
	for n, e := range events {
		if e.ID <= after {
			continue
		}
		if n == len(events)-1 {
			time.Sleep(f.pause)
		}
		if sent++; limit > 0 && sent > limit {
			f.mu.Lock()
			if f.onBreak != nil {
				f.onBreak()
			}
			f.mu.Unlock()
			panic(http.ErrAbortHandler) // as a server that is killed
		}
		data, _ := json.Marshal(e)
		fmt.Fprintf(w, "id: %d\nevent: line\ndata: %s\n\n: still here\n\n", e.ID, data)
		_ = http.NewResponseController(w).Flush()
	}
	if end.Verdict == "" {
		if f.onBreak != nil {
			f.onBreak()
		}
		<-r.Context().Done()
		return
	}
	data, _ := json.Marshal(end)
	fmt.Fprintf(w, "event: verdict\ndata: %s\n\n", data)
}

// step is one run of the Action with what the runner would make of it.
type step struct {
	t       *testing.T
	env     map[string]string
	out     bytes.Buffer
	code    int
	outputs map[string]string
	summary string
	seen    runnerView
	away    time.Duration
	silence time.Duration
}

func (f *fakeServer) step(inputs ...string) *step {
	f.t.Helper()
	dir := f.t.TempDir()
	s := &step{t: f.t, env: map[string]string{
		"SHIPGATE_INPUT_SERVER": f.URL, "SHIPGATE_INPUT_APP": "web", "SHIPGATE_INPUT_TOKEN": "sg_given", "GITHUB_SHA": strings.Repeat("a", 40),
		"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_JOB": "deploy", "GITHUB_REPOSITORY": "acme/web", "GITHUB_WORKSPACE": dir,
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
	}}
	for _, input := range inputs {
		name, value, _ := strings.Cut(input, "=")
		s.env[name] = value
	}
	return s
}

func (s *step) run(ctx context.Context) *step {
	s.t.Helper()
	s.code = Run(ctx, Options{away: s.away, silence: s.silence, Getenv: func(name string) string { return s.env[name] }, Stdout: &s.out})
	s.seen = interpret(s.out.String())
	output, _ := os.ReadFile(s.env["GITHUB_OUTPUT"])
	s.outputs = readOutputs(s.t, string(output))
	summary, _ := os.ReadFile(s.env["GITHUB_STEP_SUMMARY"])
	s.summary = string(summary)
	return s
}

// readOutputs reads the file as the runner does: NAME<<END, lines, END.
func readOutputs(t *testing.T, text string) map[string]string {
	t.Helper()
	outputs := map[string]string{}
	for lines := strings.Split(text, "\n"); len(lines) > 1; {
		name, end, ok := strings.Cut(lines[0], "<<")
		if !ok {
			t.Fatalf("%q is no output", lines[0])
		}
		var value []string
		for lines = lines[1:]; len(lines) > 0 && lines[0] != end; lines = lines[1:] {
			value = append(value, lines[0])
		}
		if len(lines) == 0 {
			t.Fatalf("output %s has no end", name)
		}
		outputs[name], lines = strings.Join(value, "\n"), lines[1:]
	}
	return outputs
}

// runnerView is what the runner takes for commands, and what it only shows.
type runnerView struct {
	commands []string // NAME PROPERTIES::DATA
	masked   []string
	text     []string
	openEnd  bool // commands are still stopped
	groups   int  // open
}

// interpret reads a step's output as the runner does, both forms of commands.
func interpret(out string) (v runnerView) {
	stopped := ""
	for line := range strings.SplitSeq(strings.ReplaceAll(out, "\r", "\n"), "\n") {
		trimmed := strings.TrimSpace(line)
		if stopped != "" {
			if trimmed == "::"+stopped+"::" {
				stopped = ""
			} else {
				v.text = append(v.text, line)
			}
			continue
		}
		name, data, ok := strings.Cut(strings.TrimPrefix(trimmed, "::"), "::")
		if !strings.HasPrefix(trimmed, "::") || !ok {
			if strings.Contains(line, "##[") {
				v.commands = append(v.commands, line)
			}
			v.text = append(v.text, line)
			continue
		}
		switch name {
		case "stop-commands":
			stopped = data
		case "add-mask":
			v.masked = append(v.masked, data)
		case "group":
			v.groups++
		case "endgroup":
			v.groups--
		}
		v.commands = append(v.commands, name+"::"+data)
	}
	v.openEnd = stopped != ""
	return v
}

func (v runnerView) has(prefix string) bool {
	for _, command := range v.commands {
		if strings.HasPrefix(command, prefix) {
			return true
		}
	}
	return false
}
