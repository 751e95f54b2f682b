package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// attackPatience is how long a packet to another container may stay without an answer.
const attackPatience = time.Second

var errUnknownAttack = errors.New("unknown attack")

// attack tries what a container may not do. Its error says why that failed; it returns nil when the attack succeeded. The
// kinds: "tcp ADDR:PORT" and "udp ADDR:PORT" reach another container, "unix PATH" a socket, "icmp ADDR" pings, "name NAME"
// resolves a name, "http URL [HOST CALLER]" gets a good answer, "file PATH" reads a file and "write PATH" writes to it, "packet"
// opens a packet socket, "device" makes a device, "linklocal" finds an IPv6 address of its own on a network.
func attack(kind, target string) error {
	switch kind {
	case "tcp", "unix":
		return dial(kind, target)
	case "udp":
		return overUDP(target)
	case "icmp":
		return ping(target)
	case "name":
		return resolve(target)
	case "http":
		return get(target)
	case "file":
		_, err := os.ReadFile(target)
		return err
	case "write":
		return os.WriteFile(target, []byte("1"), 0o600)
	case "packet":
		return packetSocket()
	case "device":
		return syscall.Mknod("/kmsg", syscall.S_IFCHR|0o600, 1<<8|11)
	case "linklocal":
		return linkLocal()
	}
	return errUnknownAttack
}

// attackByCommand is "testapp attack KIND TARGET". It exits with 0 when the attack succeeded, else with 1,
// and with 2 when there is no such attack.
func attackByCommand(words []string) int {
	err := attack(words[0], strings.Join(words[1:], " "))
	switch {
	case errors.Is(err, errUnknownAttack):
		fmt.Println(err)
		return 2
	case err != nil:
		fmt.Println(words[0], err)
		return 1
	}
	return 0
}

// attackByRequest is GET /attack?kind=KIND&target=TARGET. It answers 200 when the attack succeeded, else 403 and why.
func attackByRequest(w http.ResponseWriter, r *http.Request) {
	err := attack(r.FormValue("kind"), r.FormValue("target"))
	switch {
	case errors.Is(err, errUnknownAttack):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

func dial(network, target string) error {
	conn, err := net.DialTimeout(network, target, attackPatience)
	if err != nil {
		return err
	}
	return conn.Close()
}

func resolve(name string) error {
	bounded, cancel := context.WithTimeout(context.Background(), attackPatience)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(bounded, name)
	return err
}

// get asks for a URL, in the name of another app and host where these follow it.
func get(target string) error {
	words := strings.Fields(target)
	request, err := http.NewRequest(http.MethodGet, words[0], nil)
	if err != nil {
		return err
	}
	if len(words) > 1 {
		request.Host = words[1]
		request.Header.Set("X-Shipgate-Caller", words[2])
	}
	client := http.Client{Timeout: attackPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		body, err := io.ReadAll(response.Body)
		return errors.Join(errors.New(string(body)), err)
	}
	return nil
}

func overUDP(target string) error {
	conn, err := net.Dial("udp", target)
	if err != nil {
		return err
	}
	defer conn.Close()
	return errors.Join(exchange(conn, []byte("anybody there?")))
}

// ping sends an echo request from an unprivileged ICMP socket, which containers may have.
func ping(target string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("open ping socket: %w", err)
	}
	defer syscall.Close(fd)
	address, err := netip.ParseAddr(target)
	if err != nil {
		return err
	}
	timeout := syscall.NsecToTimeval(attackPatience.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	request := []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1} // the kernel fills in its own identifier and checksum
	if err := syscall.Sendto(fd, request, 0, &syscall.SockaddrInet4{Addr: address.As4()}); err != nil {
		return err
	}
	_, _, err = syscall.Recvfrom(fd, make([]byte, 64), 0)
	return err
}

func exchange(conn net.Conn, message []byte) error {
	if err := conn.SetDeadline(time.Now().Add(attackPatience)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 64))
	return err
}

func packetSocket() error {
	const everyProtocol = 0x0300 // ETH_P_ALL in network byte order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, everyProtocol)
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

// linkLocal succeeds where an interface other than the loopback has an IPv6 address, by which neighbours could be reached.
func linkLocal() error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().Is6() && !prefix.Addr().IsLoopback() {
			return nil
		}
	}
	return errors.New("no IPv6 address")
}

// echo sends datagrams back to where they come from.
func echo() {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(os.Getenv("LISTEN_HOST"), port()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "testapp: no datagrams:", err)
		return
	}
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(buffer[:n], from)
	}
}
