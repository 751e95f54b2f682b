package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// strictBackend reads requests as RFC 9112 has them, without any tolerance, and records what it got.
type strictBackend struct {
	mu       sync.Mutex
	requests []string // their first lines
	faults   []string // what another reader could take for something else
}

func (b *strictBackend) serve(conn net.Conn) {
	reader := bufio.NewReader(conn)
	for {
		head, err := readHead(reader)
		if head == "" && err != nil {
			return
		}
		length, faults := framing(head)
		if err != nil {
			faults = append(faults, "head is cut short")
		}
		if length < 0 {
			err = skipChunks(reader)
		} else {
			_, err = io.CopyN(io.Discard, reader, int64(length))
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return // it was not sent to its end, and is no request
		}
		if err != nil {
			faults = append(faults, "body: "+err.Error())
		}
		if rest, _ := reader.Peek(reader.Buffered()); len(rest) > 0 { // the proxy sends one request at a time
			faults = append(faults, fmt.Sprintf("%q beyond the request", rest))
		}
		line, _, _ := strings.Cut(head, "\r\n")
		b.mu.Lock()
		b.requests = append(b.requests, line)
		for _, fault := range faults {
			b.faults = append(b.faults, fmt.Sprintf("%s in %q", fault, head))
		}
		b.mu.Unlock()
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

func readHead(reader *bufio.Reader) (string, error) {
	var head bytes.Buffer
	for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
		letter, err := reader.ReadByte()
		if err != nil {
			return head.String(), err
		}
		head.WriteByte(letter)
	}
	return head.String(), nil
}

var (
	framingName = regexp.MustCompile(`(?i)^(content-length|transfer-encoding|host|trailer):`)
	requestLine = regexp.MustCompile(`^[A-Z]+ [!-~]+ HTTP/1\.1$`)
	headerLine  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\\t -~\\x80-\\xff]*$")
)

// framing returns the length of the body that the head announces, -1 for chunks, and what is not plain about it.
func framing(head string) (length int, faults []string) {
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	if !requestLine.MatchString(lines[0]) {
		faults = append(faults, "request line")
	}
	count := map[string]int{}
	for _, line := range lines[1:] {
		if !headerLine.MatchString(line) {
			faults = append(faults, fmt.Sprintf("line %q", line))
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		count[name]++
		switch name {
		case "content-length":
			number, err := strconv.ParseUint(value, 10, 31)
			if length = int(number); err != nil {
				faults = append(faults, "length "+value)
			}
		case "transfer-encoding":
			if length = -1; value != "chunked" {
				faults = append(faults, "encoding "+value)
			}
		}
	}
	if count["content-length"]+count["transfer-encoding"] > 1 || count["host"] != 1 || count["upgrade"] > 0 {
		faults = append(faults, fmt.Sprint("headers ", count))
	}
	return length, faults
}

func skipChunks(reader *bufio.Reader) error {
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 31)
		if err != nil {
			return err
		}
		if size == 0 {
			return readTrailer(reader)
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(reader, chunk); err != nil || !bytes.HasSuffix(chunk, []byte("\r\n")) {
			return fmt.Errorf("chunk %q, %w", chunk, err)
		}
	}
}

func readTrailer(reader *bufio.Reader) error {
	for {
		line, err := reader.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err
		}
		if !headerLine.MatchString(strings.TrimSuffix(line, "\r\n")) || framingName.MatchString(line) {
			return fmt.Errorf("trailer %q", line)
		}
	}
}

const stolen = "GET /stolen HTTP/1.1\r\nHost: a.test\r\n\r\n"

