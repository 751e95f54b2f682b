package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// StuckEngine stands in front of the real engine and refuses to start some containers, in the words of an engine whose containerd
// still has their last run. That is left of an engine that was stopped with more to stop than it had time for.
type StuckEngine struct {
	Socket string

	engine *http.Client
	mu     sync.Mutex
	stuck  map[string]string // what is answered instead of a start, by container ID
}

var startPath = regexp.MustCompile(`^/v[0-9.]+/containers/([^/]+)/start$`)

// NewStuckEngine starts one in front of the engine that DOCKER_HOST names.
func NewStuckEngine(t *testing.T) *StuckEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "stuck-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	real := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if real == "" {
		real = "/var/run/docker.sock"
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", real)
	}}
	e := &StuckEngine{Socket: filepath.Join(dir, "docker.sock"), engine: &http.Client{Transport: transport}, stuck: map[string]string{}}
	listener, err := net.Listen("unix", e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	forward.Transport = transport
	forward.FlushInterval = -1
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if match := startPath.FindStringSubmatch(r.URL.Path); match != nil {
			if answer := e.answerTo(match[1]); answer != "" {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusInternalServerError)
				_ = json.NewEncoder(w).Encode(map[string]string{"message": answer})
				return
			}
		}
		forward.ServeHTTP(w, r)
	})
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(func() { transport.CloseIdleConnections(); server.CloseClientConnections(); server.Close() })
	return e
}

// Refuse has the container with this ID never start again. A %s in the answer is its ID.
func (e *StuckEngine) Refuse(id, answer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stuck[id] = strings.ReplaceAll(answer, "%s", id)
}

func (e *StuckEngine) answerTo(container string) string {
	response, err := e.engine.Get(fmt.Sprintf("http://docker/v1.41/containers/%s/json", container))
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	var found struct{ ID string }
	_ = json.NewDecoder(response.Body).Decode(&found)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stuck[found.ID]
}
