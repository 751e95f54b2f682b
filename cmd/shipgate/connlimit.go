package main

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/shipgate/shipgate/store"
)

// Limits on connections to the API and to git.
const (
	connectionsOfOne = 256   // from one address, or one /64 network of IPv6; trusted proxies are exempt
	connectionsInAll = 4_096 // or half of the file descriptors that the process may have
)

// limitedListener closes connections beyond its limits as soon as they are made.
type limitedListener struct {
	net.Listener
	ofOne, inAll int
	exempt       []netip.Prefix

	mu    sync.Mutex
	open  map[netip.Addr]int
	total int
}

func limitConnections(listener net.Listener, exempt []netip.Prefix) *limitedListener {
	inAll := connectionsInAll
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil && files.Cur/2 < uint64(inAll) {
		inAll = int(files.Cur / 2)
	}
	return &limitedListener{Listener: listener, ofOne: connectionsOfOne, inAll: inAll, exempt: exempt, open: map[netip.Addr]int{}}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := addressOf(conn)
		if !l.take(address) {
			conn.Close()
			continue
		}
		return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.give(address) })}, nil
	}
}

func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func (l *limitedListener) take(address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	client, exempt := store.ClientNetwork(address), l.isExempt(address)
	if l.total >= l.inAll || !exempt && l.open[client] >= l.ofOne {
		return false
	}
	l.total++
	if !exempt {
		l.open[client]++
	}
	return true
}

func (l *limitedListener) give(address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.isExempt(address) {
		return
	}
	client := store.ClientNetwork(address)
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}

func (l *limitedListener) isExempt(address netip.Addr) bool {
	return slices.ContainsFunc(l.exempt, func(network netip.Prefix) bool { return network.Contains(address) })
}

// limitedConn counts itself out when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
