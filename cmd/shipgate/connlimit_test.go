package main

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

func TestConnectionsAreLimitedPerAddress(t *testing.T) {
	for name, test := range map[string]struct {
		ofOne, inAll int
		exempt       []netip.Prefix
		want         int
	}{
		"of one address": {2, 10, nil, 2},
		"in all":         {10, 3, nil, 3},
		"trusted proxy":  {1, 4, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listener := limitConnections(inner, test.exempt)
			listener.ofOne, listener.inAll = test.ofOne, test.inAll
			accepted := make(chan net.Conn, 10)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					accepted <- conn
				}
			}()
			defer func() { listener.Close(); <-ended }()
			dial := func() net.Conn {
				conn, err := net.Dial("tcp", inner.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn
			}
			var served []net.Conn
			for range test.want {
				dial()
				served = append(served, <-accepted)
			}
			if _, err := dial().Read(make([]byte, 1)); err == nil {
				t.Error("a connection beyond the limit was served")
			} else if err != io.EOF {
				t.Logf("closed with %v", err)
			}
			served[0].Close()
			dial()
			served[0] = <-accepted // there is room again
			for _, conn := range served {
				conn.Close()
			}
		})
	}
}

// A /64 network of IPv6 is one client, and a trusted proxy in it is still known by its own address.
func TestConnectionsOfOneNetworkCountTogether(t *testing.T) {
	trusted := netip.MustParseAddr("2001:db8::5")
	l := limitConnections(nil, []netip.Prefix{netip.PrefixFrom(trusted, 128)})
	l.ofOne, l.inAll = 1, 10
	first, second := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if !l.take(trusted) || !l.take(first) || l.take(second) {
		t.Errorf("open: %v", l.open)
	}
	l.give(first)
	if !l.take(second) {
		t.Error("there is no room after the first has left")
	}
}
