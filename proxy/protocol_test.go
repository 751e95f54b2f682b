package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// restartBackend serves on an address that was in use before.
func restartBackend(t *testing.T, address string, handler http.Handler) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

func TestRequestReachesTheAppAsItWas(t *testing.T) {
	r := startRig(t)
	seen := make(chan *http.Request, 1)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen <- r }))
	r.apply("a", 1, 1, address, "*.a.test")
	request := r.request(http.MethodGet, "X.a.test:8080", "/a%2Fb//c/../d?x=1;y=%zz&&z", nil)
	for name, value := range map[string]string{
		"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil", "X-Forwarded-Prefix": "/evil",
		"Forwarded": "for=6.6.6.6", "X-Real-Ip": "6.6.6.6", "Connection": "X-Gone, Upgrade, HTTP2-Settings", "X-Gone": "1",
		"Upgrade": "h2c", "Http2-Settings": "AAMAAABkAARAAAAAAAIAAAAA", "X-Kept": "kept", "Te": "trailers", "Accept-Encoding": "br",
	} {
		request.Header.Set(name, value)
	}
	_, _ = r.do(request)
	got := <-seen
	if got.RequestURI != "/a%2Fb//c/../d?x=1;y=%zz&&z" {
		t.Errorf("target %q", got.RequestURI)
	}
	if got.Host != "X.a.test:8080" {
		t.Errorf("host %q", got.Host)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "X.a.test:8080", "X-Forwarded-Prefix": "",
		"Forwarded": "", "X-Real-Ip": "", "X-Gone": "", "Upgrade": "", "Http2-Settings": "", "X-Kept": "kept", "Te": "trailers", "Accept-Encoding": "br",
	} {
		if value := strings.Join(got.Header.Values(name), ","); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
}

func TestTrailersComeThrough(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = w.Write(body)
		w.Header().Set("X-Sum", "sum of "+r.Trailer.Get("X-Asked"))
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "too")
	}))
	r.apply("a", 1, 1, address, "a.test")
	request := r.request(http.MethodPost, "a.test", "/", io.MultiReader(strings.NewReader("body")))
	request.Trailer = http.Header{"X-Asked": {"that"}}
	response, body := r.do(request)
	if body != "body" || response.Trailer.Get("X-Sum") != "sum of that" || response.Trailer.Get("X-Unannounced") != "too" {
		t.Errorf("body %q, trailer %v", body, response.Trailer)
	}
}

func TestEarlyHintsComeThrough(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</app.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "page")
	}))
	r.apply("a", 1, 1, address, "a.test")
	var hints []string
	request := r.request(http.MethodGet, "a.test", "/", nil)
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, header.Get("Link")))
			return nil
		},
	}))
	response, body := r.do(request)
	if body != "page" || response.Header.Get("Link") != "" || len(hints) != 1 || !strings.Contains(hints[0], "103") || !strings.Contains(hints[0], "app.css") {
		t.Errorf("hints %v, body %q", hints, body)
	}
}

func TestEventsAreNotHeldBack(t *testing.T) {
	r := startRig(t)
	next, stopped := make(chan struct{}), make(chan struct{})
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(stopped)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next // the client has seen this event
		}
		<-r.Context().Done()
	}))
	_, newAddress := serveBackend(t, named("new"))
	r.apply("a", 1, 1, address, "a.test")
	response, err := r.http.Do(r.request(http.MethodGet, "a.test", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", i) {
			t.Fatalf("line %q, %v", lines.Text(), lines.Err())
		}
		_ = lines.Scan()
		if i == 1 {
			r.apply("a", 2, 2, newAddress, "a.test") // it lives on
		}
		next <- struct{}{}
	}
	if result := <-r.drain(1, 10*time.Millisecond); result.left != 1 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	<-stopped
	if lines.Scan() || lines.Err() == nil {
		t.Errorf("the stream ended well: %q", lines.Text())
	}
}

// webSocketEcho answers the upgrade and sends back what comes, byte for byte.
func webSocketEcho(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			_, _ = io.WriteString(w, "no websocket")
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	})
}

func (r *rig) openWebSocket(host string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	_, _ = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", host)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("answer %v, %v", response, err)
	}
	return conn, reader
}

