package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestAnswersNobodyAskedFor: what an app sends beyond its answer does not become the answer to another visitor.
func TestAnswersNobodyAskedFor(t *testing.T) {
	for name, answer := range map[string]string{
		"two answers":            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
		"longer than it says":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
		"chunks and an answer":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
		"chunks before a length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 200\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
		"a body of no content":   "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
		"two lengths":            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			r.apply("a", 1, 1, listenRaw(t, func(conn net.Conn) {
				reader := bufio.NewReader(conn)
				for {
					if _, err := http.ReadRequest(reader); err != nil {
						return
					}
					_, _ = io.WriteString(conn, answer)
				}
			}), "a.test")
			var visitors sync.WaitGroup
			for range 8 {
				visitors.Go(func() {
					for range 100 {
						if status, body := r.get("a.test", "/"); status == http.StatusOK && body != "ok" {
							t.Errorf("answer %d %q", status, body)
						}
					}
				})
			}
			visitors.Wait()
		})
	}
}

// TestSmugglingOverHTTP2: what HTTP/1 has no words for is refused, and is not written to the app as something else.
func TestSmugglingOverHTTP2(t *testing.T) {
	for name, fields := range map[string][]string{
		"good":                       {":path", "/stolen"},
		"line in the path":           {":path", "/first HTTP/1.1\r\nHost: a.test\r\n\r\nGET /stolen"},
		"space in the path":          {":path", "/first HTTP/1.1 x"},
		"no path":                    {":path", ""},
		"line in the method":         {":method", "GET /stolen HTTP/1.1\r\n\r\nGET"},
		"line in the host":           {":authority", "a.test\r\nX-A: b"},
		"another host":               {"host", "b.test"},
		"line in a value":            {"x-a", "b\r\nContent-Length: 38"},
		"line in a name":             {"x-a: b\r\ncontent-length", "38"},
		"colon in a name":            {"x-a: b", "c"},
		"capital letters":            {"Content-Length", "38"},
		"chunks":                     {"transfer-encoding", "chunked"},
		"length that is too small":   {"content-length", "1"},
		"length that is too large":   {"content-length", "1000"},
		"length that is no number":   {"content-length", "+38"},
		"two lengths":                {"content-length", "38", "content-length", "0"},
		"hop by hop":                 {"connection", "content-length"},
		"upgrade":                    {"upgrade", "websocket"},
		"a pseudo header that is no": {":stolen", "x"},
		"te":                         {"te", "chunked"},
		"length in the trailer":      {"trailer", "content-length"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			backend := &strictBackend{}
			r.apply("a", 1, 1, listenRaw(t, backend.serve), "a.test")
			conn, _ := r.open(http2.ClientPreface)
			sendHTTP2(t, conn, fields, stolen)
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if len(backend.faults) > 0 {
				t.Errorf("the app can misread: %s", strings.Join(backend.faults, "\n"))
			}
			reached := fmt.Sprint(backend.requests)
			if strings.Contains(reached, "GET") || name == "good" != strings.Contains(reached, "stolen") {
				t.Errorf("the app got %s", reached)
			}
		})
	}
}

// sendHTTP2 sends one request whose header has these fields, in place of the usual ones where they are the same, and waits
// for the answer.
func sendHTTP2(t *testing.T, conn net.Conn, fields []string, body string) {
	t.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	usual := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "a.test"}, {":path", "/first"}}
	for _, field := range usual {
		if fields[0] == field[0] {
			field[1] = fields[1]
		}
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	for i := 0; i < len(fields); i += 2 {
		if !strings.HasPrefix(fields[i], ":") || fields[i] == ":stolen" {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
	}
	framer := http2.NewFramer(conn, conn)
	framer.AllowIllegalWrites = true
	_ = framer.WriteSettings()
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = framer.WriteData(1, fields[0] != "trailer", []byte(body))
	if fields[0] == "trailer" {
		block.Reset()
		_ = encoder.WriteField(hpack.HeaderField{Name: "content-length", Value: "38"})
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch header := frame.Header(); {
		case header.Type == http2.FrameGoAway, header.Type == http2.FrameRSTStream:
			return
		case header.StreamID == 1 && header.Flags.Has(http2.FlagDataEndStream):
			return
		}
	}
}
