package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shipgate/shipgate/store"
)

// maxConnections is how many connections one client address may have open. A /64 of IPv6 counts as one.
const maxConnections = 1024

// connections counts those of each client address. Loopback and trusted proxies speak for many clients, and have no limit.
type connections struct {
	logger *slog.Logger
	limit  int
	free   func(netip.Addr) bool // has no limit
	trust  atomic.Pointer[trust]

	mu   sync.Mutex
	open map[netip.Addr]int
	said time.Time // when a refusal was logged last
}

func newConnections(logger *slog.Logger) *connections {
	c := &connections{logger: logger, limit: maxConnections, free: netip.Addr.IsLoopback, open: map[netip.Addr]int{}}
	c.trust.Store(&trust{})
	return c
}

func (c *connections) exempt(trusted trust) { c.trust.Store(&trusted) }

// enter admits a connection, and says whether it is counted; or it refuses it.
func (c *connections) enter(address netip.Addr) (counted, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free(address) || c.trust.Load().contains(address) {
		return false, true
	}
	client := store.ClientNetwork(address)
	if c.open[client] >= c.limit {
		if now := time.Now(); now.Sub(c.said) > time.Minute {
			c.said = now
			c.logger.Warn("connections are refused: their address has too many", "address", client, "limit", c.limit)
		}
		return false, false
	}
	c.open[client]++
	return true, true
}

func (c *connections) leave(address netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := store.ClientNetwork(address)
	if c.open[client]--; c.open[client] <= 0 {
		delete(c.open, client)
	}
}

// countedListener closes connections of addresses that have too many.
type countedListener struct {
	net.Listener
	connections *connections
}

func (l *countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, is := conn.(*net.TCPConn)
		if !is {
			return conn, nil
		}
		address := addressOf(conn)
		counted, admitted := l.connections.enter(address)
		if admitted && !counted {
			return conn, nil
		}
		if admitted {
			return &countedConn{TCPConn: tcp, leave: sync.OnceFunc(func() { l.connections.leave(address) })}, nil
		}
		_ = conn.Close()
	}
}

func addressOf(conn net.Conn) netip.Addr {
	both, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return both.Addr().Unmap()
}

// countedConn has all that the kernel can do for a TCP connection, such as sendfile.
type countedConn struct {
	*net.TCPConn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.TCPConn.Close()
}