func echo(t *testing.T, conn net.Conn, reader *bufio.Reader, text string) {
	t.Helper()
	_, _ = io.WriteString(conn, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != text {
		t.Errorf("echo %q, %v", got, err)
	}
}

func TestWebSocketLivesUntilItsTargetIsDrained(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, webSocketEcho(t))
	_, newAddress := serveBackend(t, webSocketEcho(t))
	r.apply("a", 1, 1, address, "a.test")
	conn, reader := r.openWebSocket("a.test")
	leaving, leavingReader := r.openWebSocket("a.test")
	echo(t, conn, reader, "before")
	echo(t, leaving, leavingReader, "before")
	r.apply("a", 2, 2, newAddress, "a.test")
	echo(t, conn, reader, "after")
	_ = leaving.Close()
	target := r.p.router.targetsOf("a", 1)[0]
	eventually(t, "a closed one is no longer counted", func() bool { return target.count() == 1 })
	if result := <-r.drain(1, 50*time.Millisecond); result.left != 1 || result.err != nil {
		t.Errorf("drain: %+v", result)
	}
	rest, err := io.ReadAll(reader)
	if err != nil || !bytes.Equal(rest, goingAway) {
		t.Errorf("end % x, %v", rest, err)
	}
	conn, reader = r.openWebSocket("a.test")
	echo(t, conn, reader, "new")
}

// h2cClient speaks HTTP/2 without TLS.
func (r *rig) h2cClient() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTP2WithoutTLS(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	r.apply("a", 1, 1, address, "a.test")
	r.http = r.h2cClient()
	response, body := r.do(r.request(http.MethodGet, "a.test", "/", nil))
	if response.ProtoMajor != 2 || body != "HTTP/1.1" {
		t.Errorf("HTTP/%d to us, %s to the app", response.ProtoMajor, body)
	}
}

// TestGRPC streams both ways over HTTP/2, with the status in the trailer, as gRPC does.
func TestGRPC(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(w).Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			_, _ = fmt.Fprintf(w, "%s %s %s\n", r.Proto, r.Header.Get("Te"), lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	r.apply("a", 1, 1, unusedAddress(t), "a.test")
	body, send := io.Pipe()
	request := r.request(http.MethodPost, "a.test", "/service/Method", body)
	request.Header.Set("Content-Type", "application/grpc+proto")
	request.Header.Set("Te", "trailers")
	r.http = r.h2cClient()
	r.p.handler.dialBudget = time.Minute
	target := r.p.router.table.Load().apps["a"].target
	got := make(chan *http.Response, 1)
	go func() {
		response, err := r.http.Do(request)
		if err != nil {
			t.Error(err)
		}
		got <- response
	}()
	eventually(t, "the request has been tried", func() bool { return target.count() == 1 })
	r.apply("a", 2, 2, address, "a.test")
	response := <-got
	if response == nil {
		return
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		_, _ = fmt.Fprintln(send, i)
		if want := fmt.Sprintf("HTTP/2.0 trailers %d", i); !lines.Scan() || lines.Text() != want {
			t.Fatalf("line %q, want %q", lines.Text(), want)
		}
	}
	_ = send.Close()
	for lines.Scan() {
	}
	if status := response.Trailer.Get("Grpc-Status"); status != "0" || lines.Err() != nil {
		t.Errorf("status %q, %v", status, lines.Err())
	}
}

func TestContentTypesOfGRPC(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/json": false, "": false,
	} {
		if got := isGRPC(contentType); got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
}

// TestContinueIsTheAppsDecision: a body is asked for only when the app wants it.
func TestContinueIsTheAppsDecision(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	r.apply("a", 1, 1, address, "a.test")
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "413") {
		t.Errorf("first line %q, %v", line, err)
	}
}

func TestErrorPages(t *testing.T) {
	r := startRig(t)
	response, body := r.do(r.request(http.MethodGet, "nobody.test", "/", nil))
	if response.StatusCode != 404 || !strings.Contains(body, "no app here") || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %q %v", response.StatusCode, body, response.Header)
	}
	conn, err := net.Dial("tcp", r.public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	if line, _ := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, "405") {
		t.Errorf("CONNECT: %q", line)
	}
}
