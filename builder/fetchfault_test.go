package builder

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/moby/buildkit/session"

	"github.com/shipgate/shipgate/store"
)

// answered is an error to which the engine gave a status, too.
type answered struct {
	text string
	kind error
}

func (a answered) Error() string        { return "Error response from daemon: " + a.text }
func (a answered) Is(target error) bool { return target == a.kind }

var digestOf401And404 = "sha256:" + strings.Repeat("401", 10) + strings.Repeat("404", 11) + "e"

func TestFaultOf(t *testing.T) {
	const pulling = "resolve image denied:4010/app: pulling from host denied:4010 failed with status code "
	for _, c := range []struct {
		err  error
		want registryFault
	}{
		// What the engine's own status says.
		{answered{"manifest unknown: Unknown manifest", errdefs.ErrNotFound}, noTag},
		{answered{"manifest for denied:4010/app:2 not found: manifest unknown: Unknown manifest", errdefs.ErrNotFound}, noTag},
		{answered{"name unknown: Unknown name", errdefs.ErrNotFound}, noRepository},
		{answered{"whatever: denied", errdefs.ErrNotFound}, noRepository},
		{answered{"please come in", errdefs.ErrUnauthenticated}, unauthorised},
		{answered{"not found", errdefs.ErrPermissionDenied}, unauthorised},
		// What the registry's status says, wherever the text tells of it.
		{errors.New(pulling + "[manifests 1]: 401 Unauthorized"), unauthorised},
		{errors.New(pulling + "[manifests 401]: 500 Internal Server Error"), unreachable},
		{errors.New(pulling + "[manifests " + digestOf401And404 + "]: 403 Forbidden"), unauthorised},
		{errors.New(pulling + "[manifests 1]: 404 Not Found"), noRepository},
		{errors.New(pulling + "[manifests 1]: 429 Too Many Requests"), unreachable},
		{errors.New(pulling + "[manifests 1]: 408 Request Timeout"), unreachable},
		{errors.New(pulling + "[manifests 1]: 400 Bad Request"), otherFault},
		{errors.New("failed open: unexpected status code http://host401:4010/v2/app/blobs/" + digestOf401And404 + ": 502 Bad Gateway"), unreachable},
		{errors.New("unexpected status from HEAD request to https://host:4040/v2/app/manifests/401: 401 Unauthorized"), unauthorised},
		{errors.New("failed to fetch anonymous token: unexpected status: 403 Forbidden"), unauthorised},
		{answered{"received unexpected HTTP status: 503 Service Unavailable", errdefs.ErrInternal}, unreachable},
		{answered{`error parsing HTTP 403 response body: invalid character '<': "<html>: not found: EOF</html>"`, errdefs.ErrInternal}, unauthorised},
		{answered{`error parsing HTTP 404 response body: unexpected end of JSON input: ""`, errdefs.ErrInternal}, noRepository},
		// What a clause says.
		{answered{`Head "http://host:4040/v2/app/manifests/404": no basic auth credentials`, errdefs.ErrInternal}, unauthorised},
		{errors.New("error pulling image configuration: download failed after attempts=1: unauthorized: authentication required"), unauthorised},
		{errors.New("pull access denied for x, repository does not exist or may require 'docker login'"), unauthorised},
		{errors.New("server message: insufficient_scope: authorization failed"), unauthorised},
		{errors.New("denied: requested access to the resource is denied"), unauthorised},
		{errors.New("toomanyrequests: You have reached your pull rate limit: denied"), unreachable},
		{errors.New("host:4010/app:2: resolve image host:4010/app:2: host:4010/app:2: not found"), noRepository},
		{errors.New("could not fetch content descriptor " + digestOf401And404 + " (application/json) from remote: not found"), noRepository},
		{errors.New("download failed after attempts=1: unknown blob"), noRepository},
		{errors.New(`Get "https://host401:4010/v2/": dial tcp: lookup host401 on 10.4.0.1:53: no such host`), unreachable},
		{errors.New(`Get "https://host:4010/v2/": dial tcp 10.4.0.1:4010: connect: connection refused`), unreachable},
		{errors.New(`Get "https://denied:4010/v2/": EOF`), unreachable},
		{errors.New(`Get "https://host/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority`), unreachable},
		{errors.New(`Get "https://host/v2/": http: server gave HTTP response to HTTPS client`), unreachable},
		{errors.New(`Get "https://host/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`), unreachable},
		{errors.New(`Get "https://host/v2/": net/http: TLS handshake timeout`), unreachable},
		{errors.New("failed to copy: read tcp 1.2.3.4:401->5.6.7.8:4010: read: connection reset by peer"), unreachable},
		{errors.New("failed to copy: failed size validation: 1024 != 1048576: failed precondition"), unreachable},
		{errors.New("read the answer: EOF\n"), unreachable},
		// What is only a name, or a quotation.
		{errors.New("invalid manifest of host401.example.com:4010/unauthorized/eof:denied"), otherFault},
		{errors.New(`strange answer: "denied: 401 Unauthorized: connection refused"`), otherFault},
		{errors.New(`strange answer: "so called \": denied: \" thing: denied: "`), otherFault},
		{errors.New("strange answer of https://host/: not-found"), otherFault},
		{errors.New("unsupported digest " + digestOf401And404), otherFault},
		{errors.New("the timeout was not found, access denied"), otherFault},
	} {
		if got := faultOf(fmt.Errorf("get image: %w", c.err)); got != c.want {
			t.Errorf("%v: fault %d, want %d", c.err, got, c.want)
		}
	}
}

// refusing is a registry on loopback that answers every question for an image with one status.
func refusing(t *testing.T, listener net.Listener, status int) (host string) {
	t.Helper()
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/v2/" {
			w.WriteHeader(status)
		}
	})}}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return listener.Addr().String()
}

