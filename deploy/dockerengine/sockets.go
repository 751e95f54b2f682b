package dockerengine

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// engineResolver is where Docker itself listens inside each container of a network.
var engineResolver = netip.MustParseAddr("127.0.0.11")

// listening lists the TCP sockets that the container's processes listen on, and nil when they cannot be seen: the
// container does not run, or its process is not on this host.
func listening(found *container.InspectResponse) []netip.AddrPort {
	process, here := processFolder(found)
	if !here {
		return nil
	}
	sockets := []netip.AddrPort{}
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(process, "net", table))
		if os.IsNotExist(err) && table == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil
		}
		sockets = append(sockets, parseSockets(file)...)
		file.Close()
	}
	return sockets
}

// processFolder is where this host's kernel describes the container's first process. The process number is the
// engine's: only where the cgroup names the container is it a process of this host too.
func processFolder(found *container.InspectResponse) (folder string, here bool) {
	folder = filepath.Join("/proc", strconv.Itoa(found.State.Pid))
	cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup"))
	return folder, err == nil && found.State.Pid > 0 && strings.Contains(string(cgroup), found.ID)
}

// listenState is TCP_LISTEN as the kernel prints it.
const listenState = "0A"

// parseSockets reads /proc/PID/net/tcp or tcp6: a heading, then lines of number, local address, remote address, state
// and more; see proc(5). It leaves out Docker's own socket and lines it cannot read.
func parseSockets(table io.Reader) []netip.AddrPort {
	var found []netip.AddrPort
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != listenState {
			continue
		}
		if socket, ok := parseSocket(fields[1]); ok && socket.Addr() != engineResolver {
			found = append(found, socket)
		}
	}
	return found
}

// parseSocket reads ADDRESS:PORT: the address is one or four 32-bit words, each a hexadecimal number in the host's
// byte order, the port a plain hexadecimal number.
func parseSocket(text string) (netip.AddrPort, bool) {
	words, number, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	port, portErr := strconv.ParseUint(number, 16, 16)
	if err != nil || portErr != nil {
		return netip.AddrPort{}, false
	}
	var memory []byte
	for ; len(raw) >= 4; raw = raw[4:] {
		memory = binary.NativeEndian.AppendUint32(memory, binary.BigEndian.Uint32(raw))
	}
	address, ok := netip.AddrFromSlice(memory)
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), ok && len(raw) == 0
}
