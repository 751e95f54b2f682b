// Package githubtest is a GitHub for tests: it keeps what it is told, holds every request to a description, and fails on demand.
package githubtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

const apiPath = "/api/v3"

// Fake is a GitHub. Its zero value is of no use; see New.
type Fake struct {
	root    string // of the bare repositories
	git     string
	address string
	rules   []rules
	handler http.Handler

	mu           sync.Mutex
	server       *http.Server
	repositories map[string]*Repository // by lower-case full name
	grants       map[string]grant       // by token
	app          App
	codes        map[string]bool // of manifests that wait to be completed
	deliveries   []Delivery
	hook         Hook
	losing       bool
	unlimited    bool
	faults       []waiting
	scheduled    func(*http.Request) *Fault
	violations   []string
	requests     []Request
	elsewhere    []Request
	stranger     *http.Server
	ahead        time.Duration
	numbers      int64
	life         time.Duration // of an installation's token; 0: an hour
	redelivering sync.WaitGroup
	late         sync.WaitGroup
}

// Request is one that came, with what its token could do.
type Request struct {
	Method        string
	Path          string
	Authorization bool
	Permissions   map[string]string
	Repositories  []string
}

// New opens a GitHub on a port of its own. Close it when done.
func New() (*Fake, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("find git: %w", err)
	}
	root, err := os.MkdirTemp("", "githubtest-")
	if err != nil {
		return nil, fmt.Errorf("make directory of repositories: %w", err)
	}
	own, err := describedBy(description)
	if err != nil {
		return nil, err
	}
	f := &Fake{root: root, git: git, address: "127.0.0.1:0", rules: []rules{own},
		repositories: map[string]*Repository{}, grants: map[string]grant{}, codes: map[string]bool{}, numbers: 1000}
	f.handler = f.routes()
	return f, f.Up()
}

// Close ends the server and removes its repositories.
func (f *Fake) Close() error {
	f.Down()
	f.redelivering.Wait()
	f.mu.Lock()
	stranger := f.stranger
	f.mu.Unlock()
	if stranger != nil {
		stranger.Close()
	}
	return os.RemoveAll(f.root)
}

// Up takes requests again, at the same address as before.
func (f *Fake) Up() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server != nil {
		return nil
	}
	listener, err := listen(f.address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	f.address = listener.Addr().String()
	f.server = newServer(http.HandlerFunc(f.serve))
	go f.server.Serve(listener)
	return nil
}

// listen takes an address again, or finds one below the ports that systems hand out by themselves: nobody else is given it
// while it is down.
func listen(address string) (net.Listener, error) {
	if _, port, _ := net.SplitHostPort(address); port != "0" {
		return net.Listen("tcp", address)
	}
	var err error
	for range 100 {
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

// Down refuses connections and cuts those there are.
func (f *Fake) Down() {
	f.mu.Lock()
	server := f.server
	f.server = nil
	f.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
}

// URL is where its pages and its git are.
func (f *Fake) URL() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "http://" + f.address
}

// APIURL is where its API is, as that of an Enterprise Server.
func (f *Fake) APIURL() string { return f.URL() + apiPath }

// Violations are the requests that no sound client makes.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

// Violation records one that was seen from outside.
func (f *Fake) violation(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}

// Requests are all that came to the API, in order.
func (f *Fake) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// SetUnlimited makes it an Enterprise server that has no rate limits, as is the default there.
func (f *Fake) SetUnlimited() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unlimited = true
}

// SetClock puts its clock ahead of ours.
func (f *Fake) SetClock(ahead time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead = ahead
}

func (f *Fake) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.ahead)
}

// next gives a new number. The caller holds the lock.
func (f *Fake) next() int64 {
	f.numbers++
	return f.numbers
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", f.now().UTC().Format(http.TimeFormat))
	if !strings.HasPrefix(r.URL.Path, apiPath+"/") {
		f.serveGit(w, r)
		return
	}
	fault := f.faultFor(r)
	if fault != nil && !fault.AfterWork {
		f.record(r, grant{})
		fault.answer(w, r)
		return
	}
	if err := f.validate(r); err != nil {
		f.violation("%s %s: %v", r.Method, r.URL, err)
		say(w, http.StatusUnprocessableEntity, "Invalid request: "+strings.SplitN(err.Error(), "\n", 2)[0])
		return
	}
	if fault != nil && fault.Late > 0 {
		f.record(r, grant{})
		f.late.Add(1)
		defer f.late.Done()
		f.workLate(r, fault.Late)
		return
	}
	if fault != nil {
		f.handler.ServeHTTP(discard{http.Header{}}, r)
		fault.answer(w, r)
		return
	}
	f.handler.ServeHTTP(w, r)
}

// workLate does what a request asks for after its client gave up.
func (f *Fake) workLate(r *http.Request, late time.Duration) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	<-r.Context().Done()
	<-time.After(late)
	r = r.WithContext(context.WithoutCancel(r.Context()))
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.handler.ServeHTTP(discard{http.Header{}}, r)
}

// WaitLate waits until all requests that came with a fault that is Late are done.
func (f *Fake) WaitLate() { f.late.Wait() }

// discard takes an answer that nobody gets to see.
type discard struct{ header http.Header }

func (d discard) Header() http.Header               { return d.header }
func (d discard) Write(content []byte) (int, error) { return len(content), nil }
func (d discard) WriteHeader(int)                   {}

func (f *Fake) record(r *http.Request, who grant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, Request{
		Method: r.Method, Path: strings.TrimPrefix(r.URL.Path, apiPath), Authorization: r.Header.Get("Authorization") != "",
		Permissions: who.permissions, Repositories: who.repositories,
	})
}

// Stranger gives the address of another host, where no token belongs. Elsewhere says what came there.
func (f *Fake) Stranger() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.elsewhere = append(f.elsewhere, Request{Method: r.Method, Path: r.URL.Path, Authorization: r.Header.Get("Authorization") != ""})
		w.WriteHeader(http.StatusCreated)
	}))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stranger != nil {
		return "", errors.Join(errors.New("there is a stranger already"), listener.Close())
	}
	f.stranger = server
	go server.Serve(listener)
	return "http://" + listener.Addr().String(), nil
}

// Elsewhere are the requests that came to the stranger.
func (f *Fake) Elsewhere() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.elsewhere)
}
