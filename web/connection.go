package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// bodyLimit is how long a client may take to send the body of a request. Pushes and uploads have deadlines of their own.
const bodyLimit = 30 * time.Second

// boundBodies ends connections whose request body does not arrive in time, also where nobody reads it.
func boundBodies(next http.Handler) http.Handler { return boundBodiesTo(bodyLimit, next) }

func boundBodiesTo(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody || isLargeBody(r) {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(limit)) // tests use recorders, which have no deadlines
		r.Body = &timedBody{ReadCloser: r.Body, control: control}
		next.ServeHTTP(w, r)
	})
}

// isLargeBody reports whether a request is a push or an upload.
func isLargeBody(r *http.Request) bool {
	return strings.Contains(r.URL.Path, ".git/") || strings.HasSuffix(r.URL.Path, "/uploads")
}

// timedBody lifts the deadline when the body is complete: from then on the server reads only to notice that the client has left,
// and an answer may be a stream.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// clientAddress replaces the address of a request that a trusted proxy passes on by that of its client: the last one in
// X-Forwarded-For that is not a trusted proxy. Of others, X-Forwarded-For says nothing.
func clientAddress(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	isTrusted := func(text string) bool {
		address, err := netip.ParseAddr(text)
		return err == nil && slices.ContainsFunc(trusted, func(network netip.Prefix) bool { return network.Contains(address.Unmap()) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && isTrusted(host) {
			chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
			for _, hop := range slices.Backward(chain) {
				hop = strings.TrimSpace(hop)
				if _, err := netip.ParseAddr(hop); err != nil {
					break
				}
				r.RemoteAddr = net.JoinHostPort(hop, "0")
				if !isTrusted(hop) {
					break
				}
			}
		}
		next.ServeHTTP(w, r)
	})
}
