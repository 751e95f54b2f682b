package deploy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestProbeOverTheNetwork(t *testing.T) {
	checkGoroutines(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/host":
			if r.Host != "hello.example.com" || r.Method != http.MethodGet || r.UserAgent() != "shipgate-probe" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/away":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/cut":
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte("db:\n  connection refused" + strings.Repeat(" x", 10_000)))
		}
	}))
	defer app.Close()
	address := app.Listener.Addr().String()
	closed := closedPort(t)
	for _, c := range []struct {
		name  string
		probe Probe
		ok    bool
		text  string
	}{
		{"any 2xx", Probe{Address: address, Path: "/ok"}, true, "200"},
		{"host header", Probe{Address: address, Path: "/host", Host: "hello.example.com"}, true, "200"},
		{"expected status", Probe{Address: address, Path: "/teapot", Status: 418}, true, "418"},
		{"unexpected success", Probe{Address: address, Path: "/ok", Status: 204}, false, "200"},
		{"redirect is an answer", Probe{Address: address, Path: "/away"}, false, "302"},
		{"redirect can be expected", Probe{Address: address, Path: "/away", Status: 302}, true, "302"},
		{"unavailable", Probe{Address: address, Path: "/"}, false, "503"},
		{"cut", Probe{Address: address, Path: "/cut"}, false, "connection closed without an answer"},
		{"hangs", Probe{Address: address, Path: "/hang"}, false, "no answer in time"},
		{"refused", Probe{Address: closed, Path: "/"}, false, "connection refused"},
		{"TCP", Probe{Address: address}, true, "connected"},
		{"TCP refused", Probe{Address: closed}, false, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if got := probeNetwork(ctx, c.probe); got.OK != c.ok || got.Text != c.text {
				t.Errorf("got %+v, want %t %q", got, c.ok, c.text)
			}
		})
	}
	body := probeNetwork(t.Context(), Probe{Address: address, Path: "/"}).Body
	if !strings.HasPrefix(body, "db: connection refused") || len(body) > 200 {
		t.Errorf("%d bytes: %q", len(body), body)
	}
}

func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
