package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDeploys(t *testing.T) {
	f := newFakeServer(t)
	s := f.step().run(t.Context())
	if s.code != 0 || s.seen.groups != 0 {
		t.Fatalf("exit %d, %d groups open\n%s", s.code, s.seen.groups, &s.out)
	}
	want := map[string]string{"url": "https://web.example.com", "deployment-id": "42", "status": "succeeded", "release": "7", "image-digest": "sha256:1c", "previous-release": "6",
		"log-url": f.URL + "/deployments/42", "duration-ms": "6500", "cutover-ms": "1500"}
	for name, value := range want {
		if s.outputs[name] != value {
			t.Errorf("output %s is %q, want %q", name, s.outputs[name], value)
		}
	}
	if len(s.outputs) != len(want) {
		t.Errorf("outputs %v", s.outputs)
	}
	for _, text := range []string{"### web: succeeded", "aaaaaaa Add search", "blue-green: health check", "41 → 42", "route    ", "1.50 s", "█"} {
		if !strings.Contains(s.summary, text) {
			t.Errorf("%q is not in the summary:\n%s", text, s.summary)
		}
	}
	if !s.seen.has("notice title=Deployed::web aaaaaaa is live: https://web.example.com") || !s.seen.has("group::Build") || !slices.Equal(s.seen.masked, []string{"sg_given"}) {
		t.Errorf("commands %q", s.seen.commands)
	}
	if len(f.asked) != 1 || f.asked[0]["sha"] != strings.Repeat("a", 40) {
		t.Errorf("asked for %v", f.asked)
	}
	f.step().run(t.Context())
	f.step("GITHUB_RUN_ATTEMPT=2").run(t.Context())
	if len(f.asked) != 2 {
		t.Errorf("a step that is repeated joins; asked %d times", len(f.asked))
	}
}

// A cutover of less than a millisecond is one all the same, and the page is where the server says.
func TestOutputsAsTheServerSaysThem(t *testing.T) {
	f := newFakeServer(t)
	f.verdict.CutoverMS, f.verdict.LogURL = 0, "https://deploy.example.com/deployments/42?key=k"
	if s := f.step().run(t.Context()); s.outputs["cutover-ms"] != "0" || s.outputs["log-url"] != f.verdict.LogURL {
		t.Errorf("outputs %v", s.outputs)
	}
	f.verdict.Verdict = "failed"
	if s := f.step("GITHUB_RUN_ID=8").run(t.Context()); s.outputs["cutover-ms"] != "" || !strings.Contains(s.summary, "deployments/42?key=k") {
		t.Errorf("outputs %v\n%s", s.outputs, s.summary)
	}
}

// Nothing that others wrote is Markdown or HTML in the summary, one output, or more than one line of the log.
func TestTextsStayTexts(t *testing.T) {
	f := newFakeServer(t)
	f.verdict.Verdict, f.verdict.Reason = "failed", "a | b\n| c | <img src=x> [x](y) **z**"
	f.verdict.Strategy = "</pre>"
	f.verdict.ImageDigest = "x\nstatus<<end\nsucceeded\nend"
	f.events = append(f.events, event{ID: 99, Kind: "log", Text: "one\r\ntwo </pre><script>"})
	s := f.step().run(t.Context())
	for _, raw := range []string{"<img", "](y)", "**", "| c |", "<script>", "\n| c"} {
		if strings.Contains(s.summary, raw) {
			t.Errorf("%q is in the summary:\n%s", raw, s.summary)
		}
	}
	if !strings.Contains(s.out.String(), "log     one  two </pre>") || len(s.outputs) != 9 || s.outputs["image-digest"] != f.verdict.ImageDigest {
		t.Errorf("outputs %q\n%s", s.outputs, &s.out)
	}
	raw, err := os.ReadFile(s.env["GITHUB_OUTPUT"])
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]bool{}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if _, end, ok := strings.Cut(line, "<<end_"); ok {
			ends[end] = true
		}
	}
	if len(ends) != 9 {
		t.Errorf("%d different ends of outputs", len(ends))
	}
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		verdict, failOn string
		code            int
	}{
		{"failed", "", 1}, {"errored", "", 5}, {"superseded", "", 1}, {"cancelled", "", 130}, {"superseded", "failed,errored", 0}, {"failed", "none", 0}, {"failed", "failed", 1},
	} {
		f := newFakeServer(t)
		f.verdict.Verdict, f.verdict.Reason, f.verdict.Hint = test.verdict, "Dockerfile:3: RUN false: exit code 1", "shipgate logs web"
		s := f.step("SHIPGATE_INPUT_FAIL_ON=" + test.failOn).run(t.Context())
		if s.code != test.code || s.outputs["status"] != test.verdict {
			t.Errorf("%s, fail on %q: exit %d, outputs %v", test.verdict, test.failOn, s.code, s.outputs)
		}
		annotation := "error title=shipgate%3A " + test.verdict + ",file=Dockerfile,line=3::Dockerfile:3: RUN false"
		if test.code == 0 {
			annotation = "warning title=shipgate%3A " + test.verdict
		}
		if !s.seen.has(annotation) || !strings.Contains(s.summary, "<details>") || !strings.Contains(s.summary, "#1 FROM scratch") {
			t.Errorf("%s: commands %q\n%s", test.verdict, s.seen.commands, s.summary)
		}
	}
}

