package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fileServer is one of the servers that serve the same tree.
type fileServer struct{ name, url, host string }

// servers compares how fast and how shipgate, Caddy and nginx serve one tree. A server that is not installed is left out.
func (b *bench) servers(ctx context.Context, rounds int) error {
	tree := filepath.Join(b.dir, "tree")
	if err := makeTree(filepath.Join(tree, "public")); err != nil {
		return err
	}
	if err := b.createApp(ctx, tree, "tree", "--source", "static", "--publish-dir", "public", "--host", "tree.localhost"); err != nil {
		return err
	}
	if err := b.commit(ctx, tree, "One"); err != nil {
		return err
	}
	if err := b.git(ctx, tree, "push", "-q", "shipgate", "main"); err != nil {
		return err
	}
	compared := []fileServer{{"shipgate", b.public, "tree.localhost"}}
	for _, other := range []string{"caddy", "nginx"} {
		started, stop, err := b.startOther(ctx, other, filepath.Join(tree, "public"))
		if err != nil {
			fmt.Printf("%s is left out: %v\n", other, err)
			continue
		}
		defer stop()
		compared = append(compared, started)
	}
	if err := semantics(ctx, compared); err != nil {
		return err
	}
	return speeds(ctx, compared, rounds)
}

// makeTree writes what is asked for. Caddy and nginx get a compressed file beside the script, as they want it.
func makeTree(root string) error {
	script := strings.Repeat("export function render(item) { return document.createElement(item.kind) }\n", 1400)
	var compressed bytes.Buffer
	packer := gzip.NewWriter(&compressed)
	_, _ = packer.Write([]byte(script))
	if err := packer.Close(); err != nil {
		return err
	}
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for name, content := range map[string]string{
		"index.html": "<h1>home</h1>" + strings.Repeat("<p>text</p>", 90), "about.html": "<h1>about</h1>", "docs/index.html": "<h1>docs</h1>",
		"404.html": "<h1>not here</h1>", "app.3f9c2ab1d0.js": script, "app.3f9c2ab1d0.js.gz": compressed.String(), "photo.png": string(noise),
		".env": "SECRET=1", "module.wasm": "\x00asm", "feed.webmanifest": "{}",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return os.Symlink("/etc/hostname", filepath.Join(root, "outside.txt"))
}

// startOther starts a server over the tree and waits until it answers.
func (b *bench) startOther(ctx context.Context, name, tree string) (server fileServer, stop func(), err error) {
	binary, err := exec.LookPath(name)
	if err != nil {
		return server, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return server, nil, err
	}
	address := listener.Addr().String()
	_ = listener.Close() // the other process takes the port
	config := filepath.Join(b.dir, name+".conf")
	text := fmt.Sprintf("{\n admin off\n auto_https off\n}\nhttp://%s {\n root * %s\n file_server {\n  precompressed gzip\n }\n}\n", address, tree)
	args := []string{"run", "--adapter", "caddyfile", "--config", config}
	if name == "nginx" {
		text = fmt.Sprintf("user root; daemon off; pid %s/nginx.pid; error_log /dev/null; worker_processes auto; events {}\n"+
			"http { include /etc/nginx/mime.types; access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n"+
			" server { listen %s; root %s; gzip_static on; error_page 404 /404.html; } }\n", b.dir, address, tree)
		args = []string{"-c", config}
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return server, nil, err
	}
	command := exec.CommandContext(ctx, binary, args...)
	if err := command.Start(); err != nil {
		return server, nil, err
	}
	stop = func() { _ = command.Process.Signal(syscall.SIGTERM); _ = command.Wait() }
	server = fileServer{name, "http://" + address, address}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if answer, err := http.Get(server.url); err == nil {
			return server, stop, answer.Body.Close()
		}
	}
	stop()
	return server, nil, errors.New("it did not answer within 10 s")
}

// question is one request that all servers get.
type question struct {
	what, path string
	header     [2]string
}

