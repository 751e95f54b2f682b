package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	dialTimeout        = 2 * time.Second
	idleTimeout        = time.Minute
	idleConnections    = 512
	copyBuffer         = 32 << 10
	continueTimeout    = time.Second
	upstreamKeepAlives = 30 * time.Second
)

// newBackend makes what serves a target. A site that cannot be read is an error.
func newBackend(wanted store.Target, shelf *shelf, logger *slog.Logger) (backend, error) {
	if wanted.Site != "" {
		return openSite(wanted, shelf, logger)
	}
	return newUpstream(wanted.Address, logger), nil
}

// upstream passes requests on to an address.
type upstream struct {
	address string
	proxy   *httputil.ReverseProxy
	plain   *http.Transport
	grpc    *http.Transport // HTTP/2 without TLS, which gRPC needs end to end
}

func newUpstream(address string, logger *slog.Logger) *upstream {
	u := &upstream{address: address, plain: newTransport(address), grpc: newTransport(address)}
	u.grpc.Protocols = new(http.Protocols)
	u.grpc.Protocols.SetUnencryptedHTTP2(true)
	u.proxy = &httputil.ReverseProxy{ // which flushes events and answers of unknown length at once
		Rewrite:      u.rewrite,
		Transport:    u,
		BufferPool:   buffers,
		ErrorHandler: noteFailure,
		ErrorLog:     slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return u
}

func newTransport(address string) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: upstreamKeepAlives}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   idleConnections,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: continueTimeout,
	}
}

// dialError marks a failure before any byte of the request was sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return fmt.Sprintf("dial: %s", e.cause) }
func (e *dialError) Unwrap() error { return e.cause }

// failureKey leads to where noteFailure leaves the error of one request.
type failureKey struct{}

// serve passes the request on. It gives an error when the address could not be dialled: then nothing was answered, and
// nothing of the body was read.
func (u *upstream) serve(w http.ResponseWriter, r *http.Request) error {
	var failure error
	u.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), failureKey{}, &failure)))
	if failure == nil {
		return nil
	}
	if _, undialled := errors.AsType[*dialError](failure); undialled && context.Cause(r.Context()) == nil {
		return failure
	}
	answerFailure(w, r, failure)
	return nil
}

func noteFailure(_ http.ResponseWriter, r *http.Request, err error) {
	if failure, ok := r.Context().Value(failureKey{}).(*error); ok {
		*failure = err
	}
}

// answerFailure tells the client why there is no answer from the app.
func answerFailure(w http.ResponseWriter, r *http.Request, failure error) {
	timeout, _ := errors.AsType[net.Error](failure)
	switch {
	case errors.Is(context.Cause(r.Context()), errCut):
		w.Header().Set("Connection", "close")
		page(w, r, http.StatusGatewayTimeout, errCut.Error())
	case r.Context().Err() != nil: // the client has gone
	case timeout != nil && timeout.Timeout():
		page(w, r, http.StatusGatewayTimeout, "the app did not answer in time")
	default:
		page(w, r, http.StatusBadGateway, "the app ended the connection without an answer")
	}
}

// rewrite keeps the request as it came, but for what only we can know about the client.
func (u *upstream) rewrite(request *httputil.ProxyRequest) {
	out := request.Out
	out.URL.Scheme = "http"
	out.URL.Host = u.address
	out.URL.RawQuery = request.In.URL.RawQuery
	out.Host = request.In.Host
	out.Trailer = request.In.Trailer // the same map: it is filled when the body has been read
	for name := range out.Header {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "X-Real-Ip" {
			out.Header.Del(name)
		}
	}
	request.SetXForwarded()
	if strings.EqualFold(out.Header.Get("Upgrade"), "h2c") { // would smuggle a second protocol past us
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
		out.Header.Del("Http2-Settings")
	}
}

// RoundTrip takes HTTP/2 for gRPC and HTTP/1.1 for everything else.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.ProtoMajor == 2 && isGRPC(r.Header.Get("Content-Type")) {
		return u.grpc.RoundTrip(r)
	}
	return u.plain.RoundTrip(r)
}

func (u *upstream) closeIdle() {
	u.plain.CloseIdleConnections()
	u.grpc.CloseIdleConnections()
}

func isGRPC(contentType string) bool {
	rest, found := strings.CutPrefix(contentType, "application/grpc")
	return found && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

func isWebSocket(header http.Header) bool {
	return strings.EqualFold(header.Get("Upgrade"), "websocket")
}

// Hijack remembers the connection, so that a cut can say goodbye on it.
func (f *flight) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(f.ResponseWriter).Hijack()
	if err == nil {
		f.target.mu.Lock()
		f.socket = conn
		f.target.mu.Unlock()
	}
	return conn, buffered, err
}

// bufferPool keeps copy buffers between responses.
type bufferPool struct{ pool sync.Pool }

var buffers = &bufferPool{pool: sync.Pool{New: func() any { return new([copyBuffer]byte) }}}

// Get gives a buffer of copyBuffer bytes.
func (p *bufferPool) Get() []byte { return p.pool.Get().(*[copyBuffer]byte)[:] }

// Put takes a buffer back that Get gave.
func (p *bufferPool) Put(buffer []byte) { p.pool.Put((*[copyBuffer]byte)(buffer)) }
