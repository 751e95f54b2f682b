package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Probe is one question to a container, asked from outside it.
type Probe struct {
	Address string // host:port
	Path    string // empty: only a TCP connection
	Host    string // the Host header
	Status  int    // the expected status; 0: any 2xx
}

// Answer is what a probe saw.
type Answer struct {
	OK   bool
	Text string // "200", "503" or "connection refused"
	Body string // the start of an unwanted answer
}

const probeTimeout = 5 * time.Second

// probeNetwork asks over the network, with a connection of its own so that nothing of an earlier container answers.
func probeNetwork(ctx context.Context, probe Probe) Answer {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if probe.Path == "" {
		return probeTCP(ctx, probe.Address)
	}
	return probeHTTP(ctx, probe)
}

func probeTCP(ctx context.Context, address string) Answer {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return Answer{Text: networkText(err)}
	}
	connection.Close()
	return Answer{OK: true, Text: "connected"}
}

func probeHTTP(ctx context.Context, probe Probe) Answer {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+probe.Address+probe.Path, nil)
	if err != nil {
		return Answer{Text: err.Error()}
	}
	request.Host = probe.Host
	request.Header.Set("User-Agent", "shipgate-probe")
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return Answer{Text: networkText(err)}
	}
	defer response.Body.Close()
	answer := Answer{Text: fmt.Sprint(response.StatusCode)}
	answer.OK = response.StatusCode == probe.Status || (probe.Status == 0 && response.StatusCode/100 == 2)
	if !answer.OK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 200))
		answer.Body = strings.Join(strings.Fields(string(body)), " ")
	}
	return answer
}

// networkText names the usual errors in words that need no context.
func networkText(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "connection closed without an answer"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// trial is what probing has come to.
type trial struct {
	passed bool
	probes int
	took   time.Duration
	last   Answer // the last one that says something of the app: not one that our own deadline cut
}

// probeUntil asks until enough answers in a row were right, or the context ends.
func (r *Runner) probeUntil(ctx context.Context, probe Probe, successes int) trial {
	began := time.Now()
	pause := newBackoff(10*time.Millisecond, 250*time.Millisecond)
	var t trial
	for inRow := 0; ; {
		answer := r.Probe(ctx, probe)
		t.took = time.Since(began)
		if answer.OK || ctx.Err() == nil {
			t.probes++
			t.last = answer
		}
		if inRow++; !answer.OK {
			inRow = 0
		}
		if inRow >= max(1, successes) {
			t.passed = true
			return t
		}
		if !pause.wait(ctx) {
			return t
		}
	}
}

// probeOf is the question that the app's config wants asked.
func (a *attempt) probeOf() (probe Probe, successes int, timeout time.Duration) {
	probe = Probe{Address: a.d.Address}
	timeout = store.DefaultHealthTimeout
	check := a.config.Shared().Healthcheck
	if check == nil { // the window may be longer than the time it has to begin listening
		return probe, 1, timeout + a.config.Shared().Liveness.Or(store.DefaultLiveness)
	}
	probe.Path, probe.Host, probe.Status = check.Path, check.Host, check.Status
	if probe.Host == "" && len(a.app.Hosts) > 0 {
		probe.Host = strings.Replace(a.app.Hosts[0], "*", "www", 1)
	}
	return probe, check.Successes, check.Timeout.Or(timeout)
}
