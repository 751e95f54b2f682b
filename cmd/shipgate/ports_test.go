package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// listening returns the TCP addresses that a process listens on, as the kernel has them.
func listening(t *testing.T, pid int) (addresses []string) {
	t.Helper()
	var sockets []string
	links := must(filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "socket:[") {
			sockets = append(sockets, strings.Trim(target, "socket:[]"))
		}
	}
	for _, file := range []string{"tcp", "tcp6"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue // without IPv6
		}
		for line := range strings.Lines(string(table)) {
			const address, state, inode, listens = 1, 3, 9, "0A"
			fields := strings.Fields(line)
			if len(fields) > inode && fields[state] == listens && slices.Contains(sockets, fields[inode]) {
				addresses = append(addresses, kernelAddress(t, fields[address]))
			}
		}
	}
	return addresses
}

// kernelAddress reads an address of /proc/net/tcp, whose words have their bytes in reverse order.
func kernelAddress(t *testing.T, text string) string {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	raw := must(hex.DecodeString(host))
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	address, ok := netip.AddrFromSlice(raw)
	if !ok {
		t.Fatalf("address %q", text)
	}
	return netip.AddrPortFrom(address, uint16(must(strconv.ParseUint(port, 16, 16)))).String()
}

// forEachPort starts a server and tests everything that it and its proxy listen on.
func forEachPort(t *testing.T, test func(t *testing.T, address string)) {
	dir := t.TempDir()
	s := startServer(t, dir, nil)
	s.ready(t)
	addresses := append(listening(t, s.command.Process.Pid), listening(t, proxyPID(dir))...)
	if len(addresses) < 2 {
		t.Fatalf("only %v are listened on", addresses)
	}
	t.Run("ports", func(t *testing.T) {
		for _, address := range addresses {
			t.Run(address, func(t *testing.T) {
				t.Parallel()
				test(t, address)
			})
		}
	})
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

// Connections whose header does not come are closed, on every port, and meanwhile others are answered.
func TestSlowHeadersAreClosed(t *testing.T) {
	const each = 60
	begun := []string{"", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\nX-A: "}
	forEachPort(t, func(t *testing.T, address string) {
		var slow []net.Conn
		for i := range each * len(begun) {
			conn := must(net.Dial("tcp", address))
			defer conn.Close()
			must(io.WriteString(conn, begun[i%len(begun)]))
			slow = append(slow, conn)
		}
		answered(t, address)
		stop := make(chan struct{})
		var trickling sync.WaitGroup
		trickling.Go(func() { // what comes byte by byte is no sooner at its end
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					for i, conn := range slow {
						if begun[i%len(begun)] != "" {
							_, _ = io.WriteString(conn, "x")
						}
					}
				}
			}
		})
		defer trickling.Wait()
		defer close(stop)
		for i, conn := range slow {
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
				t.Fatalf("connection %d stays open after %q", i, begun[i%len(begun)])
			}
		}
		answered(t, address)
	})
}

// answered asks for anything, and takes any answer.
func answered(t *testing.T, address string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get("http://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

// A header without end is refused with its own status, on every port.
func TestLargeHeadersAreRefused(t *testing.T) {
	large := map[string]string{
		"100,000 headers":  strings.Repeat("X-Header-Of-The-Test: value\r\n", 100_000),
		"a long header":    "X-A: " + strings.Repeat("x", 2<<20) + "\r\n",
		"a large cookie":   "Cookie: a=" + strings.Repeat("x", 2<<20) + "\r\n",
		"headers for ever": strings.Repeat("X-A: "+strings.Repeat("x", 1000)+"\r\n", 2<<10),
	}
	forEachPort(t, func(t *testing.T, address string) {
		for name, header := range large {
			if status := statusOf(t, address, "GET / HTTP/1.1\r\nHost: a.test\r\n"+header+"\r\n"); status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: status %d", name, status)
			}
		}
		status := statusOf(t, address, "GET /"+strings.Repeat("x", 2<<20)+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if status != http.StatusRequestHeaderFieldsTooLarge && status != http.StatusRequestURITooLong {
			t.Errorf("a long address: status %d", status)
		}
		answered(t, address)
	})
}

// statusOf sends raw bytes while it waits for the answer: the server does not read all of them.
func statusOf(t *testing.T, address, request string) int {
	t.Helper()
	conn := must(net.Dial("tcp", address))
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, request) }()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
