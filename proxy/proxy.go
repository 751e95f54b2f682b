// Package proxy is the data plane and its control client.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Options says where the proxy keeps its files and takes its requests.
type Options struct {
	DataDir    string
	PublicAddr string // such as "127.0.0.1:8080"
	Logger     *slog.Logger
}

// The patience with clients of the public listener, and with requests under way when the process has to end.
const (
	headerTimeout     = 10 * time.Second
	clientIdleTimeout = 2 * time.Minute
	leaveLimit        = 30 * time.Second
	leaveGrace        = time.Second // clients of a connection that stays open are asked to connect anew for so long
)

// socketNameLimit is what every Unix takes as the path of a socket, in bytes.
const socketNameLimit = 103

// Status says who answers on the control socket.
type Status struct {
	PID        int       `json:"pid"`
	PublicAddr string    `json:"public_addr"` // host:port that is listened on
	Version    string    `json:"version"`
	Generation int       `json:"generation"` // 0 for those that had none
	Routes     int       `json:"routes"`
	Settings   *Settings `json:"settings,omitempty"`
	Internal   string    `json:"internal,omitempty"` // where apps reach each other

	Started bool `json:"-"` // by this very call of Ensure
}

// process is the whole proxy.
type process struct {
	Options
	router      *router
	handler     *handler
	connections *connections
	telling     sync.Mutex // guards public and the settings against status, which waits for no change
	public      *front
	internal    *front // for requests of apps to each other; nil where there is none
	callers     *internalHandler
	retired     []*front
	control     net.Listener
	controls    *http.Server
	lifeline    *os.File // open until we end, so that a successor sees our end

	lifetime   context.Context
	end        context.CancelFunc
	stopping   chan struct{} // closed when we are asked to end
	stop       func()
	handedOver chan struct{} // closed when a successor has our sockets
	failed     chan error
	serving    sync.WaitGroup
}

// Serve is the proxy process: it takes the routes of the last snapshot, the public address and the control socket
// DATA/proxy.sock, from the process before it when that hands them on, and serves until ctx ends. Then it waits for the
// requests under way, for half a minute at the most.
func Serve(ctx context.Context, opts Options) error {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	from, err := inherit()
	if err != nil {
		return err
	}
	defer from.close()
	p, err := open(ctx, opts, from)
	if err != nil {
		return errors.Join(err, from.tellFailure(err))
	}
	p.start()
	if err := from.tellReady(p.status()); err != nil {
		p.Logger.Warn("tell the starter that the proxy is ready", "error", err)
	}
	p.Logger.Info("proxy serves", "public", p.status().PublicAddr, "routes", p.status().Routes, "generation", Generation)
	debug.FreeOSMemory() // what starting took is not needed again
	select {
	case <-ctx.Done():
		err = nil
	case <-p.handedOver:
	case <-p.stopping:
		p.Logger.Info("proxy stops because it was asked to")
	case err = <-p.failed:
	}
	return errors.Join(err, p.leave(ctx))
}

// open gets ready to serve without answering anybody yet.
func open(ctx context.Context, opts Options, from *inheritance) (*process, error) {
	p := &process{Options: opts, handedOver: make(chan struct{}), failed: make(chan error, 4), stopping: make(chan struct{})}
	p.stop = sync.OnceFunc(func() { close(p.stopping) })
	p.lifetime, p.end = context.WithCancel(context.WithoutCancel(ctx))
	p.connections = newConnections(opts.Logger)
	p.router = newRouter(opts.DataDir, opts.Logger)
	p.router.predecessor = from.predecessorGone
	p.handler = newHandler(p.router)
	p.callers = &internalHandler{handler: p.handler}
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	settings, err := p.router.snapshots.peek()
	if err == nil && settings.Settings != nil {
		p.PublicAddr = settings.Settings.PublicAddr
	}
	if err := p.listen(ctx, from); err != nil {
		return nil, err
	}
	if err := errors.Join(p.router.load(), p.keepSettings()); err != nil {
		p.closeListeners()
		return nil, err
	}
	p.openInternal(ctx, from)
	return p, nil
}

