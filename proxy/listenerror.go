package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/shipgate/shipgate/store"
)

// explainListen says who is in the way of an address, or what else is wrong with it, and what to do.
func explainListen(address string, err error) error {
	problem := store.Problemf(store.CodeErrored, "take public address %s: %w", address, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if holder := holderOf(address); holder != "" {
			problem = store.Problemf(store.CodeErrored, "take public address %s: it is taken by %s", address, holder)
		} else {
			problem = store.Problemf(store.CodeErrored, "take public address %s: it is taken by another process", address)
		}
		return problem.WithHint("stop that, or choose another address: shipgate serve --public-addr ADDRESS")
	case errors.Is(err, syscall.EACCES):
		executable, _ := os.Executable()
		return problem.WithHint("ports below 1024 need a privilege: setcap cap_net_bind_service=+ep %s, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit", executable)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return problem.WithHint("it is no address of this machine: ip address")
	}
	return problem.WithHint("shipgate serve --public-addr HOST:PORT")
}

// holderOf names the process that listens on the port of an address, as far as /proc shows it to us.
func holderOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		addListeners(inodes, table, number)
	}
	if len(inodes) == 0 {
		return ""
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		target, err := os.Readlink(link)
		if inode, is := strings.CutPrefix(target, "socket:["); err == nil && is && inodes[strings.TrimSuffix(inode, "]")] {
			pid := strings.Split(link, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}

// addListeners collects the sockets of proc_net_tcp(5) that listen on a port.
func addListeners(inodes map[string]bool, table string, port int) {
	text, err := os.ReadFile(table)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if found, err := strconv.ParseInt(hex, 16, 32); err == nil && int(found) == port {
			inodes[fields[9]] = true
		}
	}
}
