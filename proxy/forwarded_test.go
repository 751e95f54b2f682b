package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// forgeries are what a client may send to be taken for somebody else.
var forgeries = []string{
	"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip",
	"True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip", "Proxy", "X-Shipgate-Caller",
	"X_Forwarded_For", "x_forwarded-for", "X.Forwarded.For", "X_Forwarded_Proto", "X_Real_IP", "True_Client_IP", "CF_Connecting_IP", "X_Shipgate_Caller",
}

// sendRaw sends the header lines as they are and returns what the app saw.
func sendRaw(t *testing.T, public string, lines ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", public)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n%s\r\n\r\n", strings.Join(lines, "\r\n"))
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
}

func TestForgedClientHeadersDoNotReachTheApp(t *testing.T) {
	r := startRig(t)
	seen := make(chan http.Header, 1)
	_, address := serveBackend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	r.apply("a", 1, 1, address, "a.test")
	var lines []string
	for _, name := range forgeries {
		lines = append(lines, name+": 6.6.6.6")
	}
	sendRaw(t, r.public, append(lines, "X-Kept: 6.6.6.6")...)
	got := <-seen
	for name, values := range got {
		if strings.Contains(strings.Join(values, ","), "6.6.6.6") && name != "X-Kept" {
			t.Errorf("the app sees %s: %v", name, values)
		}
	}
	if got.Get("X-Forwarded-For") != "127.0.0.1" || got.Get("X-Forwarded-Proto") != "http" || got.Get("X-Kept") == "" {
		t.Errorf("the app sees %v", got)
	}
}

func TestTrustedProxyIsBelieved(t *testing.T) {
	r := startRig(t)
	seen := make(chan http.Header, 1)
	_, address := serveBackend(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	r.apply("a", 1, 1, address, "a.test")
	r.p.handler.trust.Store(&trust{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")})
	for chain, want := range map[string]string{
		"203.0.113.7":                          "203.0.113.7, 127.0.0.1",
		"6.6.6.6, 203.0.113.7":                 "203.0.113.7, 127.0.0.1", // the first is an invention of the second
		"6.6.6.6, 203.0.113.7:99, 10.1.2.3":    "203.0.113.7, 10.1.2.3, 127.0.0.1",
		"nonsense, 10.1.2.3":                   "10.1.2.3, 127.0.0.1",
		"[2001:db8::1]:443":                    "2001:db8::1, 127.0.0.1",
		strings.Repeat("10.1.1.1, ", 100) + "": "127.0.0.1",
	} {
		sendRaw(t, r.public, "X-Forwarded-For: "+chain, "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example.com", "CF-Connecting-IP: 203.0.113.7",
			"X_Forwarded_For: 6.6.6.6", "Proxy: http://6.6.6.6", "X-Shipgate-Caller: web")
		got := <-seen
		if got.Get("X-Forwarded-For") != want {
			t.Errorf("%q: the app sees %q, want %q", chain, got.Get("X-Forwarded-For"), want)
		}
		if got.Get("X-Forwarded-Proto") != "https" || got.Get("X-Forwarded-Host") != "shop.example.com" || got.Get("Cf-Connecting-Ip") != "203.0.113.7" {
			t.Errorf("what the trusted proxy said is lost: %v", got)
		}
		if got.Get("X_forwarded_for") != "" || got.Get("Proxy") != "" || got.Get("X-Shipgate-Caller") != "" {
			t.Errorf("a forgery came through: %v", got)
		}
	}
}

func TestSessionCookieStaysWithTheServer(t *testing.T) {
	r := startRig(t)
	seen := make(chan []string, 1)
	_, address := serveBackend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header["Cookie"]
		for _, line := range []string{"shipgate_session=forged; Path=/", " shipgate_session =x", "=shipgate_session=nameless", "shipgate_session", "__Host-shipgate_session=forged; Path=/; Secure", "mine=shipgate_session; Path=/", "a=1"} {
			w.Header().Add("Set-Cookie", line)
		}
	}))
	r.apply("a", 1, 1, address, "a.test")
	request := r.request(http.MethodGet, "a.test", "/", nil)
	request.Header["Cookie"] = []string{"a=1;b=\"x y\"; shipgate_session=secret; c=shipgate_session", "shipgate_session=secret; __Host-shipgate_session=secret"}
	response, _ := r.do(request)
	if got := strings.Join(<-seen, "|"); got != "a=1;b=\"x y\"; c=shipgate_session" {
		t.Errorf("the app sees cookies %q", got)
	}
	if got := strings.Join(response.Header.Values("Set-Cookie"), "|"); got != "mine=shipgate_session; Path=/|a=1" {
		t.Errorf("the browser is told %q", got)
	}
}

func TestSiteCannotSetTheSessionCookie(t *testing.T) {
	s := mustOpen(t, store.Target{Site: writeRules(t, exampleTree(t), `{"headers":[{"path":"/*","set":[["Set-Cookie","shipgate_session=x"],["X-A","b"]]}]}`)})
	if got := get(t, s, "/").Header(); got.Get("Set-Cookie") != "" || got.Get("X-A") != "b" {
		t.Errorf("headers %v", got)
	}
}

func FuzzForwardedChain(f *testing.F) {
	f.Add("6.6.6.6, 10.1.2.3:80,[::1]", "X_Forwarded_For")
	f.Fuzz(func(t *testing.T, chain, name string) {
		trusted := trust{netip.MustParsePrefix("10.0.0.0/8")}
		hops := strings.Split(trusted.believed([]string{chain}), ", ")
		for i, hop := range hops {
			address, err := netip.ParseAddr(hop)
			if hop != "" && err != nil || len(hops) > maxForwardedHops {
				t.Errorf("%q became %q", chain, hops)
			}
			if i > 0 && !trusted.contains(address) {
				t.Errorf("%q in %q was said by somebody who is not trusted", hop, chain)
			}
		}
		header := http.Header{name: {"x"}}
		removeForged(header, false)
		if plain := dashed(name); len(header) > 0 && (saysClient(plain) || plain == callerHeader) {
			t.Errorf("%q stays", name)
		}
	})
}
