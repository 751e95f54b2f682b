package store

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// notPublic are the ranges that are not on the Internet, or that lead back to an IPv4 address that may not be.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared by carriers
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"), // Teredo
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("fec0::/10"),
}

// localDomains are the top-level names that resolve only within a host or a network.
var localDomains = []string{"localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "arpa"}

// asciiHost is a host name of at least two labels in the characters that every resolver takes for what they are. Others, as
// full-width digits, may be folded into an address after the check.
var asciiHost = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// addressLike is a last label that makes some resolvers read the whole name as an address: 127.1, 0x7f.1.
var addressLike = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)

// isPublicHost reports whether a host is a public address or a qualified name outside of the local domains. It asks no
// resolver: what a public name resolves to is not looked at.
func isPublicHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return isPublicAddr(addr)
	}
	if !asciiHost.MatchString(host) {
		return false
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return !addressLike.MatchString(last) && !slices.Contains(localDomains, last)
}

func isPublicAddr(addr netip.Addr) bool {
	if addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(addr) })
}
