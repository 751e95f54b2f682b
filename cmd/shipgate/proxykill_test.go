package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A proxy that is killed is there again by itself, at the same address and with the same site, and while the server hangs or
// is killed visitors notice nothing.
func TestKilledProxyComesBack(t *testing.T) {
	dir, folder := t.TempDir(), t.TempDir()
	s := startServer(t, dir, nil)
	s.ready(t)
	if err := os.WriteFile(filepath.Join(folder, "index.html"), []byte("content of index.html"), 0o644); err != nil {
		t.Fatal(err)
	}
	pushNew(t, dir, folder, "victim-site", "--source", "static", "--publish-dir", ".")
	public := must(readServerFile(dir)).Public
	visit := func() {
		t.Helper()
		for range 100 {
			expectContent(t, public, "victim-site", "/", "index.html")
		}
	}
	visit()
	for range 3 {
		killed := proxyPID(dir)
		if killed <= 0 { // 0 would be every process of the test
			t.Fatal("no proxy answers")
		}
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		awaitSite(t, public, "victim-site")
		t.Logf("back after %v", time.Since(began))
		visit()
		if pid := proxyPID(dir); pid == killed {
			t.Errorf("process %d serves on", pid)
		}
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT, syscall.SIGKILL} {
		if err := s.command.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		visit()
	}
}

// awaitSite asks until the site answers.
func awaitSite(t *testing.T, public, app string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, public, nil))
		request.Host = app + ".localhost"
		response, err := client.Do(request)
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s does not answer again", app)
}
