package dockerengine

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"strings"
)

// hostRoutes lists what this host reaches by a route of its own or by an interface, apart from the default route.
func hostRoutes() ([]netip.Prefix, error) {
	file, err := os.Open("/proc/net/route")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	taken, err := parseRoutes(file)
	if err != nil {
		return nil, err
	}
	addresses, err := net.InterfaceAddrs()
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			taken = append(taken, prefix.Masked())
		}
	}
	return taken, err
}

// parseRoutes reads /proc/net/route: a heading, then lines of interface, destination, gateway, flags, reference
// count, use, metric, mask and more, addresses as hexadecimal numbers in the host's byte order; see proc(5).
func parseRoutes(table io.Reader) ([]netip.Prefix, error) {
	var routes []netip.Prefix
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 {
			continue
		}
		destination, okDestination := hostOrder(fields[1])
		mask, okMask := hostOrder(fields[7])
		if !okDestination || !okMask || mask == 0 {
			continue
		}
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], destination)
		routes = append(routes, netip.PrefixFrom(netip.AddrFrom4(address), bits.OnesCount32(mask)))
	}
	return routes, lines.Err()
}

func hostOrder(field string) (uint32, bool) {
	raw, err := hex.DecodeString(field)
	if err != nil || len(raw) != 4 {
		return 0, false
	}
	// The kernel printed the number; its bytes in memory are the address in network order.
	memory := binary.NativeEndian.AppendUint32(nil, binary.BigEndian.Uint32(raw))
	return binary.BigEndian.Uint32(memory), true
}