// smugglingForms are the ends of heads that say more than one thing about where a request ends, with what follows.
// Each is refused with the status, or for 200 reaches the app in the one form that there is. The second request of a
// connection is never taken from what one reader would call a body.
var smugglingForms = map[string]struct {
	text   string
	status int
	then   bool // what follows is a request by all readings
}{
	"length and chunks":                   {"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + stolen, 200, true},
	"chunks and length":                   {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + stolen, 200, true},
	"two lengths":                         {"Content-Length: 0\r\nContent-Length: 38\r\n\r\n" + stolen, 400, false},
	"two lengths in one":                  {"Content-Length: 0, 38\r\n\r\n" + stolen, 400, false},
	"equal lengths":                       {"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 200, false},
	"length with a sign":                  {"Content-Length: +3\r\n\r\nabc", 400, false},
	"negative length":                     {"Content-Length: -1\r\n\r\n" + stolen, 400, false},
	"length in hexadecimal":               {"Content-Length: 0x26\r\n\r\n" + stolen, 400, false},
	"length with a point":                 {"Content-Length: 3.0\r\n\r\nabc", 400, false},
	"length with a space in it":           {"Content-Length: 3 8\r\n\r\n" + stolen, 400, false},
	"length beyond 64 bits":               {"Content-Length: 18446744073709551617\r\n\r\n" + stolen, 400, false},
	"empty length":                        {"Content-Length:\r\n\r\n" + stolen, 400, false},
	"space before the colon":              {"Content-Length : 38\r\n\r\n" + stolen, 400, false},
	"tab before the colon":                {"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + stolen, 400, false},
	"folded length":                       {"X-A: b\r\n Content-Length: 38\r\n\r\n" + stolen, 200, true},
	"folded encoding":                     {"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + stolen, 200, true},
	"first line folded":                   {"\r\n Content-Length: 38\r\n\r\n" + stolen, 0, false},
	"other encoding":                      {"Transfer-Encoding: xchunked\r\nContent-Length: 38\r\n\r\n" + stolen, 501, false},
	"identity":                            {"Transfer-Encoding: identity\r\nContent-Length: 38\r\n\r\n" + stolen, 501, false},
	"gzip and chunks":                     {"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + stolen, 501, false},
	"chunks twice":                        {"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + stolen, 501, false},
	"chunks in two headers":               {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + stolen, 501, false},
	"quoted encoding":                     {"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + stolen, 501, false},
	"vertical tab before the encoding":    {"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + stolen, 400, false},
	"encoding after NUL":                  {"X-A: b\x00Transfer-Encoding: chunked\r\n\r\n" + stolen, 400, false},
	"carriage return in a value":          {"X-A: b\rContent-Length: 38\r\n\r\n" + stolen, 400, false},
	"line feeds alone":                    {"Content-Length: 3\n\nabc", 200, false},
	"underline for a dash":                {"Content_Length: 38\r\n\r\n" + stolen, 200, true},
	"name with a letter beyond ASCII":     {"Content-Length\u00a0: 38\r\n\r\n" + stolen, 400, false},
	"line without a colon":                {"Content-Length\r\n\r\n" + stolen, 400, false},
	"length named as hop by hop":          {"Connection: Content-Length\r\nContent-Length: 38\r\n\r\n" + stolen, 200, false},
	"encoding named as hop by hop":        {"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + stolen, 200, true},
	"host named as hop by hop":            {"Connection: Host\r\n\r\n", 200, false},
	"another host":                        {"Host: b.test\r\n\r\n", 400, false},
	"length in the trailer":               {"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 38\r\n\r\n" + stolen, 200, true},
	"encoding in the trailer":             {"Trailer: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, false},
	"chunk with an extension":             {"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", 200, false},
	"chunk with a line feed in extension": {"Transfer-Encoding: chunked\r\n\r\n3;\nxx\r\n0\r\n\r\n" + stolen, 400, false},
	"chunk whose end is no line":          {"Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n" + stolen, 400, false},
	"chunk with a sign":                   {"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400, false},
	"chunk with a prefix":                 {"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400, false},
	"chunk beyond 64 bits":                {"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", 400, false},
	"empty chunk size":                    {"Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n", 400, false},
	"upgrade to HTTP/2":                   {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", 200, false},
}

// TestSmuggling: whatever a client sends, the app gets requests that can be read in one way only.
func TestSmuggling(t *testing.T) {
	for name, form := range smugglingForms {
		t.Run(name, func(t *testing.T) {
			r := startRig(t)
			backend := &strictBackend{}
			r.apply("a", 1, 1, listenRaw(t, backend.serve), "a.test")
			_, reader := r.open("POST /first HTTP/1.1\r\nHost: a.test\r\n" + form.text + "GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
			var answers []int
			for {
				answer, err := http.ReadResponse(reader, nil)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answers = append(answers, answer.StatusCode)
			}
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if len(backend.faults) > 0 {
				t.Errorf("the app can misread: %s", strings.Join(backend.faults, "\n"))
			}
			if form.status != 0 && (len(answers) == 0 || answers[0] != form.status) {
				t.Errorf("answers %v, want %d first", answers, form.status)
			}
			if reached := slices.Contains(backend.requests, "GET /stolen HTTP/1.1"); reached && !form.then {
				t.Errorf("the app got %q", backend.requests)
			}
		})
	}
}

// listenRaw hands each connection to serve.
func listenRaw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() }) // the proxy keeps it open
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return listener.Addr().String()
}
