package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// deadline is generous: it only has to end a test that hangs.
const deadline = 30 * time.Second

// sse is a stream of server-sent events that is being read.
type sse struct {
	t     *testing.T
	lines *bufio.Scanner
	close context.CancelFunc
	beats int
}

type sent struct{ kind, id, data string }

func (l *lab) follow(id int64, lastEventID string) *sse {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), deadline)
	l.t.Cleanup(cancel)
	request := l.request("GET", fmt.Sprintf("/api/v1/deployments/%d/events", id), "").WithContext(ctx)
	if lastEventID != "" {
		request.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		l.t.Fatalf("%s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &sse{t: l.t, lines: lines, close: cancel}
}

// next reads one event, with any signs of life before it; false at the end.
func (s *sse) next() (sent, bool) {
	s.t.Helper()
	var event sent
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "id":
			event.id = value
		case "event":
			event.kind = value
		case "data":
			event.data = value
		case "":
			if value != "" {
				s.beats++
			} else if event.kind != "" {
				return event, true
			}
		}
	}
	return sent{}, false
}

// line reads up to the line with this text.
func (s *sse) line(text string) sent {
	s.t.Helper()
	for {
		event, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended before %q: %v", text, s.lines.Err())
		}
		if strings.Contains(event.data, text) {
			return event
		}
	}
}

func TestEventsAsTheyCome(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	stream := l.follow(d.ID, "")
	stream.line("blue-green")
	l.line(d, "first")
	stream.line("first")
	l.line(d, "second")
	stream.line("second")
	l.advance(d, store.StepLive)
	var verdict sent
	for event, more := stream.next(); more; event, more = stream.next() {
		verdict = event
	}
	var ended deploymentJSON
	if err := json.Unmarshal([]byte(verdict.data), &ended); err != nil || verdict.kind != "verdict" {
		t.Fatalf("the last event is %+v: %v", verdict, err)
	}
	if ended.Verdict != store.Succeeded || ended.Step != store.StepLive || ended.URL != "http://hello.localhost" {
		t.Errorf("verdict %+v", ended)
	}
}

// Whoever comes late gets the whole history; whoever comes again, what came since, and each line once.
func TestEventsResume(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	for n := range 1100 {
		l.line(d, fmt.Sprintf("line %d.", n))
	}
	stream := l.follow(d.ID, "")
	var last sent
	for n := range 600 {
		last = stream.line(fmt.Sprintf("line %d.", n))
	}
	stream.close()
	l.advance(d, store.StepDone)

	resumed := l.follow(d.ID, last.id)
	for n := 600; n < 1100; n++ {
		event, _ := resumed.next()
		if !strings.Contains(event.data, fmt.Sprintf("line %d.", n)) {
			t.Fatalf("line %d: got %+v", n, event)
		}
		last = event
	}
	for last.kind != "verdict" {
		event, more := resumed.next()
		if !more {
			t.Fatal("no verdict")
		}
		last = event
	}
	if event, more := resumed.next(); more {
		t.Errorf("after the verdict: %+v", event)
	}

	byQuery := l.ask("GET", fmt.Sprintf("/api/v1/deployments/%d/events?after=%s", d.ID, last.id), "").must(t, 200).body
	if strings.Contains(byQuery, "event: line") || strings.Count(byQuery, "event: verdict") != 1 {
		t.Errorf("resumed at the end: %s", byQuery)
	}
	l.problem("GET", fmt.Sprintf("/api/v1/deployments/%d/events?after=yesterday", d.ID), "", 400)
	l.problem("GET", "/api/v1/deployments/99/events", "", 404)
}

