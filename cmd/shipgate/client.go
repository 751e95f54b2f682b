package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// client speaks to the server's API.
type client struct {
	url, token string
	remote     string // the server as others reach it, for git remotes
	http       *http.Client
}

// serverFile is DATA/server.json: where the server that uses the data directory can be reached.
type serverFile struct {
	Local    string `json:"local"` // the API as commands on this machine reach it
	API      string `json:"api"`   // and as others do
	Public   string `json:"public"`
	PID      int    `json:"pid"`
	ServerID string `json:"server_id"` // the label dev.shipgate.data of all it makes
}

// client finds the server: by SHIPGATE_URL and SHIPGATE_TOKEN, or by the data directory on the server's own machine. A
// directory that was named with --data counts more. Its admin token goes to its own server only.
func (c *cli) client() (*client, error) {
	found := &client{url: strings.TrimSuffix(c.getenv("SHIPGATE_URL"), "/"), token: c.getenv("SHIPGATE_TOKEN"), http: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialLimit}).DialContext},
	}}
	found.remote = found.url
	named := c.dataDir != c.getenv("SHIPGATE_DATA")
	if found.url != "" && !named {
		return found, nil
	}
	if c.dataDir == "" {
		return nil, store.Problemf(store.CodeUsage, "no server is named").
			WithHint("set SHIPGATE_URL and SHIPGATE_TOKEN, or SHIPGATE_DATA on the server's own machine")
	}
	server, secret, err := readDataDir(c.dataDir)
	if err != nil {
		return nil, err
	}
	found.url, found.remote = server.Local, server.API
	if found.token == "" || named {
		found.token = secret
	}
	return found, nil
}

const dialLimit = 10 * time.Second

func readDataDir(dir string) (serverFile, string, error) {
	secret, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	if err == nil {
		var found serverFile
		if found, err = readServerFile(dir); err == nil {
			return found, strings.TrimSpace(string(secret)), nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) { // server.json may be cut off as well as missing
		return serverFile{}, "", store.Problemf(store.CodeUnreachable, "no server has been started on %s", dir).
			WithHint("shipgate serve --data %s", dir)
	}
	return serverFile{}, "", fmt.Errorf("read data directory: %w", err)
}

func readServerFile(dir string) (found serverFile, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(text, &found)
}

// answerLimit is how long the server may take. What it only begins is quick; to end an app it has to stop containers.
const answerLimit = 5 * time.Minute

// call makes one request and decodes its answer. Whatever the server refuses comes back as its Problem.
func (c *client) call(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	response, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return c.unreachable(fmt.Errorf("read answer: %w", err))
	}
	return nil
}

func (c *client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, content)
	if err != nil {
		return nil, store.Problemf(store.CodeUsage, "SHIPGATE_URL: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode >= 300 {
		defer response.Body.Close()
		return nil, problemOf(response)
	}
	return response, nil
}

func (c *client) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address, which is said already
	}
	return store.Problemf(store.CodeUnreachable, "the server at %s does not answer: %w", c.url, err).
		WithHint("shipgate serve, on the server's machine; or set SHIPGATE_URL")
}

func problemOf(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	var problem store.Problem
	if err != nil || json.Unmarshal(text, &problem) != nil || problem.Code == "" {
		return store.Problemf(store.CodeErrored, "the server answered %s: %.200s", response.Status, text)
	}
	return &problem
}

// shownDeployment is a deployment as the API shows it.
type shownDeployment struct {
	store.Deployment
	URL         string        `json:"url"`
	LogURL      string        `json:"log_url,omitempty"`
	ImageDigest string        `json:"image_digest,omitempty"`
	Events      []store.Event `json:"events,omitempty"`
}

// follow reads a deployment's events as they come until its verdict. A stream that breaks is taken up where it was.
func (c *client) follow(ctx context.Context, id int64, show func(store.Event)) (shownDeployment, error) {
	var after int64
	for failures := 0; ; failures++ {
		before := after
		d, err := c.followOnce(ctx, id, &after, show)
		if err == nil || ctx.Err() != nil || store.CodeOf(err) != store.CodeUnreachable {
			return d, err
		}
		if after > before {
			failures = 0
		}
		if failures == 30 {
			return d, err
		}
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(time.Second): // the server is away, and nothing tells when it is back
		}
	}
}

func (c *client) followOnce(ctx context.Context, id int64, after *int64, show func(store.Event)) (d shownDeployment, err error) {
	response, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/api/v1/deployments/%d/events?after=%d", id, *after), nil)
	if err != nil {
		return d, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 4<<20)
	kind := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			kind = value
		case name == "data" && kind == "verdict":
			return d, json.Unmarshal([]byte(value), &d)
		case name == "data":
			var event store.Event
			if err := json.Unmarshal([]byte(value), &event); err != nil {
				return d, fmt.Errorf("read event: %w", err)
			}
			*after = event.ID
			show(event)
		}
	}
	return d, c.unreachable(errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}
