package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer takes the log of a proxy that runs.
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

// logTo has what the proxy says of its upstreams from now on written to a buffer.
func (r *rig) logTo() *lockedBuffer {
	log := &lockedBuffer{}
	r.p.router.logger = slog.New(slog.NewTextHandler(log, nil))
	return log
}

// rawBackend answers each connection's first request with raw bytes.
func rawBackend(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	return listenRaw(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			answer(conn)
		}
	})
}

// TestFaultyAnswersAreNamedOnce: an app that answers wrongly costs the proxy little, and its log says what is wrong.
func TestFaultyAnswersAreNamedOnce(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(net.Conn)
		log    string
	}{
		"a header of 1 MB": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Large: "+strings.Repeat("x", 1<<20)+"\r\n\r\n")
		}, "header of more than 256 KiB"},
		"100,000 headers": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X-A: b\r\n", 100_000)+"\r\n")
		}, "header of more than 256 KiB"},
		"1,000 interim answers": {func(c net.Conn) {
			_, _ = io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1000)+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}, "more than 16 interim answers"},
		"no HTTP":   {func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") }, "valid HTTP/1.1"},
		"no answer": {func(net.Conn) {}, "without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			log := r.logTo()
			r.apply("shop", 1, 7, rawBackend(t, test.answer), "a.test")
			for range 3 {
				if status, _ := r.get("a.test", "/"); status != http.StatusBadGateway {
					t.Errorf("status %d", status)
				}
			}
			said := log.String()
			if strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, test.log) || !strings.Contains(said, "app=shop") || !strings.Contains(said, "deployment=7") {
				t.Errorf("the log says %s", said)
			}
		})
	}
}

func TestAppThatDoesNotListenIsNamedInTheLog(t *testing.T) {
	r := startRig(t)
	log := r.logTo()
	r.p.handler.dialBudget = 10 * time.Millisecond
	r.apply("shop", 1, 7, "127.0.0.1:1", "a.test")
	_, _ = r.get("a.test", "/")
	if !strings.Contains(log.String(), "does not accept connections") {
		t.Errorf("the log says %s", log)
	}
}

// open sends the beginning of a request and leaves the connection open.
func (r *rig) open(text string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(conn, text)
	return conn, bufio.NewReader(conn)
}

func TestBrokenChunkIsTheClientsFault(t *testing.T) {
	r := startRig(t)
	log := r.logTo()
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	_, reader := r.open("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusBadRequest {
		t.Errorf("answer %v, %v", response, err)
	}
	if log.String() != "" {
		t.Errorf("the app is blamed: %s", log)
	}
}

// TestBodyThatStopsIsGivenUp: whoever sends no more of a body loses the connection, whatever would have answered.
func TestBodyThatStopsIsGivenUp(t *testing.T) {
	r := startRig(t)
	r.p.handler.bodyIdle = 300 * time.Millisecond
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	site := writeTree(t, map[string]string{"index.html": "page"}, nil)
	r.applySite("s", 1, 1, site, "s.test")
	for _, host := range []string{"a.test", "s.test", "nobody.test"} {
		for _, head := range []string{"Content-Length: 200000", "Transfer-Encoding: chunked"} {
			conn, reader := r.open("POST / HTTP/1.1\r\nHost: " + host + "\r\n" + head + "\r\n\r\n")
			if _, err := io.Copy(io.Discard, reader); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s, %s: the connection stays open: %v", host, head, err)
			}
			_ = conn.Close()
		}
	}
}

func TestSlowButSteadyBodyArrives(t *testing.T) {
	r := startRig(t)
	r.p.handler.bodyIdle = 2 * time.Second
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body), err)
	}))
	r.apply("a", 1, 1, address, "a.test")
	conn, reader := r.open("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30\r\n\r\n")
	for range 30 { // three seconds, longer than it may be idle
		pause(t.Context(), 100*time.Millisecond)
		_, _ = conn.Write([]byte("x"))
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 200 || string(body) != "30 <nil>" {
		t.Errorf("answer %d %q", response.StatusCode, body)
	}
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") // the connection goes on, with no deadline left over
	if response, err = http.ReadResponse(reader, nil); err != nil || response.StatusCode != 200 {
		t.Errorf("next answer %v, %v", response, err)
	}
}

// TestConversationIsNotCut: over HTTP/2 an app that has begun to answer may wait for its client as long as both like.
func TestConversationIsNotCut(t *testing.T) {
	r := startRig(t)
	r.p.handler.bodyIdle = 2 * time.Second
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		_ = controller.Flush()
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), err)
	}))
	r.apply("a", 1, 1, address, "a.test")
	body, client := io.Pipe()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r.request(http.MethodPost, "a.test", "/", body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	pause(t.Context(), 3*time.Second) // longer than it may be idle
	_, _ = io.WriteString(client, "late")
	_ = client.Close()
	if answer, err := io.ReadAll(response.Body); string(answer) != "late<nil>" {
		t.Errorf("answer %q, %v", answer, err)
	}
}

// TestAnswerBeforeTheBody: an app that answers without the body does not keep the connection of a client that sends none,
// and a long answer is not cut once the body is there.
func TestAnswerBeforeTheBody(t *testing.T) {
	r := startRig(t)
	r.p.handler.bodyIdle = 3 * time.Second
	ticks := func(w io.Writer, form string) {
		for range 3 {
			fmt.Fprintf(w, form, "tick ")
			if flusher, is := w.(http.Flusher); is {
				flusher.Flush()
			}
			pause(t.Context(), 2100*time.Millisecond) // longer together than the body may be idle
		}
	}
	_, patient := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		ticks(w, "%s")
	}))
	hasty := rawBackend(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		ticks(conn, "5\r\n%s\r\n")
	})
	r.apply("a", 1, 1, patient, "a.test")
	r.apply("b", 1, 1, hasty, "b.test")
	conn, reader := r.open("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n")
	_, _ = io.WriteString(conn, "hello")
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(response.Body); string(answer) != "tick tick tick " {
		t.Errorf("answer %q, %v", answer, err)
	}
	_, reader = r.open("POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 5\r\n\r\n")
	if _, err := io.Copy(io.Discard, reader); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection stays open: %v", err)
	}
}

// TestAnswerBeforeTheBodyArrives: an app that answers before the body has arrived costs the client neither the request nor
// the connection.
func TestAnswerBeforeTheBodyArrives(t *testing.T) {
	r := startRig(t)
	answered := make(chan struct{}, 1)
	early := rawBackend(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
		answered <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	})
	r.apply("a", 1, 1, early, "a.test")
	head := "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n"
	conn, reader := r.open(head)
	for i := range 2 {
		if i > 0 {
			_, _ = io.WriteString(conn, head)
		}
		select {
		case <-answered:
		case <-time.After(time.Minute):
			t.Fatalf("request %d did not reach the app", i)
		}
		pause(t.Context(), 100*time.Millisecond) // the proxy has the answer by now, and waits for the body
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatalf("send body %d: %v", i, err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if answer, err := io.ReadAll(response.Body); string(answer) != "early" || response.Close {
			t.Errorf("answer %d is %q, close %v, error %v", i, answer, response.Close, err)
		}
	}
}
