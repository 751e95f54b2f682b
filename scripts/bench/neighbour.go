package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// nuisance is something that one app, a pusher or a stranger does while another app's visitors are served.
type nuisance struct {
	name    string
	prepare func(ctx context.Context) error // nil: nothing
	do      func(ctx context.Context)
}

// What visitors of the quiet app send in each phase, one after the other for each visitor.
const (
	visitors     = 2
	visits       = 400             // at least
	phase        = 2 * time.Second // at least
	calmBetween  = 3               // pairs of a calm phase and a disturbed one, for each nuisance
	slowBodies   = 500
	hostileRules = 200
	hostileRate  = 600 // requests a second: their sender is on this machine, too, and takes no more of it than it must
)

// neighbour measures what an app's visitors feel of what others do: the 99th percentile beside that of calm phases in the same run.
func (b *bench) neighbour(ctx context.Context) error {
	rules := strings.Builder{}
	for n := range hostileRules {
		fmt.Fprintf(&rules, "/:a/:b/:c/%d\n  X-Rule: %d\n", n, n)
	}
	for app, files := range map[string]map[string]string{
		"quiet": {"index.html": "<h1>quiet</h1>"},
		"noisy": {"index.html": "<h1>noisy</h1>", "_headers": rules.String()},
	} {
		if err := b.pushSite(ctx, app, files); err != nil {
			return err
		}
	}
	for _, n := range []nuisance{
		{fmt.Sprintf("a site of %d hostile rules, %d/s", hostileRules, hostileRate), nil, func(ctx context.Context) { b.hammer(ctx, b.public+"/a/b/c/x", "noisy.localhost", "") }},
		{fmt.Sprintf("%d slow bodies", slowBodies), nil, func(ctx context.Context) { b.trickle(ctx, "noisy.localhost") }},
		{fmt.Sprintf("wrong tokens at the API, %d/s", hostileRate), nil, func(ctx context.Context) { b.hammer(ctx, b.api+"/api/v1/apps", "", "Bearer wrong") }},
		{"a push of 100 MB", b.commitLarge, func(ctx context.Context) {
			_ = b.git(ctx, filepath.Join(b.dir, "noisy"), "push", "-q", "shipgate", "main")
		}},
	} {
		if err := b.disturb(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pushSite(ctx context.Context, app string, files map[string]string) error {
	repository := filepath.Join(b.dir, app)
	if err := os.MkdirAll(filepath.Join(repository, "public"), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(repository, "public", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := b.createApp(ctx, repository, app, "--source", "static", "--publish-dir", "public", "--host", app+".localhost"); err != nil {
		return err
	}
	if err := b.commit(ctx, repository, "One"); err != nil {
		return err
	}
	return b.git(ctx, repository, "push", "-q", "shipgate", "main")
}

// disturb visits the quiet app in turn with and without the nuisance.
func (b *bench) disturb(ctx context.Context, n nuisance) error {
	var calm, disturbed []time.Duration
	for range calmBetween {
		p99, err := b.visit(ctx)
		if err != nil {
			return err
		}
		calm = append(calm, p99)
		if n.prepare != nil {
			if err := n.prepare(ctx); err != nil {
				return err
			}
		}
		active, end := context.WithCancel(ctx)
		var work sync.WaitGroup
		work.Go(func() { n.do(active) })
		p99, err = b.visit(ctx)
		end()
		work.Wait()
		if err != nil {
			return err
		}
		disturbed = append(disturbed, p99)
	}
	report("neighbour's p99 beside "+n.name, fmt.Sprintf("%.2f× (%.1f ms / %.1f ms)", medianRatio(disturbed, calm),
		median(disturbed).Seconds()*1e3, median(calm).Seconds()*1e3), "≤ 2×")
	return nil
}

// visit returns the 99th percentile of requests to the quiet app. Each has to be answered well.
func (b *bench) visit(ctx context.Context) (time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var all sync.WaitGroup
	first := time.Now()
	for range visitors {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; n < visits || time.Since(first) < phase; n++ {
				began := time.Now()
				err := get(ctx, client, b.public+"/", "quiet.localhost", "", http.StatusOK)
				mu.Lock()
				took, failed = append(took, time.Since(began)), errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took[len(took)*99/100], failed
}

func get(ctx context.Context, client *http.Client, url, host, authorization string, want int) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Host = host
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if want != 0 && response.StatusCode != want {
		return fmt.Errorf("%s answers %d", url, response.StatusCode)
	}
	return nil
}

// hammer sends requests until ctx ends. What the answer is does not matter.
func (b *bench) hammer(ctx context.Context, url, host, authorization string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second / hostileRate)
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		_ = get(ctx, client, url, host, authorization, 0)
	}
}

// trickle opens many requests whose bodies come a byte at a time, until ctx ends.
func (b *bench) trickle(ctx context.Context, host string) {
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for range slowBodies {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(b.public, "http://"))
		if err != nil {
			return
		}
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n\r\n", host)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, conn := range conns {
				_, _ = conn.Write([]byte("x"))
			}
		}
	}
}

// commitLarge commits a file that does not compress.
func (b *bench) commitLarge(ctx context.Context) error {
	repository := filepath.Join(b.dir, "noisy")
	file, err := os.Create(filepath.Join(repository, "large"))
	if err != nil {
		return err
	}
	noise, err := os.Open("/dev/urandom")
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = io.CopyN(file, noise, 100<<20)
	if err := errors.Join(err, noise.Close(), file.Close()); err != nil {
		return err
	}
	return b.commit(ctx, repository, "A large file")
}
