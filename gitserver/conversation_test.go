package gitserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// answerWith answers every request in git's place.
func (f *testForge) answerWith(answer http.HandlerFunc) { f.answer.Store(&answer) }

// inFetch answers only the request for the pack.
func (f *testForge) inFetch(answer http.HandlerFunc) {
	f.answerWith(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			answer(w, r)
			return
		}
		f.backend.ServeHTTP(w, r)
	})
}

// cutAfter is git's answer up to some bytes of its body; then what ends it.
type cutAfter struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cutAfter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	c.end()
	return 0, http.ErrAbortHandler
}

// silence lasts until the client goes, which the server sees only once it has read the request.
func silence(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func randomText(bytes int) string {
	content := make([]byte, bytes)
	_, _ = rand.Read(content)
	return string(content)
}

func TestStatusesOfForge(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	for _, c := range []struct {
		status int
		retry  string
		want   store.Code
	}{
		{300, "", store.CodeErrored}, {400, "", store.CodeErrored}, {401, "", store.CodeErrored}, {403, "", store.CodeErrored},
		{403, "60", store.CodeUnreachable}, {404, "", store.CodeErrored}, {408, "", store.CodeUnreachable}, {410, "", store.CodeErrored},
		{418, "", store.CodeErrored}, {429, "", store.CodeUnreachable}, {500, "", store.CodeUnreachable}, {503, "1", store.CodeUnreachable},
	} {
		answer := func(w http.ResponseWriter, _ *http.Request) {
			if c.retry != "" {
				w.Header().Set("Retry-After", c.retry)
			}
			w.WriteHeader(c.status)
			_, _ = fmt.Fprintf(w, "go away with %s", forgePassword)
		}
		f.answerWith(answer)
		f.mustRefuse(c.want, "octo/hello", sha)
		f.inFetch(answer)
		f.mustRefuse(c.want, "octo/hello", sha)
		_, err := f.rig.server.RemoteHead(t.Context(), testApp, "refs/heads/main")
		check(t, err)
	}
	f.clean()
	equal(t, "objects", f.count(), 0)
}

func TestAnswersOfForge(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	started := "0008NAK\n"
	for _, c := range []struct {
		name, body, says string
		want             store.Code
	}{
		{"nothing", "", "too early", store.CodeUnreachable},
		{"HTML", "<html>" + forgePassword, "octo/hello", store.CodeErrored},
		{"ERR", packet("ERR out of \x1b[31mideas " + forgePassword), "out of", store.CodeErrored},
		{"sideband error", packet("shallow "+sha) + "0000" + started + packet("\x03fatal: "+forgePassword), "fatal: [masked]", store.CodeErrored},
		{"no pack", packet("shallow "+sha) + "0000" + started + "0000", "too early", store.CodeUnreachable},
		{"bare header", packet("shallow "+sha) + "0000" + started + packet("\x01PACK\x00\x00\x00\x02\xff\xff\xff\xf0") + "0000", "4294967280 objects", store.CodeErrored},
		{"other commit", packet("shallow "+sha) + "0000" + started + packet("\x01"+string(otherPack())) + "0000", "without commit", store.CodeErrored},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.inFetch(text(c.body))
			f.mustRefuse(c.want, c.says, sha)
		})
	}
	f.answerWith(text(""))
	f.mustRefuse(store.CodeUnreachable, "octo/hello", sha)
	f.clean()
	equal(t, "objects", f.count(), 0)
	f.answer.Store(nil)
	f.mustFetch(sha)
}

func otherPack() []byte {
	var p packBuilder
	plain(&p)
	return p.bytes()
}

func TestEndlessLines(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	endless := func(w http.ResponseWriter, _ *http.Request) {
		line := strings.Repeat(packet("shallow "+sha), 1000)
		if f.methodOf.Load() == http.MethodGet {
			line = strings.Repeat(packet(sha+" refs/heads/"+strings.Repeat("a", 60000)), 10)
			_, _ = fmt.Fprint(w, packet("# service=git-upload-pack\n")+"0000"+packet(sha+" HEAD\x00shallow"))
		}
		for n := 0; n < 3*maxLines; n += len(line) {
			if _, err := w.Write([]byte(line)); err != nil {
				return
			}
		}
	}
	f.answerWith(endless)
	f.mustRefuse(store.CodeErrored, errTooLong.Error(), sha)
	f.inFetch(endless)
	f.mustRefuse(store.CodeErrored, errTooLong.Error(), sha)
	f.clean()
}

func TestPackBreaksOff(t *testing.T) {
	f := newTestForge(t)
	f.publish("base", "a", "1")
	sha := f.publish("one", "a", randomText(1<<20))
	for name, end := range map[string]func(*http.Request){
		"cut":   func(*http.Request) { panic(http.ErrAbortHandler) },
		"stall": func(r *http.Request) { <-r.Context().Done() },
	} {
		f.rig.server.stall = map[string]time.Duration{"cut": time.Minute, "stall": 200 * time.Millisecond}[name]
		want := map[string]string{"cut": "EOF", "stall": errStalled.Error()}[name]
		f.inFetch(func(w http.ResponseWriter, r *http.Request) {
			f.backend.ServeHTTP(&cutAfter{w, 300 << 10, func() { end(r) }}, r)
		})
		f.mustRefuse(store.CodeUnreachable, want, sha)
		f.clean()
		equal(t, "objects after "+name, f.count(), 0)
	}
	f.rig.server.stall = time.Minute
	f.answer.Store(nil)
	f.mustFetch(sha)
	f.clean()
}