// listen takes the sockets that were handed on, or makes them. The public address comes first: only one process can have it.
func (p *process) listen(ctx context.Context, from *inheritance) (err error) {
	public := from.public
	if public == nil {
		if public, err = listenPublic(ctx, p.PublicAddr); err != nil {
			return err
		}
	}
	p.public = p.newFront(public, p.handler)
	if p.control = from.control; p.control == nil {
		if p.control, err = listenControl(ctx, p.DataDir); err != nil {
			return errors.Join(err, public.Close())
		}
	}
	p.control.(*net.UnixListener).SetUnlinkOnClose(false) // the file belongs to whoever has the socket last
	return nil
}

func socketFile(dir string) string { return filepath.Join(dir, "proxy.sock") }

// listenControl makes the control socket, in place of one that a killed process has left.
func listenControl(ctx context.Context, dir string) (net.Listener, error) {
	file := socketFile(dir)
	if len(file) > socketNameLimit {
		return nil, store.Problemf(store.CodeUsage, "the path of %s is too long for a socket", file).WithHint("use a data directory with a shorter path")
	}
	if status, err := NewClient(dir).Status(ctx); err == nil {
		return nil, fmt.Errorf("take control socket: a proxy runs already, as process %d", status.PID)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", file)
	if err != nil {
		return nil, fmt.Errorf("take control socket: %w", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), listener.Close())
	}
	return listener, nil
}

// start answers on all sockets.
func (p *process) start() {
	for _, f := range p.fronts() {
		p.serve(f)
	}
	p.controls = &http.Server{
		Handler: p.controlAPI(), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(p.Logger.Handler(), slog.LevelWarn),
	}
	p.serving.Go(func() {
		if err := p.controls.Serve(p.control); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			p.failed <- fmt.Errorf("accept control connections: %w", err)
		}
	})
}

// leave ends the process: no new connections, what is under way gets its time, and what is left is cut.
func (p *process) leave(ctx context.Context) error {
	p.router.stopChanging() // or waits until a successor has our sockets
	p.closeListeners()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	select {
	case <-p.handedOver:
		for _, f := range p.fronts() {
			f.leaving.Store(true)
		}
		pause(ctx, leaveGrace)
	default:
		if err := os.Remove(socketFile(p.DataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.Logger.Warn("remove control socket", "error", err)
		}
	}
	p.finish(bounded)
	if p.lifeline == nil {
		return nil
	}
	p.router.awaitPredecessor(bounded) // our end stands for that of all before us
	return p.closeLifeline()
}

// finish waits for the requests under way and cuts those that are left when ctx ends.
func (p *process) finish(ctx context.Context) {
	p.end()
	fronts := append(p.fronts(), p.retired...)
	var leaving sync.WaitGroup
	for _, f := range fronts {
		leaving.Go(func() { _ = f.server.Shutdown(ctx) }) // what it did not see the end of, Close ends
	}
	if cut := p.router.drainAll(ctx); cut > 0 {
		p.Logger.Warn("requests cut at the end of the process", "requests", cut)
	}
	leaving.Wait()
	for _, f := range fronts {
		_ = f.server.Close() // its listener is closed already, and says so
	}
	answered, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveGrace)
	defer cancel()
	_ = p.controls.Shutdown(answered) // who asked us to end is to hear of it
	_ = p.controls.Close()
	p.serving.Wait()
	for _, t := range p.router.allTargets() {
		t.backend.closeIdle()
	}
}

func (p *process) closeListeners() {
	for _, listener := range append(p.listeners(), p.control) {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			p.Logger.Warn("close listener", "error", err)
		}
	}
}

func (p *process) closeLifeline() error {
	if p.lifeline == nil {
		return nil
	}
	err := p.lifeline.Close()
	p.lifeline = nil
	if err != nil {
		return fmt.Errorf("tell the successor of our end: %w", err)
	}
	return nil
}

func (p *process) status() Status {
	p.telling.Lock()
	defer p.telling.Unlock()
	internal := ""
	if p.internal != nil {
		internal = p.internal.listener.Addr().String()
	}
	return Status{
		PID:        syscall.Getpid(),
		Internal:   internal,
		PublicAddr: p.public.listener.Addr().String(),
		Version:    version(),
		Generation: Generation,
		Routes:     len(p.router.table.Load().apps),
		Settings:   p.router.settings,
	}
}

// version is what the build recorded about itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return info.Main.Version + " " + setting.Value
		}
	}
	return info.Main.Version
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
