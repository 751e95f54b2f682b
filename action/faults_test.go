package action

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What stands in front of a server that is away says all kinds of things, and none of them is about the deployment.
func TestProxyInFrontOfAServerThatIsAway(t *testing.T) {
	for _, answers := range [][]int{{404, 522}, {429, 500}, {401, 403}, {-429, -500}} {
		f := newFakeServer(t)
		f.front = answers
		if s := f.step().run(t.Context()); s.code != 0 || len(f.front) != 0 {
			t.Errorf("%v: exit %d\n%s", answers, s.code, &s.out)
		}
	}
	f := newFakeServer(t)
	f.front = []int{404, 404, 404, 404, 404, 404, 404, 404}
	s := f.step()
	s.away = 300 * time.Millisecond
	if s.run(t.Context()); s.code != exitUnreachable {
		t.Errorf("never back: exit %d\n%s", s.code, &s.out)
	}
}

// An identity is good for one exchange. When the answer to that is lost, or the runner has none to give at first, another
// one is asked for.
func TestIdentitiesAreAskedForAgain(t *testing.T) {
	f := newFakeServer(t)
	f.spent = 1
	asks := 0
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asks++; asks <= 2 {
			w.WriteHeader([]int{0, 503, 429}[asks])
			return
		}
		fmt.Fprintf(w, `{"value":"identity for %s %d"}`, r.URL.Query().Get("audience"), asks)
	}))
	defer runner.Close()
	keyless := []string{"SHIPGATE_INPUT_TOKEN=", "ACTIONS_ID_TOKEN_REQUEST_URL=" + runner.URL + "/token?api=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=secret"}
	if s := f.step(keyless...).run(t.Context()); s.code != 0 || asks != 4 || len(f.exchanged) != 2 {
		t.Errorf("exit %d, asked %d times, exchanged %v\n%s", s.code, asks, f.exchanged, &s.out)
	}
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refuses.Close()
	keyless[1] = "ACTIONS_ID_TOKEN_REQUEST_URL=" + refuses.URL + "/token?api=1"
	if s := f.step(keyless...).run(t.Context()); s.code != exitUnreachable || !strings.Contains(s.out.String(), "403") {
		t.Errorf("no identity: exit %d\n%s", s.code, &s.out)
	}
}

// A token that has run out while the deployment goes on is replaced, also when the runner does not answer at once.
func TestRunnerThatIsAwayWhileFollowing(t *testing.T) {
	f := newFakeServer(t)
	f.breakAfter = 4
	asks := 0
	runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks++
		if asks == 2 {
			w.WriteHeader(http.StatusNotFound) // not worth another try by itself
			return
		}
		if asks == 3 {
			f.mu.Lock()
			f.breakAfter, f.expire = 0, ""
			f.mu.Unlock()
		}
		fmt.Fprintf(w, `{"value":"identity for %s %d"}`, r.URL.Query().Get("audience"), asks)
	}))
	defer runner.Close()
	f.onBreak = func() { f.expire, f.onBreak = "sg_exchanged_1", nil }
	s := f.step("SHIPGATE_INPUT_TOKEN=", "ACTIONS_ID_TOKEN_REQUEST_URL="+runner.URL+"/token?api=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=secret").run(t.Context())
	if s.code != 0 || asks != 3 {
		t.Errorf("exit %d, asked %d times\n%s", s.code, asks, &s.out)
	}
}

// Files that have changed since are another deployment, and the same ones are the same.
func TestOtherFilesAreAnotherDeployment(t *testing.T) {
	f := newFakeServer(t)
	dist := t.TempDir()
	deploy := func(content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dist, "index.html"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1, 0)
		if err := os.Chtimes(filepath.Join(dist, "index.html"), at, at); err != nil {
			t.Fatal(err)
		}
		if s := f.step("SHIPGATE_INPUT_PATH=" + dist).run(t.Context()); s.code != 0 {
			t.Fatalf("exit %d\n%s", s.code, &s.out)
		}
	}
	deploy("one")
	deploy("one")
	deploy("two")
	if len(f.deployments) != 2 {
		t.Errorf("%d deployments", len(f.deployments))
	}
}

func TestPathThatIsALink(t *testing.T) {
	f := newFakeServer(t)
	s := f.step("SHIPGATE_INPUT_PATH=result")
	if err := os.Symlink(t.TempDir(), filepath.Join(s.env["GITHUB_WORKSPACE"], "result")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.env["GITHUB_WORKSPACE"], "result", "index.html"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if s.run(t.Context()); s.code != 0 || !strings.Contains(unpacked(t, f.uploaded), "index.html") {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

// The place of a fault is that in the workspace, where the annotation is looked for.
func TestPlaceOfAFault(t *testing.T) {
	for path, want := range map[string]string{
		"": ",file=Dockerfile,line=3::", "service": ",file=service/Dockerfile,line=3::", "./a/../service/": ",file=service/Dockerfile,line=3::",
		".": ",file=Dockerfile,line=3::", "WORKSPACE/service": ",file=service/Dockerfile,line=3::", t.TempDir(): "error title=shipgate%3A failed::",
	} {
		f := newFakeServer(t)
		f.verdict.Verdict, f.verdict.Reason = "failed", "Dockerfile:3: unknown instruction"
		s := f.step()
		workspace := s.env["GITHUB_WORKSPACE"]
		s.env["SHIPGATE_INPUT_PATH"] = strings.Replace(path, "WORKSPACE", workspace, 1)
		for _, folder := range []string{"service", "a"} {
			if err := os.Mkdir(filepath.Join(workspace, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if s.run(t.Context()); !strings.Contains(s.out.String(), want) {
			t.Errorf("path %q:\n%s", path, &s.out)
		}
	}
}

// The runner sends its next signal after 7.5 s, and the server may not answer by then.
func TestInterruptedWhileTheServerHangs(t *testing.T) {
	f := newFakeServer(t)
	f.hang, f.verdict.Verdict = true, ""
	ctx, cancel := context.WithCancel(t.Context())
	var began time.Time
	f.onBreak = func() { began = time.Now(); cancel() }
	s := f.step().run(ctx)
	if took := time.Since(began); s.code != exitCancelled || took > 7*time.Second || !strings.Contains(s.out.String(), "could not be cancelled") {
		t.Errorf("exit %d after %s\n%s", s.code, took, &s.out)
	}
}

func TestQuietDeploymentsSaySo(t *testing.T) {
	f := newFakeServer(t)
	f.pause = 300 * time.Millisecond
	s := f.step()
	s.silence = 50 * time.Millisecond
	if s.run(t.Context()); s.code != 0 || !strings.Contains(s.out.String(), "still at work") {
		t.Errorf("exit %d\n%s", s.code, &s.out)
	}
}

// A summary has the last fifty lines, cut where they are long, and stays far below what the runner takes.
func TestSummaryIsBounded(t *testing.T) {
	f := newFakeServer(t)
	f.events = nil
	for n := range 200 {
		f.events = append(f.events, event{ID: int64(n + 1), Kind: "build", Text: fmt.Sprintf("line-%d. %s", n, strings.Repeat("&", 100_000))})
	}
	f.verdict.Verdict, f.verdict.Reason = "failed", strings.Repeat("|", 1<<20)
	s := f.step().run(t.Context())
	if s.code != exitFailed || len(s.summary) > 1<<20 || strings.Contains(s.summary, "line-149.") || !strings.Contains(s.summary, "line-150.") || !strings.Contains(s.summary, "line-199.") {
		t.Errorf("exit %d, %d bytes: %.300s", s.code, len(s.summary), s.summary)
	}
}
