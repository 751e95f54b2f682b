package proxy

import (
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
)

// callerHeader names the app that made a request on the internal listener. Nobody else can set it.
const callerHeader = "X-Shipgate-Caller"

// maxForwardedHops bounds how much of X-Forwarded-For is read.
const maxForwardedHops = 32

// clientHeaders say who the client is, or are taken for such by servers and libraries. Only a trusted proxy may set them.
var clientHeaders = map[string]bool{
	"Cf-Connecting-Ip": true, "Cf-Connecting-Ipv6": true, "Client-Ip": true, "Fastly-Client-Ip": true, "Forwarded": true,
	"True-Client-Ip": true, "X-Client-Ip": true, "X-Cluster-Client-Ip": true, "X-Original-Forwarded-For": true, "X-Real-Ip": true,
}

func saysClient(name string) bool {
	return strings.HasPrefix(name, "X-Forwarded-") || clientHeaders[name]
}

// dashed returns the name that a header has for programs that cannot tell its punctuation: CGI and its heirs make one
// variable of X-Forwarded-For and X_Forwarded_For.
func dashed(name string) string {
	return http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name))
}

// removeForged removes what a client may not say. From a trusted proxy the proper spelling of client headers stays.
func removeForged(header http.Header, trusted bool) {
	for name := range header {
		plain := dashed(name)
		switch {
		case plain == "Proxy", plain == callerHeader: // the first becomes HTTP_PROXY in CGI
			delete(header, name)
		case saysClient(plain) && !(trusted && plain == name):
			delete(header, name)
		}
	}
}

// forward sets what the app is told about the client.
func forward(request *httputil.ProxyRequest, x *exchange) {
	out, in := request.Out.Header, request.In.Header
	removeForged(out, x.trusted)
	if !x.trusted {
		request.SetXForwarded()
	} else {
		out.Del("X-Forwarded-For")
		if chain := x.trust.believed(in["X-Forwarded-For"]); chain != "" {
			out.Set("X-Forwarded-For", chain)
		}
		request.SetXForwarded() // adds the trusted proxy's own address
		if scheme := strings.ToLower(in.Get("X-Forwarded-Proto")); scheme == "http" || scheme == "https" {
			out.Set("X-Forwarded-Proto", scheme)
		}
		if host := in.Get("X-Forwarded-Host"); host != "" {
			out.Set("X-Forwarded-Host", host)
		}
		if forwarded := in["Forwarded"]; len(forwarded) > 0 {
			out["Forwarded"] = slices.Clone(forwarded)
		}
	}
	if x.caller != "" {
		out.Set(callerHeader, x.caller)
	}
}

// trust lists the networks of the proxies in front of us whose word about their clients counts.
type trust []netip.Prefix

func (t trust) contains(address netip.Addr) bool {
	return slices.ContainsFunc(t, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// believed returns the end of X-Forwarded-For that trusted proxies wrote: from the last address on that is not trusted.
// What stands before it may be anybody's invention.
func (t trust) believed(values []string) string {
	all := strings.Split(strings.Join(values, ","), ",")
	var kept []string
	for i := len(all) - 1; i >= 0 && len(kept) < maxForwardedHops; i-- {
		address, err := parseHop(all[i])
		if err != nil {
			break
		}
		kept = append(kept, address.String())
		if !t.contains(address) {
			break
		}
	}
	slices.Reverse(kept)
	return strings.Join(kept, ", ")
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().Unmap(), nil
	}
	address, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return address.Unmap().WithZone(""), err
}

// remoteAddress returns the address of who is connected; the zero one when there is none.
func remoteAddress(r *http.Request) netip.Addr {
	both, _ := netip.ParseAddrPort(r.RemoteAddr)
	return both.Addr().Unmap().WithZone("")
}