// A stream that breaks off is taken up where it was: every line comes once.
func TestStreamIsResumed(t *testing.T) {
	f := newFakeServer(t)
	f.breakAfter = 3
	s := f.step().run(t.Context())
	if s.code != 0 || strings.Count(s.out.String(), "#1 FROM scratch") != 1 || strings.Count(s.out.String(), "web-42 on") != 1 {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
	if want := []string{"0", "12", "15", "18"}; !slices.Equal(f.resumed, want) {
		t.Errorf("resumed after %v, want %v", f.resumed, want)
	}
}

// A build that says nothing for long is no server that is away.
func TestSilentStreamsThatBreakOff(t *testing.T) {
	f := newFakeServer(t)
	f.mute, f.mutes = 100*time.Millisecond, 4
	s := f.step()
	s.away = 150 * time.Millisecond
	if s.run(t.Context()); s.code != 0 {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

// A server that does not come back is given up, and the deployment is left to it.
func TestServerThatGoesAway(t *testing.T) {
	f := newFakeServer(t)
	f.breakAfter = 2
	s := f.step()
	s.away = 300 * time.Millisecond
	go func() {
		for t.Context().Err() == nil {
			f.mu.Lock()
			begun := len(f.resumed) > 0
			f.mu.Unlock()
			if begun {
				_ = f.Listener.Close()
				f.CloseClientConnections()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if s.run(t.Context()); s.code != exitUnreachable || !strings.Contains(s.out.String(), "deployment 42 cannot be followed any more") || s.outputs["deployment-id"] != "42" {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

// A token that is out of time when the workflow is cancelled is renewed first.
func TestCancelWithATokenThatHasExpired(t *testing.T) {
	f := newFakeServer(t)
	f.verdict.Verdict = ""
	f.expire = "none yet"
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"value":"identity for %s %s"}`, r.URL.Query().Get("audience"), rand.Text())
	}))
	defer runner.Close()
	s := f.step("SHIPGATE_INPUT_TOKEN=", "ACTIONS_ID_TOKEN_REQUEST_URL="+runner.URL+"/token?api=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runner-secret")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for t.Context().Err() == nil {
			f.mu.Lock()
			if len(f.resumed) > 0 {
				f.expire = f.tokens[len(f.tokens)-1]
				f.mu.Unlock()
				cancel()
				return
			}
			f.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}()
	if s.run(ctx); s.code != exitCancelled || len(f.cancelled) != 1 || len(s.seen.masked) != 4 || !strings.Contains(s.out.String(), "the server was asked to cancel deployment 42") {
		t.Errorf("exit %d, cancelled %v\n%s", s.code, f.cancelled, &s.out)
	}
}

func TestServerThatIsBusyIsAskedAgain(t *testing.T) {
	f := newFakeServer(t)
	f.refuse = []int{503, 429, 502, 504}
	if s := f.step().run(t.Context()); s.code != 0 || len(f.asked) != 1 {
		t.Errorf("exit %d, asked %d times\n%s", s.code, len(f.asked), &s.out)
	}
}

func TestWrongToken(t *testing.T) {
	f := newFakeServer(t)
	if s := f.step("SHIPGATE_INPUT_TOKEN=wrong").run(t.Context()); s.code != exitUnauthorised || !s.seen.has("error title=shipgate%3A unauthorised::the token is not valid%0ANext: shipgate token create") {
		t.Errorf("exit %d: %q", s.code, s.seen.commands)
	}
	if s := f.step("SHIPGATE_INPUT_TOKEN=").run(t.Context()); s.code != exitUnauthorised || !strings.Contains(s.out.String(), "id-token: write") {
		t.Errorf("without token and identity: exit %d\n%s", s.code, &s.out)
	}
}

// Without a token the job's identity is exchanged for one, and again when that one is out of time.
func TestKeyless(t *testing.T) {
	f := newFakeServer(t)
	f.breakAfter = 4
	asks := 0
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks++
		if r.Header.Get("Authorization") != "Bearer runner-secret" || r.URL.Query().Get("api") != "1" {
			t.Errorf("the runner was asked %s with %s", r.URL, r.Header.Get("Authorization"))
		}
		if asks == 2 {
			f.mu.Lock()
			f.breakAfter, f.expire = 0, ""
			f.mu.Unlock()
		}
		fmt.Fprintf(w, `{"value":"identity for %s %d"}`, r.URL.Query().Get("audience"), asks)
	}))
	defer runner.Close()
	f.expire = "none yet"
	s := f.step("SHIPGATE_INPUT_TOKEN=", "ACTIONS_ID_TOKEN_REQUEST_URL="+runner.URL+"/token?api=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=runner-secret")
	go func() { // as soon as a stream was broken off, the token is not taken any more
		for t.Context().Err() == nil {
			f.mu.Lock()
			if len(f.resumed) > 0 && f.breakAfter > 0 {
				f.expire = "sg_exchanged_1"
				f.mu.Unlock()
				return
			}
			f.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}()
	s.run(t.Context())
	if s.code != 0 || asks != 2 || len(s.seen.masked) != 4 {
		t.Errorf("exit %d, asked %d times, masked %q\n%s", s.code, asks, s.seen.masked, &s.out)
	}
	for _, secret := range s.seen.masked {
		if strings.Count(s.out.String(), secret) != 1 {
			t.Errorf("%s is shown beyond its mask", secret)
		}
	}
}

// A workflow that is cancelled has its deployment cancelled, or lets it go on, also while it was only being asked for.
func TestInterrupted(t *testing.T) {
	for name, test := range map[string]struct {
		input   string
		asking  bool
		cancels int
		says    string
	}{
		"following":         {"", false, 1, "the server was asked to cancel deployment 42"},
		"following, detach": {"SHIPGATE_INPUT_ON_CANCEL=detach", false, 0, "deployment 42 goes on"},
		"asking":            {"", true, 1, "the server was asked to cancel deployment 42"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeServer(t)
			f.verdict.Verdict = ""
			if test.asking {
				f.hold = make(chan struct{})
				defer close(f.hold)
			}
			ctx, cancel := context.WithCancel(t.Context())
			s := f.step(test.input)
			go func() {
				for t.Context().Err() == nil {
					f.mu.Lock()
					begun := len(f.asked) > 0 && (test.asking || len(f.resumed) > 0)
					f.mu.Unlock()
					if begun {
						cancel()
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			began := time.Now()
			s.run(ctx)
			cancel()
			if s.code != exitCancelled || len(f.cancelled) != test.cancels || !strings.Contains(s.out.String(), test.says) || len(f.deployments) != 1 {
				t.Errorf("exit %d, cancelled %v, %d deployments\n%s", s.code, f.cancelled, len(f.deployments), &s.out)
			}
			if !test.asking && s.outputs["deployment-id"] != "42" {
				t.Errorf("outputs %v", s.outputs)
			}
			if took := time.Since(began); took > 7*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestTimeIsUp(t *testing.T) {
	f := newFakeServer(t)
	f.verdict.Verdict = ""
	s := f.step("SHIPGATE_INPUT_TIMEOUT=1s").run(t.Context())
	if s.code != exitUnreachable || !strings.Contains(s.out.String(), "no verdict after 1s") || len(f.cancelled) != 0 {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
	if s.outputs["status"] != "running" || s.outputs["deployment-id"] != "42" || !strings.Contains(s.summary, "### web: running") {
		t.Errorf("outputs %v\n%s", s.outputs, s.summary)
	}
}

func TestOtherModes(t *testing.T) {
	f := newFakeServer(t)
	if s := f.step("SHIPGATE_INPUT_DRY_RUN=true").run(t.Context()); s.code != 0 || len(f.asked) != 0 || !strings.Contains(s.out.String(), "web would be deployed recreate: volume data is writable") {
		t.Errorf("dry run: exit %d\n%s", s.code, &s.out)
	}
	if s := f.step("SHIPGATE_INPUT_WAIT=false").run(t.Context()); s.code != 0 || s.outputs["status"] != "running" || s.outputs["deployment-id"] != "42" || len(f.resumed) != 0 {
		t.Errorf("no wait: exit %d, %v", s.code, s.outputs)
	}
	f.step("SHIPGATE_INPUT_IMAGE=ghcr.io/acme/web:1", "SHIPGATE_INPUT_SUMMARY=false").run(t.Context())
	f.step("SHIPGATE_INPUT_REF=v1").run(t.Context())
	if last := f.asked[len(f.asked)-2:]; last[0]["image"] != "ghcr.io/acme/web:1" || last[1]["ref"] != "v1" || last[1]["sha"] != nil {
		t.Errorf("asked for %v", last)
	}
	if s := f.step("SHIPGATE_INPUT_DRY_RUN=true", "SHIPGATE_INPUT_STRATEGY=blue-green").run(t.Context()); !strings.Contains(s.out.String(), "web would be deployed blue-green") {
		t.Errorf("dry run of a strategy: exit %d\n%s", s.code, &s.out)
	}
}

// What a workflow wants of its deployment is asked for, and nothing that it does not say.
func TestWishes(t *testing.T) {
	f := newFakeServer(t)
	for _, test := range []struct {
		inputs               []string
		strategy, deployment any
	}{
		{nil, nil, nil},
		{[]string{"SHIPGATE_INPUT_STRATEGY=recreate"}, "recreate", nil},
		{[]string{"SHIPGATE_INPUT_GITHUB_DEPLOYMENT=auto"}, nil, nil},
		{[]string{"SHIPGATE_INPUT_GITHUB_DEPLOYMENT=off"}, nil, "off"},
		{[]string{"SHIPGATE_INPUT_ENVIRONMENT=production"}, nil, "off"}, // GitHub makes one for the job
	} {
		f.step(append(test.inputs, "GITHUB_RUN_ID="+fmt.Sprint(100+len(f.asked)))...).run(t.Context())
		if last := f.asked[len(f.asked)-1]; last["strategy"] != test.strategy || last["github_deployment"] != test.deployment {
			t.Errorf("%v asks for %v", test.inputs, last)
		}
	}
}

// Steps of one job that differ in what they deploy are not one.
func TestWhatMakesADeploymentTheSame(t *testing.T) {
	f := newFakeServer(t)
	for n, input := range []string{"", "SHIPGATE_INPUT_REF=v1", "SHIPGATE_INPUT_REF=v2", "SHIPGATE_INPUT_IMAGE=a", "SHIPGATE_INPUT_ENVIRONMENT=staging",
		"SHIPGATE_INPUT_STRATEGY=recreate", "SHIPGATE_INPUT_SHA=" + strings.Repeat("c", 40), "GITHUB_RUN_ID=8", "GITHUB_RUN_ATTEMPT=2", "GITHUB_JOB=other", "GITHUB_REPOSITORY=acme/api"} {
		for range 2 {
			f.step(input).run(t.Context())
		}
		if len(f.asked) != n+1 {
			t.Fatalf("with %q there are %d deployments", input, len(f.asked))
		}
	}
}

func TestServersThatAreNotOurs(t *testing.T) {
	for name, test := range map[string]struct {
		protocol string
		status   int
		says     string
		code     int
	}{
		"newer":             {"2", 202, "speaks protocol 2, and this client speaks 1", exitUsage},
		"newer and refuses": {"2", 404, "speaks protocol 2, and this client speaks 1", exitUsage},
		"no shipgate":       {"", 200, "is no shipgate server", exitUsage},
		"in front of one":   {"", 403, "answered 403", exitErrored},
		"made elsewhere":    {"1", 400, "answered 400", exitErrored}, // its Location is not where to go
		"sends elsewhere":   {"", 307, "the server sends on to https://elsewhere.example.com/", exitUsage},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if test.protocol != "" {
				w.Header().Set("Shipgate-Protocol", test.protocol)
			}
			if test.status == 307 || test.status == 400 {
				w.Header().Set("Location", "https://elsewhere.example.com/")
			}
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, "{}")
		}))
		s := newFakeServer(t).step("SHIPGATE_INPUT_SERVER=" + server.URL).run(t.Context())
		server.Close()
		if s.code != test.code || !strings.Contains(s.out.String(), test.says) {
			t.Errorf("%s: exit %d\n%s", name, s.code, &s.out)
		}
	}
}

// A token that anybody on the way can read is worth a warning, which does not fail the step.
func TestTokenInTheClear(t *testing.T) {
	for server, warns := range map[string]bool{
		"http://deploy.example.com": true, "http://10.0.0.7:7420": true, "https://deploy.example.com": false, "http://127.0.0.1:7420": false, "http://[::1]:7420": false, "http://localhost:7420": false,
	} {
		if in := (inputs{server: server}); in.inTheClear() != warns {
			t.Errorf("%s: %t", server, !warns)
		}
	}
	s := newFakeServer(t).step("SHIPGATE_INPUT_SERVER=http://deploy.invalid", "SHIPGATE_INPUT_TIMEOUT=1s").run(t.Context())
	if !s.seen.has("warning title=shipgate::the token goes to http://deploy.invalid without encryption") || s.code != exitUnreachable {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

func TestDebugShowsRequestsWithoutSecrets(t *testing.T) {
	f := newFakeServer(t)
	s := f.step("RUNNER_DEBUG=1").run(t.Context())
	if !s.seen.has("debug::POST /api/v1/apps/web/deployments: 202 Accepted after ") || strings.Count(s.out.String(), "sg_given") != 1 {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
	if s := f.step().run(t.Context()); s.seen.has("debug") {
		t.Errorf("not asked for:\n%s", &s.out)
	}
}

func TestPathMode(t *testing.T) {
	f := newFakeServer(t)
	s := f.step("SHIPGATE_INPUT_PATH=dist")
	dist := filepath.Join(s.env["GITHUB_WORKSPACE"], "dist")
	for name, content := range map[string]string{"index.html": "<p>", "assets/app.js": "1", ".git/config": "secret", "sub/.git": "gitdir: x"} {
		at := filepath.Join(dist, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../index.html", filepath.Join(dist, "assets", "home")); err != nil {
		t.Fatal(err)
	}
	if s.run(t.Context()); s.code != 0 || f.asked[0]["sha"] != strings.Repeat("b", 40) || f.asked[0]["built_from"] != strings.Repeat("a", 40) {
		t.Fatalf("exit %d, asked %v\n%s", s.code, f.asked, &s.out)
	}
	if names, want := unpacked(t, f.uploaded), "assets/app.js ,assets/home ../index.html,index.html "; names != want {
		t.Errorf("uploaded %q, want %q", names, want)
	}
	by := f.step("SHIPGATE_INPUT_PATH="+dist, "GITHUB_SHA=", "GITHUB_RUN_ID=")
	if by.run(t.Context()); by.code != 0 || f.asked[len(f.asked)-1]["built_from"] != nil {
		t.Errorf("outside of a workflow: exit %d, asked %v\n%s", by.code, f.asked, &by.out)
	}
	if s := f.step("SHIPGATE_INPUT_PATH=missing").run(t.Context()); s.code != exitUsage {
		t.Errorf("a missing path: exit %d", s.code)
	}
}

// unpacked lists the files of an upload, with where links lead.
func unpacked(t *testing.T, upload []byte) string {
	t.Helper()
	content, err := gzip.NewReader(bytes.NewReader(upload))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for stream := tar.NewReader(content); ; {
		header, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, ",")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name+" "+header.Linkname)
	}
}

func TestInputsAreRefused(t *testing.T) {
	f := newFakeServer(t)
	for input, says := range map[string]string{
		"SHIPGATE_INPUT_SERVER=": "server is missing", "SHIPGATE_INPUT_SERVER=deploy.example.com": "no address", "SHIPGATE_INPUT_APP=": "app is missing",
		"SHIPGATE_INPUT_WAIT=yes": "true or false", "SHIPGATE_INPUT_DRY_RUN=1": "true or false", "SHIPGATE_INPUT_SUMMARY=no": "true or false",
		"SHIPGATE_INPUT_TIMEOUT=soon": "no time", "SHIPGATE_INPUT_TIMEOUT=0s": "no time", "SHIPGATE_INPUT_ON_CANCEL=kill": "cancel or detach",
		"SHIPGATE_INPUT_FAIL_ON=failed,bad": "knows failed", "SHIPGATE_INPUT_SHA=abc": "whole id",
		"SHIPGATE_INPUT_STRATEGY=rolling": "recreate or blue-green", "SHIPGATE_INPUT_GITHUB_DEPLOYMENT=on": "auto or off",
	} {
		s := f.step(input).run(t.Context())
		if s.code != exitUsage || !s.seen.has("error title=shipgate%3A usage::") || !strings.Contains(s.out.String(), says) || !strings.Contains(s.out.String(), "Next: ") {
			t.Errorf("%s: exit %d\n%s", input, s.code, &s.out)
		}
	}
	sha := "SHIPGATE_INPUT_SHA=" + strings.Repeat("a", 40)
	for _, both := range [][]string{{"SHIPGATE_INPUT_IMAGE=a", "SHIPGATE_INPUT_PATH=b"}, {"SHIPGATE_INPUT_REF=main", sha}, {"SHIPGATE_INPUT_PATH=a", sha}, {"SHIPGATE_INPUT_PATH=a", "SHIPGATE_INPUT_REF=main"}} {
		if s := f.step(both...).run(t.Context()); s.code != exitUsage {
			t.Errorf("%v: exit %d\n%s", both, s.code, &s.out)
		}
	}
	if len(f.tokens) != 0 {
		t.Error("the server was asked")
	}
}

func TestServerThatIsAway(t *testing.T) {
	f := newFakeServer(t)
	s := f.step("SHIPGATE_INPUT_TIMEOUT=2s")
	f.Close()
	if s.run(t.Context()); s.code != exitUnreachable {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

// FuzzInjection: whatever a build, a container or the server writes, the runner takes none of it for a command.
func FuzzInjection(f *testing.F) {
	for _, line := range []string{"::set-output name=url::x", "::error::x", "##[error]x", "::stop-commands::x\n::add-mask::a", "\r::warning::x", "::endgroup::", "a%0A::error::b", "  ::debug::x"} {
		f.Add(line, line)
	}
	f.Fuzz(func(t *testing.T, line, reason string) {
		var out bytes.Buffer
		dir := t.TempDir()
		r := &run{out: newCommands(&out, func(name string) string {
			return map[string]string{"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary")}[name]
		}), inputs: inputs{summary: true, failOn: verdicts, server: "http://x"}}
		r.server = newServer(nil, r.inputs, place{}, r.out)
		r.show(event{Kind: "build", Text: line})
		ended := deployment{ID: 1, App: line, SHA: line, Subject: reason, Verdict: "failed", Reason: reason, Hint: line, URL: reason, ImageDigest: line, LogURL: reason, Steps: []stepTime{{line, 5}}, Strategy: reason}
		err := errors.Join(r.record(ended), r.end(ended))
		r.conclude(err)
		seen := interpret(out.String())
		if seen.openEnd || seen.groups != 0 {
			t.Errorf("open end: %q", out.String())
		}
		for _, command := range seen.commands {
			name, _, _ := strings.Cut(command, "::")
			name, _, _ = strings.Cut(name, " ")
			if !slices.Contains([]string{"stop-commands", "group", "endgroup", "error"}, name) {
				t.Errorf("%q is a command in %q", command, out.String())
			}
		}
		if errors := slices.DeleteFunc(slices.Clone(seen.commands), func(c string) bool { return !strings.HasPrefix(c, "error") }); len(errors) != 1 {
			t.Errorf("errors %q", errors)
		}
		output, _ := os.ReadFile(filepath.Join(dir, "output"))
		if got := readOutputs(t, string(output)); len(got) != 9 || got["status"] != "failed" {
			t.Errorf("outputs %q of %q", got, output)
		}
	})
}
