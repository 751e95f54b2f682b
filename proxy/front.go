package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendTimeout is how long a client may leave what we have sent it unread, in milliseconds. The kernel watches it.
const sendTimeout = 120_000

// front is a listener for requests with the server that answers on it.
type front struct {
	listener net.Listener
	server   *http.Server
	leaving  atomic.Bool // clients are asked to connect anew
}

func (p *process) newFront(listener net.Listener, handler http.Handler) *front {
	f := &front{listener: listener}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	f.server = &http.Server{
		Handler: f.handle(handler), Protocols: protocols, ReadHeaderTimeout: headerTimeout, IdleTimeout: clientIdleTimeout,
		ErrorLog: slog.NewLogLogger(p.Logger.Handler(), slog.LevelWarn),
	}
	return f
}

func (f *front) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.leaving.Load() && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// serve answers on the front until its listener is closed.
func (p *process) serve(f *front) {
	p.serving.Go(func() {
		err := f.server.Serve(&countedListener{Listener: f.listener, connections: p.connections})
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			p.failed <- fmt.Errorf("accept connections on %s: %w", f.listener.Addr(), err)
		}
	})
}

// retire gives a listener up when its clients have been asked to connect anew, and lets requests under way end.
func (p *process) retire(f *front) {
	p.retired = append(p.retired, f)
	f.leaving.Store(true)
	p.serving.Go(func() {
		pause(p.lifetime, leaveGrace)
		_ = f.listener.Close()
		_ = f.server.Shutdown(p.lifetime) // what it does not see the end of, the end of the process does
	})
}

// listeners returns what is listened on for requests.
func (p *process) listeners() []net.Listener {
	var all []net.Listener
	for _, f := range p.fronts() {
		all = append(all, f.listener)
	}
	return all
}

// fronts returns those in service.
func (p *process) fronts() []*front {
	all := []*front{p.public}
	if p.internal != nil {
		all = append(all, p.internal)
	}
	return all
}

// listenPublic takes an address. Where one of our own listeners stands in the way with the same port on another address,
// both have it: the kernel prefers the more specific one.
func listenPublic(ctx context.Context, address string, ours ...net.Listener) (net.Listener, error) {
	listener, err := listen(ctx, address, ours)
	if err != nil {
		return nil, explainListen(address, err)
	}
	return listener, nil
}

// listen takes an address with a socket that has the options.
func listen(ctx context.Context, address string, ours []net.Listener, options ...socketOption) (net.Listener, error) {
	listener, err := listenWith(ctx, address, options...)
	if errors.Is(err, syscall.EADDRINUSE) {
		listener, err = listenBeside(ctx, address, ours, options, err)
	}
	if err != nil {
		return nil, err
	}
	setSocket(listener, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, sendTimeout)
	return listener, nil
}

// socketOption is switched on before the socket gets its address.
type socketOption struct{ level, name int }

var (
	reusePort = socketOption{unix.SOL_SOCKET, unix.SO_REUSEPORT}
	freeBind  = socketOption{unix.IPPROTO_IP, unix.IP_FREEBIND} // the address may be one that is not there yet
)

func listenWith(ctx context.Context, address string, options ...socketOption) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			for _, option := range options {
				_ = unix.SetsockoptInt(int(fd), option.level, option.name, 1)
			}
		})
	}}
	return config.Listen(ctx, "tcp", address)
}

func listenBeside(ctx context.Context, address string, ours []net.Listener, options []socketOption, taken error) (net.Listener, error) {
	_, port, _ := net.SplitHostPort(address)
	var same []net.Listener
	for _, one := range ours {
		if _, taken, _ := net.SplitHostPort(one.Addr().String()); taken == port {
			same = append(same, one)
		}
	}
	if len(same) == 0 {
		return nil, taken
	}
	share := func(listener net.Listener, on int) { setSocket(listener, unix.SOL_SOCKET, unix.SO_REUSEPORT, on) }
	for _, one := range same {
		share(one, 1)
		defer share(one, 0)
	}
	listener, err := listenWith(ctx, address, append(options, reusePort)...)
	if err == nil {
		share(listener, 0) // nobody else may join
	}
	return listener, err
}

// setSocket sets an option where there is such a one: each makes something better, none is needed.
func setSocket(listener net.Listener, level, option, value int) {
	if conn, ok := listener.(syscall.Conn); ok {
		if raw, err := conn.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), level, option, value) })
		}
	}
}
