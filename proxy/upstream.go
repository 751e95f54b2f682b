package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
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
	answerHeaderLimit  = 256 << 10 // bytes, of the header of an answer with all interim ones before it
)

// newBackend makes what serves a route's target. A site that cannot be read is an error.
func newBackend(route store.Route, shelf *shelf, logger *slog.Logger) (backend, error) {
	if route.Target.Site != "" {
		return openSite(route.Target, shelf, logger)
	}
	return newUpstream(route.Target.Address, logger.With("app", route.App, "deployment", route.Target.Deployment)), nil
}

// upstream passes requests on to an address.
type upstream struct {
	address string
	proxy   *httputil.ReverseProxy
	plain   *http.Transport
	grpc    *http.Transport // HTTP/2 without TLS, which gRPC needs end to end
	faults  faultLog
}

func newUpstream(address string, logger *slog.Logger) *upstream {
	u := &upstream{address: address, plain: newTransport(address), grpc: newTransport(address), faults: faultLog{logger: logger}}
	u.plain.DialContext = asked(u.plain.DialContext)
	u.grpc.Protocols = new(http.Protocols)
	u.grpc.Protocols.SetUnencryptedHTTP2(true)
	u.proxy = &httputil.ReverseProxy{ // which flushes events and answers of unknown length at once
		Rewrite:        u.rewrite,
		Transport:      u,
		BufferPool:     buffers,
		ModifyResponse: beginAnswer,
		ErrorHandler:   noteFailure,
		ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
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
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		MaxResponseHeaderBytes: answerHeaderLimit,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
	}
}

// dialError marks a failure before any byte of the request was sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return fmt.Sprintf("dial: %s", e.cause) }
func (e *dialError) Unwrap() error { return e.cause }

// exchange is what we know about one request beyond what it says itself.
type exchange struct {
	trust   trust
	trusted bool         // it came from a proxy whose word about its client counts
	caller  string       // the app that made it, on the internal listener
	body    *watchedBody // nil when it has none, or one that may last
	failure error        // why there is no answer from the app
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// serve passes the request on. It gives an error when the address could not be dialled: then nothing was answered, and
// nothing of the body was read.
func (u *upstream) serve(w http.ResponseWriter, r *http.Request) error {
	x := exchangeOf(r)
	x.failure = nil
	interim := &httptrace.ClientTrace{GotConn: awaitSilence, Got1xxResponse: limitInterim()}
	ctx := context.WithValue(httptrace.WithClientTrace(r.Context(), interim), exchangeKey{}, x)
	u.proxy.ServeHTTP(w, r.WithContext(ctx))
	if x.failure == nil {
		return nil
	}
	if _, undialled := errors.AsType[*dialError](x.failure); undialled && context.Cause(r.Context()) == nil {
		return x.failure
	}
	u.answerFailure(w, r, x)
	return nil
}

func noteFailure(_ http.ResponseWriter, r *http.Request, err error) { exchangeOf(r).failure = err }

// beginAnswer is called with the header of the app's answer, before anything of it is passed on.
func beginAnswer(response *http.Response) error {
	exchangeOf(response.Request).body.stopWatch()
	keepSession(response.Header)
	return nil
}

// answerFailure tells the client why there is no answer from the app, and the log what the app did wrong.
func (u *upstream) answerFailure(w http.ResponseWriter, r *http.Request, x *exchange) {
	fault := x.body.clientFault()
	switch {
	case errors.Is(context.Cause(r.Context()), errCut):
		w.Header().Set("Connection", "close")
		page(w, r, http.StatusGatewayTimeout, errCut.Error())
	case r.Context().Err() != nil: // the client has gone
	case fault != nil && timedOut(fault):
		w.Header().Set("Connection", "close")
		page(w, r, http.StatusRequestTimeout, "the request's body did not arrive")
	case fault != nil:
		w.Header().Set("Connection", "close")
		page(w, r, http.StatusBadRequest, "the request's body is not valid HTTP")
	case timedOut(x.failure):
		u.faults.note("did not answer in time", x.failure)
		page(w, r, http.StatusGatewayTimeout, "the app did not answer in time")
	default:
		u.faults.note(faultOf(x.failure), x.failure)
		page(w, r, http.StatusBadGateway, "the app ended the connection without an answer")
	}
}

// refused is told when a request had to be answered because the address accepts no connections.
func (u *upstream) refused(err error) { u.faults.note("does not accept connections", err) }

// rewrite keeps the request as it came, but for what only we can know about the client.
func (u *upstream) rewrite(request *httputil.ProxyRequest) {
	out := request.Out
	out.URL.Scheme = "http"
	out.URL.Host = u.address
	out.URL.RawQuery = request.In.URL.RawQuery
	out.Host = request.In.Host
	out.Trailer = request.In.Trailer // the same map: it is filled when the body has been read
	forward(request, exchangeOf(request.In))
	removeSession(out.Header)
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
