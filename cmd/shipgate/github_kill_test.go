package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
)

// TestKilledServerTellsGitHub kills the real server at random moments after a push to GitHub: while the webhook comes in,
// the commit is fetched, the deployment runs or its status goes out. Every commit is told its verdict by the next server:
// pending at most once, and then exactly one.
func TestKilledServerTellsGitHub(t *testing.T) {
	t.Parallel()
	const rounds = 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	v := newListener(t, programs(t))
	unanswered := 0
	for round := range rounds {
		want, files := "success", map[string]string{"public/index.html": "version " + strconv.Itoa(round)}
		if round%5 == 4 {
			want, files = "failure", map[string]string{"public/index.html": githubtest.Gone}
		}
		delay := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
		killed := make(chan error, 1)
		sha, err := v.repository.Commit("main", fmt.Sprintf("Round %d", round), files)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(delay)
			killed <- v.server.end(syscall.SIGKILL)
		}()
		delivery, _ := v.github.Announce(v.repository, "refs/heads/main", v.before, sha) // the server may be gone by then
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		if delivery.Status != http.StatusAccepted {
			unanswered++
		}
		if err := v.server.start(); err != nil {
			t.Fatal(err)
		}
		v.wantTold(t, sha, want, fmt.Sprintf("round %d, killed after %s, the webhook was answered %d", round, delay, delivery.Status))
		v.before = sha
	}
	t.Logf("of %d webhooks %d got no answer", rounds, unanswered)
	if wrong := v.github.Violations(); len(wrong) > 0 {
		t.Errorf("GitHub was sent what it does not take:\n%s", strings.Join(wrong, "\n"))
	}
}

// listener is a GitHub that a server is connected with, and a repository that an app follows.
type listener struct {
	server     *scriptServer
	github     *githubtest.Fake
	repository *githubtest.Repository
	before     string
}

func newListener(t *testing.T, bin string) *listener {
	t.Helper()
	dir := shortDir(t)
	v := &listener{server: newServer(filepath.Join(dir, "data"), bin)}
	t.Cleanup(v.server.cleanUp)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(v.server.start())
	v.github = v.server.connectGitHub(t, dir)
	var err error
	v.repository, err = v.github.Repository("octo", "heard")
	must(err)
	v.github.SetPrivate(v.repository)
	v.run(t, "app", "create", "heard", "--source", "static", "--publish-dir", "public", "--host", "heard.localhost", "--repo", "octo/heard")
	sha, _, err := v.github.Push(v.repository, "main", "First", map[string]string{"public/index.html": "first"})
	must(err)
	v.wantTold(t, sha, "success", "the first")
	v.before = sha
	return v
}

// connectGitHub connects the server with a GitHub for tests. The files are for the credentials.
func (s *scriptServer) connectGitHub(t *testing.T, files string) *githubtest.Fake {
	t.Helper()
	fake, err := githubtest.New()
	if err != nil {
		t.Fatal(err)
	}
	s.github = fake
	access, err := fake.AppAccess()
	if err != nil {
		t.Fatal(err)
	}
	fake.SetHook(githubtest.Hook{URL: "http://" + s.api + "/webhooks/github"})
	for name, content := range map[string]string{"app.pem": access.PrivateKey, "secret": access.WebhookSecret} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if output, err := s.shipgate("github", "connect", "--app-id", strconv.FormatInt(access.AppID, 10), "--private-key", filepath.Join(files, "app.pem"),
		"--webhook-secret-file", filepath.Join(files, "secret"), "--api-url", fake.APIURL()); err != nil {
		t.Fatalf("connect GitHub: %v\n%s\n%s", err, output, s.log.text())
	}
	return fake
}

func (v *listener) run(t *testing.T, args ...string) {
	t.Helper()
	output, err := exec.Command(filepath.Join(v.server.bin, "shipgate"), append(args, "--data", v.server.dir)...).CombinedOutput()
	if err != nil {
		t.Fatalf("shipgate %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

// wantTold waits until a commit has its verdict, and checks that it has nothing else but one pending status before it.
func (v *listener) wantTold(t *testing.T, sha, want, when string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		told := v.told(sha)
		if len(told) > 0 && told[len(told)-1] != "pending" {
			if !slices.Equal(told, []string{want}) && !slices.Equal(told, []string{"pending", want}) {
				t.Fatalf("%s: the commit was told %q, want %q", when, told, want)
			}
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	deliveries, _ := v.server.shipgate("github", "deliveries")
	t.Fatalf("%s: the commit was told %q, and no verdict\n%s\n%s", when, v.told(sha), deliveries, v.server.log.text())
}

func (v *listener) told(sha string) (states []string) {
	for _, status := range v.github.Statuses(v.repository) {
		if status.SHA == sha {
			states = append(states, status.State)
		}
	}
	return states
}
