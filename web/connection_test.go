package web

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestXForwardedForIsBelievedOfTrustedProxiesOnly(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, test := range []struct{ from, forwarded, want string }{
		{"192.168.1.9", "1.2.3.4", "192.168.1.9"}, // private, and not trusted
		{"127.0.0.1", "1.2.3.4", "127.0.0.1"},
		{"10.0.0.1", "1.2.3.4", "1.2.3.4"},
		{"::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"},
		{"10.0.0.1", "9.9.9.9, 1.2.3.4, 10.0.0.2", "1.2.3.4"},
		{"10.0.0.1", "", "10.0.0.1"},
		{"10.0.0.1", "1.2.3.4, what", "10.0.0.1"},
		{"::1", "2001:db8::1", "2001:db8::1"},
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request.RemoteAddr = net.JoinHostPort(test.from, "5")
		request.Header.Set("X-Forwarded-For", test.forwarded)
		var got string
		clientAddress(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got, _, _ = net.SplitHostPort(r.RemoteAddr)
		})).ServeHTTP(httptest.NewRecorder(), request)
		if got != test.want {
			t.Errorf("from %s, %q: the client is %s, want %s", test.from, test.forwarded, got, test.want)
		}
	}
}

// A body that never ends closes the connection, also where the handler does not read it. An answer that lasts longer than the
// limit is not cut.
func TestSlowBodyIsCutAndStreamIsNot(t *testing.T) {
	const limit = 100 * time.Millisecond
	server := httptest.NewServer(boundBodiesTo(limit, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			t.Error("the stream was cut")
		case <-time.After(3 * limit):
		}
		_, _ = io.WriteString(w, "streamed")
	})))
	defer server.Close()
	for _, path := range []string{"/unread", "/read"} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: the connection stays open: %v", path, err)
		}
	}
	response, err := http.Post(server.URL+"/read", "text/plain", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); string(text) != "streamed" || err != nil {
		t.Errorf("the stream said %q, %v", text, err)
	}
}