// Lines that are written while the stream is read arrive in order, each once.
func TestEventsUnderWay(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	stream := l.follow(d.ID, "")
	const total = 300
	written := make(chan error, 1)
	go func() {
		for n := range total {
			if err := l.store.Log(context.Background(), d.ID, store.Event{Kind: "build", Text: fmt.Sprintf("<%d>", n)}); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	seen := 0
	for seen < total {
		event, more := stream.next()
		if !more {
			t.Fatalf("ended after %d: %v", seen, stream.lines.Err())
		}
		if strings.Contains(event.data, `"kind":"build"`) {
			if !strings.Contains(event.data, fmt.Sprintf(`\u003c%d\u003e`, seen)) {
				t.Fatalf("line %d: %s", seen, event.data)
			}
			seen++
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// A stream with nothing to say shows that it lives, and it ends with the server, without a verdict.
func TestSilentStream(t *testing.T) {
	l := newLabBeating(t, 10*time.Millisecond)
	l.createApp("hello")
	d := l.enqueue("hello")
	stream := l.follow(d.ID, "")
	for stream.beats < 3 && stream.lines.Scan() {
		if strings.HasPrefix(stream.lines.Text(), ":") {
			stream.beats++
		}
	}
	if stream.beats < 3 {
		t.Fatalf("%d signs of life: %v", stream.beats, stream.lines.Err())
	}
	l.end()
	for event, more := stream.next(); more; event, more = stream.next() {
		if event.kind == "verdict" {
			t.Errorf("a verdict: %+v", event)
		}
	}
	if err := stream.lines.Err(); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

func writeLines(lines ...string) func(context.Context, string, int, bool, func(string)) error {
	return func(ctx context.Context, _ string, _ int, follow bool, write func(string)) error {
		for _, line := range lines {
			write(line)
		}
		if follow {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}

func TestContainerLog(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	if problem := l.problem("GET", "/api/v1/apps/hello/logs", "", 409); problem.Hint == "" {
		t.Errorf("never live: %+v", problem)
	}
	l.advance(l.enqueue("hello"), store.StepDone)
	var asked string
	l.logs = func(ctx context.Context, container string, tail int, follow bool, write func(string)) error {
		asked = fmt.Sprintf("%s %d %t", container, tail, follow)
		return writeLines("one", "two")(ctx, container, tail, follow, write)
	}
	if got := l.ask("GET", "/api/v1/apps/hello/logs?tail=7", "").must(t, 200); got.body != "one\ntwo\n" || got.header.Get("X-Content-Type-Options") != "nosniff" || asked != store.ContainerName(l.store.ServerID(), "hello", 1)+" 7 false" {
		t.Errorf("%q, asked for %s", got.body, asked)
	}
	l.logs = writeLines()
	if got := l.ask("GET", "/api/v1/apps/hello/logs", "").must(t, 200); got.body != "" {
		t.Errorf("an empty log: %q", got.body)
	}
	l.logs = func(context.Context, string, int, bool, func(string)) error {
		return store.Problemf(store.CodeErrored, "the engine is away").WithHint("systemctl start docker")
	}
	if problem := l.problem("GET", "/api/v1/apps/hello/logs", "", 500); problem.Message != "the engine is away" {
		t.Errorf("%+v", problem)
	}
	l.problem("GET", "/api/v1/apps/hello/logs?tail=many", "", 400)
	l.problem("GET", "/api/v1/apps/nobody/logs", "", 404)
}

func TestContainerLogIsPlainUnlessRaw(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.advance(l.enqueue("hello"), store.StepDone)
	l.logs = writeLines("\x1b]0;x\x07one\u202e", "two")
	if got := l.ask("GET", "/api/v1/apps/hello/logs", "").must(t, 200); got.body != "one\ntwo\n" {
		t.Errorf("%q", got.body)
	}
	if got := l.ask("GET", "/api/v1/apps/hello/logs?raw=true", "").must(t, 200); got.body != "\x1b]0;x\x07one\u202e\ntwo\n" {
		t.Errorf("raw: %q", got.body)
	}
}

// Following a log ends with the server, and a client that leaves ends the reading of it.
func TestContainerLogIsFollowed(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.advance(l.enqueue("hello"), store.StepDone)
	ended := make(chan error, 2)
	l.logs = func(ctx context.Context, container string, tail int, follow bool, write func(string)) error {
		err := writeLines("one")(ctx, container, tail, follow, write)
		ended <- err
		return err
	}
	for _, leave := range []func(*http.Response){
		func(response *http.Response) { response.Body.Close() },
		func(response *http.Response) {
			l.end()
			if rest, err := io.ReadAll(response.Body); err != nil {
				t.Errorf("read to the end: %q, %v", rest, err)
			}
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		response, err := http.DefaultClient.Do(l.request("GET", "/api/v1/apps/hello/logs?follow=true", "").WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(io.LimitReader(response.Body, 4)).ReadString('\n')
		if err != nil || line != "one\n" {
			t.Errorf("first line %q, %v", line, err)
		}
		leave(response)
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
		case <-ctx.Done():
			t.Error("it went on")
		}
		response.Body.Close()
		cancel()
	}
	if strings.Contains(l.log.String(), "level=ERROR") {
		t.Errorf("logged: %s", l.log)
	}
}

func TestDeploymentLog(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	d := l.enqueue("hello")
	l.line(d, "#5 COPY")
	l.advance(d, store.StepDone)
	got := l.ask("GET", fmt.Sprintf("/api/v1/apps/hello/logs?deployment=%d", d.ID), "").must(t, 200)
	if !strings.Contains(got.body, " build   #5 COPY\n") || !strings.Contains(got.body, " plan    blue-green") || strings.Contains(got.body, " step ") {
		t.Error(got.body)
	}
	l.problem("GET", fmt.Sprintf("/api/v1/apps/other/logs?deployment=%d", d.ID), "", 404)
	l.problem("GET", "/api/v1/apps/hello/logs?deployment=99", "", 404)
	l.problem("GET", "/api/v1/apps/hello/logs?deployment=x", "", 400)
}

// A site has no container, and so no log of its own.
func TestSiteHasNoLog(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.advance(l.enqueue("hello"), store.StepRouted)
	site := store.Change{Verdict: store.Succeeded, Live: &store.Live{App: "hello", Deployment: d.ID, Release: d.Release, SHA: d.SHA}}
	if _, err := l.store.Advance(t.Context(), d, store.StepLive, site); err != nil {
		t.Fatal(err)
	}
	if problem := l.problem("GET", "/api/v1/apps/hello/logs", "", 400); !strings.Contains(problem.Hint, "--deployment") {
		t.Errorf("%+v", problem)
	}
}