func TestRedirects(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	for _, status := range []int{301, 302, 307} {
		f.answerWith(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/old/") {
				http.Redirect(w, r, strings.Replace(r.URL.String(), "/old/", "/octo/", 1), status)
				return
			}
			f.backend.ServeHTTP(w, r)
		})
		f.remote.URL = f.server.URL + "/old/hello.git"
		head, err := f.rig.server.RemoteHead(t.Context(), testApp, "refs/heads/main")
		check(t, err)
		equal(t, "head", head, sha)
	}
	f.inFetch(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.String()+"?", http.StatusFound)
	})
	f.remote.URL = f.server.URL + "/octo/hello.git"
	f.mustRefuse(store.CodeErrored, "octo/hello", sha)
	f.answerWith(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/old/") {
			http.Redirect(w, r, strings.Replace(r.URL.String(), "/old/", "/octo/", 1), http.StatusMovedPermanently)
			return
		}
		f.backend.ServeHTTP(w, r)
	})
	f.remote.URL = f.server.URL + "/old/hello.git"
	f.mustFetch(sha)
}

func TestEndOfContext(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	r, err := f.rig.server.ensureRepository(testApp)
	check(t, err)
	inside := make(chan struct{}, 10)
	hang := func(_ http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		silence(r)
	}
	fetch := func(ctx context.Context) error {
		_, err := f.rig.server.Fetch(ctx, testApp, sha)
		return err
	}
	for stage, prepare := range map[string]func() (undo func()){
		"turn": func() func() {
			done, err := r.takeTurn(t.Context())
			check(t, err)
			inside <- struct{}{}
			return done
		},
		"refs": func() func() { f.answerWith(hang); return func() {} },
		"pack": func() func() { f.inFetch(hang); return func() {} },
		"ingest": func() func() {
			f.inFetch(func(w http.ResponseWriter, r *http.Request) {
				f.backend.ServeHTTP(&cutAfter{w, 100, func() { hang(w, r) }}, r)
			})
			return func() {}
		},
	} {
		undo := prepare()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-inside; cancel() }()
		if err := fetch(ctx); !errors.Is(err, context.Canceled) || store.CodeOf(err) == store.CodeUnreachable {
			t.Errorf("%s, cancelled: %v", stage, err)
		}
		undo()
		undo = prepare()
		ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := fetch(ctx); !errors.Is(err, context.DeadlineExceeded) || store.CodeOf(err) != store.CodeUnreachable {
			t.Errorf("%s, deadline: %v", stage, err)
		}
		cancel()
		undo()
		for len(inside) > 0 { // on a busy machine the deadline may come first
			<-inside
		}
		f.clean()
	}
	f.answerWith(hang)
	go func() { <-inside; f.rig.server.close() }()
	if err := fetch(t.Context()); !errors.Is(err, errClosing) || store.CodeOf(err) != store.CodeUnreachable {
		t.Errorf("closing: %v", err)
	}
	if err := fetch(t.Context()); !errors.Is(err, errClosing) || store.CodeOf(err) != store.CodeUnreachable {
		t.Errorf("closed: %v", err)
	}
}

func TestDestroyBreaksFetchOff(t *testing.T) {
	f := newTestForge(t)
	sha := f.publish("one", "a", "1")
	inside := make(chan struct{})
	f.inFetch(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		silence(r)
	})
	var over atomic.Bool
	result := make(chan error, 1)
	go func() {
		_, err := f.rig.server.Fetch(t.Context(), testApp, sha)
		over.Store(true)
		result <- err
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	check(t, f.rig.server.Destroy(ctx, testApp))
	select {
	case err := <-result:
		equal(t, fmt.Sprintf("code of %v", err), store.CodeOf(err), store.CodeNotFound)
	case <-ctx.Done():
		t.Fatal("the fetch goes on")
	}
	if _, err := os.Stat(f.bare()); err == nil {
		t.Error("the repository is there again")
	}
	f.answer.Store(nil)
	f.mustFetch(sha)
}

// withoutAnySHA turns off what lets a client ask for more than tips.
func (f *testForge) withoutAnySHA() {
	f.t.Helper()
	bare := filepath.Join(f.root, "octo", "hello.git")
	check(f.t, exec.Command("git", "-C", bare, "config", "uploadpack.allowAnySHA1InWant", "false").Run())
}

func TestForgeThatGivesOnlyTips(t *testing.T) {
	f := newTestForge(t)
	first := f.publish("one", "a", "1")
	second := f.publish("two", "a", "2")
	f.withoutAnySHA()
	f.mustFetch(second)
	f.mustFetch(first) // over HTTP git gives what a tip reaches
	f.work.git("checkout", "-q", "--orphan", "other")
	gone := f.publish("gone", "a", "3")
	f.publish("instead", "a", "4")
	f.work.git("commit", "-q", "--amend", "-m", "now")
	f.work.git("push", "-q", "--force", "forge", first+":refs/heads/main")
	f.mustRefuse(store.CodeErrored, "no longer there, or no branch's tip", gone)
	f.clean()
}