// The engine's three ways to a registry tell of the same trouble alike, also on a port and with a digest full of statuses.
func TestFaultsOfRegistries(t *testing.T) {
	l := newEngineLab(t)
	for port, status := range map[int]int{4010: 500, 4040: 403, 4030: 404, 5000: 401} {
		host := refusing(t, listenNear(t, port), status)
		want := map[int]registryFault{500: unreachable, 403: unauthorised, 404: noRepository, 401: unauthorised}[status]
		for _, reference := range []string{host + "/team/app:401", host + "/denied/app@" + digestOf401And404} {
			for way, err := range l.askThreeWays(t, reference) {
				if got := faultOf(err); got != want {
					t.Errorf("status %d, %s of %s: fault %d, want %d: %v", status, way, reference, got, want, err)
				}
			}
		}
	}
}

// listenNear takes the first free one of ten ports whose numbers begin alike: the number is what is tested.
func listenNear(t *testing.T, port int) net.Listener {
	t.Helper()
	for near := range 10 {
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+near)); err == nil {
			return listener
		}
	}
	t.Fatalf("no port from %d on is free", port)
	return nil
}

// askThreeWays gives the errors of an inspection, a pull and a build.
func (l *lab) askThreeWays(t *testing.T, text string) map[string]error {
	t.Helper()
	named, err := parseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	_, inspectErr := l.docker.DistributionInspect(t.Context(), named.String(), "")
	stream, pullErr := l.docker.ImagePull(t.Context(), named.String(), image.PullOptions{})
	if pullErr == nil {
		pullErr = showPull(stream, func(string) {})
	}
	var buildErr error
	made := recipe{text: "FROM " + named.String() + "\n", whole: true, portless: true, tag: l.repository(l.app) + ":1", session: []session.Attachable{&registryLogin{}},
		explain: func(_ place, err error) error { buildErr = err; return err }}
	_, err = l.Builder.build(t.Context(), store.BuildRequest{App: l.app, Deployment: 1}, made, nothing{}, func(string) {})
	if err == nil || inspectErr == nil || pullErr == nil || buildErr == nil {
		t.Fatalf("%s: inspection %v, pull %v, build %v", text, inspectErr, pullErr, buildErr)
	}
	return map[string]error{"inspection": inspectErr, "pull": pullErr, "build": buildErr}
}

// An engine that is away is not taken for a registry that is.
func TestRegistryProblemWithoutEngine(t *testing.T) {
	l := newLab(t, Limits{})
	docker, err := client.NewClientWithOpts(client.WithHost("unix://" + filepath.Join(t.TempDir(), "none.sock")))
	if err != nil {
		t.Fatal(err)
	}
	l.docker = docker
	_, _, fetchErr := l.fetch(t, "registry.example.com/app:1")
	for way, err := range map[string]error{"fetch": fetchErr, "pull": l.pull(t.Context(), l.app, mustReference(t, "registry.example.com/app:1"), func(string) {})} {
		if p := problem(t, err, store.CodeErrored); !strings.HasPrefix(p.Message, "the Docker engine does not answer at ") {
			t.Errorf("%s: %q", way, p.Message)
		}
	}
}

func TestHintsOfRegistryProblems(t *testing.T) {
	b := New(Options{})
	named, err := parseReference("ghcr.io/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	without, with := &registryLogin{host: "ghcr.io"}, &registryLogin{host: "ghcr.io", username: "ship", password: "secret"}
	for _, c := range []struct {
		app   string
		login *registryLogin
		err   string
		code  store.Code
		says  string
		hint  string
	}{
		{"blog", without, "manifest unknown", store.CodeFailed, "no such tag or digest", "shipgate deploy blog --image ghcr.io/team/app:TAG"},
		{"blog", without, "name unknown", store.CodeFailed, "has no image ghcr.io/team/app:1", "shipgate deploy blog --image REFERENCE"},
		{"", without, "manifest unknown", store.CodeFailed, "no such tag or digest", "docker manifest inspect ghcr.io/team/app:1"},
		{"", without, "name unknown", store.CodeFailed, "has no image", "docker manifest inspect ghcr.io/team/app:1"},
		{"blog", without, "denied", store.CodeFailed, "asks for a login", "shipgate registry login ghcr.io --username NAME"},
		{"blog", with, "denied", store.CodeFailed, "does not let user ship", "shipgate registry login ghcr.io --username NAME"},
		{"blog", with, "secret: connection refused", store.CodeErrored, "cannot be reached for image ghcr.io/team/app:1: ***: connection refused", "docker pull ghcr.io/team/app:1"},
		{"blog", with, "a secret thing", store.CodeFailed, "get image ghcr.io/team/app:1: a *** thing", "docker pull ghcr.io/team/app:1"},
		{"blog", without, "write /x: no space left on device", store.CodeErrored, "disk of the Docker engine is full", "shipgate gc # and where that frees too little: docker builder prune"},
	} {
		p := problem(t, b.registryProblem(c.app, named, c.login, errors.New(c.err)), c.code)
		if !strings.Contains(p.Message, c.says) || p.Hint != c.hint {
			t.Errorf("%s: %q, hint %q, want %q, hint %q", c.err, p.Message, p.Hint, c.says, c.hint)
		}
	}
}

func TestLastWords(t *testing.T) {
	for text, want := range map[string]string{
		"denied":               "denied",
		"one: two: three":      "one: two: three",
		"one: two: three: a b": "two: three: a b",
		" denied\n":            "denied",
	} {
		if got := lastWords(fmt.Errorf("get image: %w", fmt.Errorf("ask: %w", errors.New(text)))); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
}
