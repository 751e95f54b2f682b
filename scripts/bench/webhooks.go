package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

const hookSecret = "a secret of the bench"

// webhooks measures how fast deliveries are answered, each of them stored, and how soon one starts its deployment.
func (b *bench) webhooks(ctx context.Context, rate int, lasting time.Duration, rounds int) error {
	stop, err := b.connect(ctx)
	if err != nil {
		return err
	}
	defer stop()
	answers, err := b.flood(ctx, rate, lasting)
	if err != nil {
		return err
	}
	slices.Sort(answers)
	report(fmt.Sprintf("webhook answered and stored, %d a second", rate), fmt.Sprintf("p50 %s, p99 %s of %d", milliseconds(answers[len(answers)/2]),
		milliseconds(answers[len(answers)*99/100]), len(answers)), "p99 ≤ 20 ms")
	starts, err := b.started(ctx, rounds)
	if err != nil {
		return err
	}
	slices.Sort(starts)
	report("webhook's answer → its deployment started, commit here", fmt.Sprintf("median %s, worst %s", milliseconds(median(starts)),
		milliseconds(starts[len(starts)-1])), "≤ 50 ms")
	return nil
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

// connect has the server take a stand-in that agrees to everything for GitHub.
func (b *bench) connect(ctx context.Context) (stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(listener) }() // ends with Close
	for name, content := range map[string]string{"token": "token-of-the-bench", "secret": hookSecret} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	_, err = b.output(ctx, b.dir, b.shipgate, "github", "connect", "--token-file", "token", "--webhook-secret-file", "secret",
		"--api-url", "http://"+listener.Addr().String())
	return func() { _ = server.Close() }, err
}

// deliver sends one push to main as GitHub does, and gives how long its answer took.
func (b *bench) deliver(ctx context.Context, guid, repository, before, after string) (time.Duration, error) {
	owner, name, _ := strings.Cut(repository, "/")
	body, err := json.Marshal(map[string]any{
		"ref": "refs/heads/main", "before": before, "after": after,
		"head_commit": map[string]any{"id": after, "message": "A commit of the bench"},
		"repository": map[string]any{"id": len(repository), "name": name, "full_name": repository, "default_branch": "main",
			"owner": map[string]any{"login": owner}, "pushed_at": time.Now().Unix()},
		"padding": strings.Repeat("x", 8<<10), // what real ones have besides
	})
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api+"/webhooks/github", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-GitHub-Event", "push")
	request.Header.Set("X-GitHub-Delivery", guid)
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	began := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("webhook answered %s: %s", response.Status, answer)
	}
	return time.Since(began), err
}

// flood sends deliveries at a rate that does not wait for the answers.
func (b *bench) flood(ctx context.Context, rate int, lasting time.Duration) (answers []time.Duration, err error) {
	var mu sync.Mutex
	var sent sync.WaitGroup
	ticks := time.NewTicker(time.Second / time.Duration(rate))
	defer ticks.Stop()
	for n := range rate * int(lasting/time.Second) {
		<-ticks.C
		sent.Go(func() {
			took, failed := b.deliver(ctx, fmt.Sprintf("flood-%d", n), "octo/nobody-follows-this", strings.Repeat("0", 40), fmt.Sprintf("%040x", n+1))
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, took)
			if failed != nil {
				err = failed
			}
		})
	}
	sent.Wait()
	return answers, err
}

// started delivers pushes of commits that are in the repository already, one after the other.
func (b *bench) started(ctx context.Context, rounds int) (starts []time.Duration, err error) {
	repository := filepath.Join(b.dir, "hook")
	if err := os.MkdirAll(repository, 0o755); err != nil {
		return nil, err
	}
	if err := b.createApp(ctx, repository, "hook", "--source", "static", "--host", "hook.localhost", "--repo", "octo/hook"); err != nil {
		return nil, err
	}
	before := strings.Repeat("0", 40)
	for round := range rounds {
		if err := os.WriteFile(filepath.Join(repository, "index.html"), fmt.Appendf(nil, "version %d\n", round), 0o644); err != nil {
			return nil, err
		}
		if err := b.commit(ctx, repository, fmt.Sprintf("Version %d", round)); err != nil {
			return nil, err
		}
		if err := b.git(ctx, repository, "push", "-q", "shipgate", "main:stored"); err != nil {
			return nil, err
		}
		after, err := b.output(ctx, repository, "git", "rev-parse", "HEAD")
		if err != nil {
			return nil, err
		}
		after = strings.TrimSpace(after)
		if _, err := b.deliver(ctx, fmt.Sprintf("start-%d", round), "octo/hook", before, after); err != nil {
			return nil, err
		}
		answered := time.Now()
		d, err := b.deployed(ctx, "hook", after)
		if err != nil {
			return nil, err
		}
		starts = append(starts, max(0, d.StartedAt.Sub(answered)))
		before = after
	}
	return starts, nil
}

// deployed waits until the newest deployment of an app is that of a commit, and has ended.
func (b *bench) deployed(ctx context.Context, app, sha string) (deployment, error) {
	for {
		text, err := b.output(ctx, b.dir, b.shipgate, "deployments", app, "--json")
		if err != nil {
			return deployment{}, err
		}
		var list []deployment
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return deployment{}, fmt.Errorf("read deployments: %w", err)
		}
		if len(list) > 0 && list[0].SHA == sha {
			return b.settled(ctx, list[0].ID)
		}
		select {
		case <-ctx.Done():
			return deployment{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
