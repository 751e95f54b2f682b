package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func quietOptions(dir, public string) EnsureOptions {
	return EnsureOptions{DataDir: dir, PublicAddr: public, Executable: os.Args[0], Logger: slog.New(slog.DiscardHandler)}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestPublicAddressMovesUnderLoad: the old address answers until the new one does, and no request is lost on the way.
func TestPublicAddressMovesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	_, address := serveBackend(t, named("one"))
	client, before := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	routeTo(t, client, 1, address)
	var public atomic.Value
	public.Store(before.PublicAddr)
	var sent, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for worker := range 4 {
		transport := &http.Transport{DisableKeepAlives: worker == 0}
		defer transport.CloseIdleConnections()
		load.Go(func() {
			for ctx.Err() == nil {
				sent.Add(1)
				if err := post(transport, public.Load().(string)); err != nil {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	_, port, _ := net.SplitHostPort(before.PublicAddr)
	for _, next := range []string{freeAddress(t), ":" + port, "127.0.0.1:" + port} { // the last two stand in each other's way
		_, after, err := Ensure(t.Context(), quietOptions(dir, next))
		if err != nil {
			t.Fatal(err)
		}
		if after.PID != before.PID || !leadsTo(next, after.PublicAddr) {
			t.Errorf("asked for %s: %+v", next, after)
		}
		_, port, _ := net.SplitHostPort(after.PublicAddr)
		public.Store("127.0.0.1:" + port)
		pause(ctx, 2*leaveGrace)
	}
	stop()
	load.Wait()
	if failed.Load() > 0 || sent.Load() < 100 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
}

func TestTakenPublicAddressIsRefused(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	wantTaken := func(err error) {
		t.Helper()
		problem, _ := store.AsProblem(err)
		if problem == nil || !strings.Contains(problem.Message, "is taken by") || !strings.Contains(problem.Message, "process") || problem.Hint == "" {
			t.Errorf("error %v, %+v", err, problem)
		}
	}
	_, _, err = Ensure(t.Context(), quietOptions(dir, taken.Addr().String()))
	wantTaken(err) // by one that starts
	client, before := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	_, _, err = Ensure(t.Context(), quietOptions(dir, taken.Addr().String()))
	wantTaken(err) // by one that runs
	if after, err := client.Status(t.Context()); err != nil || after.PublicAddr != before.PublicAddr {
		t.Errorf("after a refused change: %+v, %v", after, err)
	}
}

func TestSettingsAreKept(t *testing.T) {
	dir := t.TempDir()
	opts := quietOptions(dir, freeAddress(t))
	opts.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	client, _ := startProxy(t, opts)
	if err := client.Upgrade(t.Context(), os.Args[0]); err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		status, err := client.Status(t.Context())
		if err != nil || status.Settings == nil || !status.Settings.equal(opts.settings()) || status.Generation != Generation {
			t.Errorf("%s: %+v, %v", when, status, err)
		}
	}
	same("after a handover")
	if err := client.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context()); !Absent(err) {
		t.Errorf("after a stop: %v", err)
	}
	eventually(t, "it starts with what is stored", func() bool { _, _, err := Ensure(t.Context(), quietOptions(dir, "")); return err == nil })
	same("after a stop and a start")
}

func TestSnapshotOfTheFirstVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	text := `{"version":1,"routes":[{"app":"a","hosts":["a.test"],"target":{"deployment":1,"address":"127.0.0.1:1"},"generation":1}]}`
	if err := os.WriteFile(filepath.Join(dir, "proxy.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRigIn(t, dir)
	status, err := r.client.Status(t.Context())
	if err != nil || status.Routes != 1 || status.Settings == nil {
		t.Errorf("status %+v, %v", status, err)
	}
}

// TestHungProxyIsNamed: a process that is stopped takes connections and says nothing.
func TestHungProxyIsNamed(t *testing.T) {
	dir := t.TempDir()
	client, status := startProxy(t, quietOptions(dir, "127.0.0.1:0"))
	if err := syscall.Kill(status.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(status.PID, syscall.SIGCONT) }()
	eventually(t, "the process is stopped", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", status.PID))
		return strings.Contains(string(stat), ") T ")
	})
	_, _, startErr := Ensure(t.Context(), quietOptions(dir, "127.0.0.1:0"))
	_, statusErr := client.Status(t.Context())
	_, drainErr := client.Drain(t.Context(), "a", 1, time.Hour) // a request that may last
	for _, err := range []error{startErr, statusErr, drainErr} {
		if !Hangs(err) || store.CodeOf(err) != store.CodeUnreachable {
			t.Errorf("error %v", err)
		}
	}
}

func TestStoppedOnPurposeIsSaid(t *testing.T) {
	dir := t.TempDir()
	if err := WishStopped(dir, true); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(dir).Routes(t.Context()); err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("error %v", err)
	}
	if err := WishStopped(dir, false); err != nil || Stopped(dir) {
		t.Errorf("the wish stays: %v", err)
	}
}

func TestProxyLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	file, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log, is := BoundLog(dir, file).(*boundedLog)
	if !is {
		t.Fatal("the log is not bounded")
	}
	log.limit = 1000
	for range 1000 {
		if _, err := io.WriteString(log, strings.Repeat("x", 99)+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"proxy.log", "proxy.log.1"} {
		if info, err := os.Stat(filepath.Join(dir, "logs", name)); err != nil || info.Size() > 1200 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	r := startRig(t)
	_, address := serveBackend(t, named("one"))
	r.apply("a", 1, 1, address, "a.test")
	r.p.connections.mu.Lock()
	r.p.connections.free = func(netip.Addr) bool { return false }
	r.p.connections.limit = 3
	r.p.connections.mu.Unlock()
	var conns []net.Conn
	for range 3 {
		conn, _ := r.open("")
		conns = append(conns, conn)
	}
	eventually(t, "three are open", func() bool {
		r.p.connections.mu.Lock()
		defer r.p.connections.mu.Unlock()
		return r.p.connections.open[netip.MustParseAddr("127.0.0.1")] == 3
	})
	fourth, reader := r.open("")
	if _, err := reader.ReadByte(); err == nil {
		t.Error("a fourth connection is served")
	}
	_ = fourth.Close()
	r.p.connections.exempt(trust{netip.MustParsePrefix("127.0.0.0/8")})
	if status, _ := r.get("a.test", "/"); status != 200 {
		t.Errorf("a trusted proxy is refused: %d", status)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	eventually(t, "none is counted", func() bool {
		r.p.connections.mu.Lock()
		defer r.p.connections.mu.Unlock()
		return len(r.p.connections.open) == 0
	})
}

// A /64 network of IPv6 is one client, and a trusted proxy in it is still known by its own address.
func TestConnectionsOfOneNetworkCountTogether(t *testing.T) {
	c := newConnections(slog.New(slog.DiscardHandler))
	c.limit = 1
	first, second, trusted := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::5")
	c.exempt(trust{netip.PrefixFrom(trusted, 128)})
	for _, step := range []struct {
		address           netip.Addr
		counted, admitted bool
	}{{first, true, true}, {second, false, false}, {trusted, false, true}} {
		if counted, admitted := c.enter(step.address); counted != step.counted || admitted != step.admitted {
			t.Errorf("%s: counted %v, admitted %v", step.address, counted, admitted)
		}
	}
	c.leave(first)
	if _, admitted := c.enter(second); !admitted {
		t.Error("there is no room after the first has left")
	}
}
