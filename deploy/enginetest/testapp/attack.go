package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// attackPatience is how long a packet to another container may stay without an answer.
const attackPatience = time.Second

// attack tries what a container may not do and exits with 0 when it succeeded, else with 1. What failed is written to
// standard output. The kinds: "tcp ADDR:PORT" and "udp ADDR:PORT" reach another container, "icmp ADDR" pings it, "packet"
// opens a packet socket, "device" makes a device, "linklocal" finds an IPv6 address of its own on a network.
func attack(args []string) int {
	kinds := map[string]func(target string) error{
		"tcp": overTCP, "udp": overUDP, "icmp": ping,
		"packet": func(string) error { return packetSocket() },
		"device": func(string) error {
			return syscall.Mknod(filepath.Join(os.TempDir(), "kmsg"), syscall.S_IFCHR|0o600, 1<<8|11)
		},
		"linklocal": func(string) error { return linkLocal() },
	}
	try, known := kinds[args[0]]
	if !known {
		fmt.Println("unknown attack", args[0])
		return 2
	}
	if err := try(strings.Join(args[1:], " ")); err != nil {
		fmt.Println(args[0], err)
		return 1
	}
	return 0
}

func overTCP(target string) error {
	conn, err := net.DialTimeout("tcp", target, attackPatience)
	if err != nil {
		return err
	}
	return conn.Close()
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
