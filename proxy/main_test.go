package proxy

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// TestMain lets the test binary be what Ensure and Upgrade start, and the server that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "proxy":
			os.Exit(runProxy(os.Args[2:]))
		case "starter":
			os.Exit(runStarter(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

func runProxy(args []string) int {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	data := flags.String("data", "", "data directory")
	public := flags.String("public-addr", "", "public address")
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := Serve(ctx, Options{DataDir: *data, PublicAddr: *public, Logger: logger}); err != nil {
		logger.Error("serve", "error", err)
		return 1
	}
	return 0
}

// runStarter ensures a proxy, says so on standard output, and waits to be killed.
func runStarter(args []string) int {
	_, status, err := Ensure(context.Background(), EnsureOptions{
		DataDir: args[0], PublicAddr: "127.0.0.1:0", Executable: os.Args[0], Logger: slog.New(slog.DiscardHandler),
	})
	fmt.Println(status.PID, err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// rig is a proxy in this process, with its control client and a client for its public address.
type rig struct {
	t      *testing.T
	dir    string
	p      *process
	client *Client
	public string
	http   *http.Client
}

func startRig(t *testing.T) *rig { return startRigIn(t, t.TempDir()) }

func startRigIn(t *testing.T, dir string) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	from, err := inherit()
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(ctx, Options{DataDir: dir, PublicAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}, from)
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := p.leave(ctx); err != nil {
			t.Error(err)
		}
		from.close()
		awaitGoroutines(t, before)
	})
	return &rig{t: t, dir: dir, p: p, client: NewClient(dir), public: p.public.listener.Addr().String(), http: &http.Client{Transport: transport}}
}

// awaitGoroutines fails the test when it leaves more behind than there were.
func awaitGoroutines(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *rig) apply(app string, generation, deployment int64, address string, hosts ...string) {
	r.t.Helper()
	route := store.Route{App: app, Hosts: hosts, Generation: generation, Target: store.Target{Deployment: deployment, Address: address}}
	if err := r.client.Apply(r.t.Context(), route); err != nil {
		r.t.Fatalf("apply: %v", err)
	}
}

func (r *rig) request(method, host, path string, body io.Reader) *http.Request {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.public+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Host = host
	return request
}

func (r *rig) do(request *http.Request) (*http.Response, string) {
	r.t.Helper()
	response, err := r.http.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response, string(body)
}

func (r *rig) get(host, path string) (int, string) {
	r.t.Helper()
	response, body := r.do(r.request(http.MethodGet, host, path, nil))
	return response.StatusCode, strings.TrimSpace(body)
}

// serveBackend answers on loopback until it is closed, which may be before the test ends.
func serveBackend(t *testing.T, handler http.Handler) (*http.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return server, listener.Addr().String()
}

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	})
}

// eventually waits for what has no event to wait for.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *rig) applySite(app string, generation, deployment int64, tree string, hosts ...string) {
	r.t.Helper()
	route := store.Route{App: app, Hosts: hosts, Generation: generation, Target: store.Target{Deployment: deployment, Site: tree}}
	if err := r.client.Apply(r.t.Context(), route); err != nil {
		r.t.Fatalf("apply: %v", err)
	}
}
