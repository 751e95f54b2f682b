package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// startProxy starts a proxy process that ends with the test.
func startProxy(t *testing.T, opts EnsureOptions) (*Client, Status) {
	t.Helper()
	client, status, err := Ensure(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProxy(t, opts.DataDir) })
	return client, status
}

// endProxy ends a proxy process that the test started, and waits until it answers no more.
func endProxy(t *testing.T, dir string) {
	client := NewClient(dir)
	status, err := client.Status(context.Background())
	if err != nil {
		return
	}
	if err := syscall.Kill(status.PID, syscall.SIGTERM); err != nil {
		t.Errorf("end proxy %d: %v", status.PID, err)
	}
	eventually(t, "the proxy ends", func() bool {
		_, err := client.Status(context.Background())
		return err != nil
	})
}

func routeTo(t *testing.T, client *Client, generation int64, address string) {
	t.Helper()
	route := store.Route{App: "a", Hosts: []string{"a.test"}, Generation: generation, Target: store.Target{Deployment: generation, Address: address}}
	if err := client.Apply(t.Context(), route); err != nil {
		t.Fatal(err)
	}
}

func TestProxyOutlivesItsStarter(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, named("one"))
	starter := exec.Command(os.Args[0], "starter", dir)
	stdin, _ := starter.StdinPipe()
	defer stdin.Close()
	stdout, _ := starter.StdoutPipe()
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProxy(t, dir) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, problem, _ := strings.Cut(strings.TrimSpace(line), " ")
	if problem != "<nil>" {
		t.Fatalf("ensure: %s", problem)
	}
	client := NewClient(dir)
	routeTo(t, client, 1, address)
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = starter.Wait()

	client, status, err := Ensure(t.Context(), EnsureOptions{
		DataDir: dir, PublicAddr: "127.0.0.1:0", Executable: "/nonexistent", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(status.PID) != pid || status.Routes != 1 {
		t.Errorf("status %+v, want process %s with one route", status, pid)
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+status.PublicAddr, nil)
	request.Host = "a.test"
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "one" {
		t.Errorf("answer %q", body)
	}
	if routes, err := client.Routes(t.Context()); err != nil || len(routes) != 1 {
		t.Errorf("routes %v, %v", routes, err)
	}
}

func TestEnsureReportsAProxyThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Ensure(t.Context(), EnsureOptions{
		DataDir: dir, PublicAddr: "not an address", Executable: os.Args[0], Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil || store.CodeOf(err) != store.CodeErrored {
		t.Fatalf("error %v", err)
	}
	log, _ := os.ReadFile(dir + "/logs/proxy.log")
	if !strings.Contains(string(log), "take public address") {
		t.Errorf("log says %q", log)
	}
}

// TestUpgradeUnderLoad replaces the process three times under requests that cannot be repeated, on connections that
// stay open and on new ones. None may fail.
func TestUpgradeUnderLoad(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, named("one"))
	client, status := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	routeTo(t, client, 1, address)

	var sent, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for worker := range 6 {
		transport := &http.Transport{DisableKeepAlives: worker%3 == 0}
		defer transport.CloseIdleConnections()
		load.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if err := post(transport, status.PublicAddr); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	pids := map[int]bool{status.PID: true}
	for range 3 {
		if err := client.Upgrade(t.Context(), os.Args[0]); err != nil {
			t.Fatal(err)
		}
		after, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pids[after.PID] = true
		if left, err := client.Drain(t.Context(), "a", 99, 20*time.Second); left != 0 || err != nil { // returns when the old process has gone
			t.Errorf("drain: %d, %v", left, err)
		}
	}
	stop()
	load.Wait()
	t.Logf("%d requests", sent.Load())
	if failed.Load() > 0 || sent.Load() < 100 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
	if len(pids) != 4 {
		t.Errorf("processes %v, want four", pids)
	}
}

// post sends a body that the transport cannot send twice.
func post(transport *http.Transport, address string) error {
	request, err := http.NewRequest(http.MethodPost, "http://"+address+"/", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		return err
	}
	request.Host = "a.test"
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

func TestUpgradeToWhatDoesNotStartChangesNothing(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	if err := r.client.Upgrade(t.Context(), "/bin/false"); err == nil {
		t.Error("no error")
	}
	r.apply("a", 2, 2, address, "a.test")
	if status, body := r.get("a.test", "/"); status != 200 || body != "one" {
		t.Errorf("answer %d %q", status, body)
	}
}

// TestWebSocketOutlivesAnUpgrade: it stays with the old process, and a drain asked of the new one waits for it.
func TestWebSocketOutlivesAnUpgrade(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, webSocketEcho(t))
	client, status := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	routeTo(t, client, 1, address)
	r := &rig{t: t, client: client, public: status.PublicAddr}
	conn, reader := r.openWebSocket("a.test")
	if err := client.Upgrade(t.Context(), os.Args[0]); err != nil {
		t.Fatal(err)
	}
	routeTo(t, client, 2, address)
	echo(t, conn, reader, "still here")
	drain := r.drain(1, 20*time.Second)
	select {
	case got := <-drain:
		t.Errorf("drained with a WebSocket open: %+v", got)
	case <-time.After(100 * time.Millisecond):
	}
	echo(t, conn, reader, "still here")
	_ = conn.Close()
	if got := <-drain; got.left != 0 || got.err != nil {
		t.Errorf("drain: %+v", got)
	}
	conn, reader = r.openWebSocket("a.test")
	echo(t, conn, reader, "new")
}

func TestSecondProxyIsKeptOut(t *testing.T) {
	r := startRig(t)
	err := Serve(t.Context(), Options{DataDir: r.dir, PublicAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("error %v", err)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestKilledProxyLeavesNothingInTheWay(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, named("one"))
	opts := EnsureOptions{DataDir: dir, PublicAddr: "127.0.0.1:0", Executable: os.Args[0], Logger: slog.New(slog.DiscardHandler)}
	client, status := startProxy(t, opts)
	routeTo(t, client, 1, address)
	if info, err := os.Stat(socketFile(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
	if err := syscall.Kill(status.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the proxy is gone", func() bool { _, err := client.Status(t.Context()); return err != nil })
	if _, err := client.Status(t.Context()); store.CodeOf(err) != store.CodeUnreachable {
		t.Errorf("error %v", err)
	}
	_, again, err := Ensure(t.Context(), opts)
	if err != nil || again.PID == status.PID || again.Routes != 1 {
		t.Errorf("status %+v, %v", again, err)
	}
}