var questions = []question{
	{what: "a page", path: "/"}, {what: "a page without its ending", path: "/about"}, {what: "a directory without its slash", path: "/docs"},
	{what: "nothing there", path: "/nothing"}, {what: "a hidden file", path: "/.env"}, {what: "a link out of the tree", path: "/outside.txt"},
	{what: "a way out of the tree", path: "/..%2f..%2fetc/hostname"}, {what: "WebAssembly", path: "/module.wasm"}, {what: "a web manifest", path: "/feed.webmanifest"},
	{what: "a script with a hash", path: "/app.3f9c2ab1d0.js"},
	{what: "the same, gzip taken", path: "/app.3f9c2ab1d0.js", header: [2]string{"Accept-Encoding", "gzip"}},
	{what: "the same, br and gzip taken", path: "/app.3f9c2ab1d0.js", header: [2]string{"Accept-Encoding", "gzip, br"}},
	{what: "the same, gzip refused", path: "/app.3f9c2ab1d0.js", header: [2]string{"Accept-Encoding", "gzip;q=0"}},
	{what: "a range", path: "/photo.png", header: [2]string{"Range", "bytes=0-9"}},
	{what: "two ranges", path: "/photo.png", header: [2]string{"Range", "bytes=0-9,20-29"}},
	{what: "a range past the end", path: "/photo.png", header: [2]string{"Range", "bytes=999999999-"}},
}

// semantics prints what each server answers, as a table for docs/static-sites.md.
func semantics(ctx context.Context, compared []fileServer) error {
	row := []string{"asked for"}
	for _, server := range compared {
		row = append(row, server.name)
	}
	fmt.Printf("| %s |\n|%s\n", strings.Join(row, " | "), strings.Repeat("---|", len(row)))
	for _, q := range questions {
		row := []string{q.what}
		for _, server := range compared {
			answer, err := server.ask(ctx, q)
			if err != nil {
				return err
			}
			row = append(row, answer)
		}
		fmt.Printf("| %s |\n", strings.Join(row, " | "))
	}
	return nil
}

// asIs neither follows redirects nor decompresses.
var asIs = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (s fileServer) request(ctx context.Context, q question) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+q.path, nil)
	if err != nil {
		return nil, err
	}
	request.Host = s.host
	if q.header[0] != "" {
		request.Header.Set(q.header[0], q.header[1])
	}
	return asIs.Do(request)
}

func (s fileServer) ask(ctx context.Context, q question) (string, error) {
	response, err := s.request(ctx, q)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	parts := []string{fmt.Sprint(response.StatusCode)}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Cache-Control"} {
		value, _, _ := strings.Cut(response.Header.Get(name), "; boundary")
		if value != "" && (response.StatusCode < 300 || name == "Cache-Control") {
			parts = append(parts, value)
		}
	}
	if tag := response.Header.Get("Etag"); tag != "" && response.StatusCode == http.StatusOK {
		kind := "ETag of time and size"
		if len(tag) > 40 {
			kind = "ETag of content"
		}
		parts = append(parts, kind)
	}
	return strings.Join(parts, ", "), nil
}

// speeds measures requests a second side by side, round by round.
func speeds(ctx context.Context, compared []fileServer, rounds int) error {
	for _, q := range []question{
		{what: "page of 1 KB", path: "/"}, {what: "picture of 100 KB", path: "/photo.png"},
		{what: "script of 100 KB, compressed", path: "/app.3f9c2ab1d0.js", header: [2]string{"Accept-Encoding", "gzip"}},
		{what: "script unchanged (304)", path: "/app.3f9c2ab1d0.js", header: [2]string{"If-None-Match", ""}},
	} {
		rates := map[string][]float64{}
		for range rounds {
			for _, server := range compared {
				rate, err := server.rate(ctx, q)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", server.name, q.what, err)
				}
				rates[server.name] = append(rates[server.name], rate)
			}
		}
		for _, other := range compared[1:] {
			var ratios []float64
			for i, rate := range rates[other.name] {
				ratios = append(ratios, rates["shipgate"][i]/rate)
			}
			slices.Sort(ratios)
			report("requests/s, "+q.what+", against "+other.name, fmt.Sprintf("%.2f× (%.2f–%.2f)", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]), "≥ 1.0× Caddy")
		}
	}
	return nil
}

// rate sends requests over 16 connections for a second.
func (s fileServer) rate(ctx context.Context, q question) (float64, error) {
	if q.header[0] == "If-None-Match" {
		first, err := s.request(ctx, question{path: q.path})
		if err != nil {
			return 0, err
		}
		_ = first.Body.Close()
		q.header[1] = first.Header.Get("Etag")
	}
	var sent atomic.Int64
	var failure error
	var once sync.Once
	var clients sync.WaitGroup
	began := time.Now()
	for range 16 {
		clients.Go(func() {
			for time.Since(began) < time.Second {
				response, err := s.request(ctx, q)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
				if err != nil {
					once.Do(func() { failure = err })
					return
				}
				sent.Add(1)
			}
		})
	}
	clients.Wait()
	return float64(sent.Load()) / time.Since(began).Seconds(), failure
}
