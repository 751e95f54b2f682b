package proxy

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
)

var errUnasked = errors.New("the app sent what nobody had asked for")

// askedConn is a connection to an app on which nothing that came before a request can be taken for the answer to it. The
// transport alone would take what follows an answer for the next one when it gives the connection to the next request
// before its reader has looked.
type askedConn struct {
	net.Conn
	mu      sync.Mutex
	changed *sync.Cond
	reading bool // all that came has been used up: the transport waits for more
	resting bool // given to a request that has not been written yet
	closed  bool
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// asked makes connections for HTTP/1: over HTTP/2 answers are told apart by themselves.
func asked(dial dialer) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &askedConn{Conn: conn}
		c.changed = sync.NewCond(&c.mu)
		return c, nil
	}
}

func (c *askedConn) Read(buffer []byte) (int, error) {
	c.set(func() { c.reading = true })
	n, err := c.Conn.Read(buffer)
	c.set(func() {
		if c.reading = false; c.resting && n > 0 {
			n, err = 0, errUnasked
		}
	})
	return n, err
}

func (c *askedConn) Write(buffer []byte) (int, error) {
	c.set(func() { c.resting = false })
	return c.Conn.Write(buffer)
}

// Close ends the connection, and the wait of a request that it was given to.
func (c *askedConn) Close() error {
	c.set(func() { c.closed = true })
	return c.Conn.Close()
}

func (c *askedConn) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.changed.Broadcast()
}

// awaitSilence is called before a request is written to a connection. It returns when the transport has used up what came
// for the request before, or has closed the connection because of what is left; then it tries another one.
func awaitSilence(info httptrace.GotConnInfo) {
	c, is := info.Conn.(*askedConn)
	if !is || !info.Reused {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.reading && !c.closed {
		c.changed.Wait()
	}
	c.resting = true
}
