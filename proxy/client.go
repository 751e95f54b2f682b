package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shipgate/shipgate/store"
)

// Client asks the proxy process through its control socket. It is the runner's router.
type Client struct {
	dir  string
	http *http.Client
	pid  atomic.Int64 // of who answered last
}

// NewClient gives a client for the proxy of a data directory, which need not run yet.
func NewClient(dataDir string) *Client {
	dialer := &net.Dialer{}
	return &Client{dir: dataDir, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socketFile(dataDir))
		},
		DisableKeepAlives: true, // each call reaches whoever has the socket now
	}}}
}

// answerLimit is how long a proxy that works may take to say who it is.
const (
	answerLimit = 2 * time.Second
	askAgain    = 2 * time.Second
)

// Status says who answers. It is an error when nobody does, and another one when a process has the socket and says nothing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	bounded, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var status Status
	err := c.send(bounded, http.MethodGet, "/v1/status", nil, &status)
	if err == nil {
		c.pid.Store(int64(status.PID))
	} else if ctx.Err() == nil && bounded.Err() != nil {
		err = c.hangs()
	}
	return status, err
}

// Absent reports whether an error says that there is no proxy.
func Absent(err error) bool { return store.CodeOf(err) == store.CodeUnreachable && !Hangs(err) }

// Hangs reports whether an error says that there is a proxy that does not answer.
func Hangs(err error) bool {
	problem, is := store.AsProblem(err)
	return is && strings.Contains(problem.Message, "proxy hangs")
}

func (c *Client) hangs() error {
	if pid := c.pid.Load(); pid != 0 {
		return store.Problemf(store.CodeUnreachable, "the proxy hangs: process %d takes connections and does not answer", pid).
			WithHint("kill -CONT %d if somebody has stopped it; else kill -KILL %d, and serve starts it again", pid, pid)
	}
	return store.Problemf(store.CodeUnreachable, "the proxy hangs: it takes connections and does not answer").
		WithHint("pgrep -af 'shipgate proxy', then kill -CONT or kill -KILL; serve starts it again")
}

// Configure makes the settings those in force, and keeps them.
func (c *Client) Configure(ctx context.Context, settings Settings) error {
	return c.call(ctx, http.MethodPut, "/v1/settings", settings, nil)
}

// Stop ends the proxy and returns when it takes no more connections. Requests under way get half a minute.
func (c *Client) Stop(ctx context.Context) error {
	if err := c.call(ctx, http.MethodPost, "/v1/stop", nil, nil); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := c.Status(ctx); err != nil {
			return nil
		}
		pause(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

// Apply puts the route in place of the app's present one and returns when new requests follow it and it is on disk. It
// ends a hold. A route of an older generation, or for a host that another app has, is refused as a conflict.
func (c *Client) Apply(ctx context.Context, route store.Route) error {
	return c.call(ctx, http.MethodPut, appPath(route.App, "route"), route, nil)
}

// Hold parks new requests of the app and returns when its target has no request under way, with the number left at the
// cap. Those are not cut. It can be repeated. The hold ends with Apply or Release, or its limit after the drain.
func (c *Client) Hold(ctx context.Context, app string, hold store.Hold) (left int, err error) {
	var answer leftAnswer
	err = c.call(ctx, http.MethodPost, appPath(app, "hold"), hold, &answer)
	return answer.Left, err
}

// Release lets the parked requests go to the present target.
func (c *Client) Release(ctx context.Context, app string) error {
	return c.call(ctx, http.MethodPost, appPath(app, "release"), nil, nil)
}

// Drain returns when the deployment's target has no request under way, or at the limit with the number that was left
// then and has been cut. A target that is not known has none; one that still serves is not cut.
func (c *Client) Drain(ctx context.Context, app string, deployment int64, limit time.Duration) (left int, err error) {
	var answer leftAnswer
	err = c.call(ctx, http.MethodPost, appPath(app, "drain"), drainRequest{Deployment: deployment, Limit: limit}, &answer)
	return answer.Left, err
}

// Remove takes the app's route away. A missing one is no error.
func (c *Client) Remove(ctx context.Context, app string) error {
	return c.call(ctx, http.MethodDelete, appPath(app, "route"), nil, nil)
}

// SetCallers says which containers may call which apps, all of them at once, and returns when that holds and is on disk.
func (c *Client) SetCallers(ctx context.Context, table store.CallTable) error {
	return c.call(ctx, http.MethodPut, "/v1/internal", table, nil)
}

// Routes lists what is in place, by app.
func (c *Client) Routes(ctx context.Context) ([]store.Route, error) {
	var routes []store.Route
	return routes, c.call(ctx, http.MethodGet, "/v1/routes", nil, &routes)
}

// Upgrade replaces the proxy process by one of the executable, which takes over its sockets. It returns when that
// serves; the old one ends when the requests it has are done. It is a conflict while requests of an app are held.
func (c *Client) Upgrade(ctx context.Context, executable string) error {
	return c.call(ctx, http.MethodPost, "/v1/upgrade", upgradeRequest{Executable: executable}, nil)
}

func appPath(app, what string) string { return "/v1/apps/" + url.PathEscape(app) + "/" + what }

// call sends one request. Whoever gives its sockets on while we ask says so, and the successor is asked.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	err := c.ask(ctx, method, path, body, into)
	if problem, ok := store.AsProblem(err); ok && *problem == *errMoved {
		err = c.ask(ctx, method, path, body, into)
	}
	return err
}

// ask sends one request, and gives up when the proxy hangs: some requests may rightly take minutes.
func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
	watched, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watch(watched, cancel)
	}()
	err := c.send(watched, method, path, body, into)
	if cause := context.Cause(watched); err != nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	cancel(nil)
	<-done
	return err
}

// watch ends the context when the proxy hangs.
func (c *Client) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		pause(ctx, askAgain)
		if ctx.Err() != nil {
			return
		}
		if _, err := c.Status(ctx); Hangs(err) {
			cancel(err)
		}
	}
}

func (c *Client) send(ctx context.Context, method, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request to the proxy: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("make request to the proxy: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("ask the proxy: %w", err)
		}
		return c.unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return problemIn(response)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return c.unreachable(err)
	}
	return nil
}

func (c *Client) unreachable(err error) error {
	if Stopped(c.dir) {
		return store.Problemf(store.CodeUnreachable, "the proxy is stopped on purpose, so no app is served").WithHint("shipgate proxy start")
	}
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address, which only we know
	}
	return store.Problemf(store.CodeUnreachable, "the proxy does not answer: %w", err).WithHint("shipgate doctor")
}

func problemIn(response *http.Response) error {
	var problem store.Problem
	if err := json.NewDecoder(response.Body).Decode(&problem); err != nil || problem.Code == "" {
		return unexpectedStatus(response.StatusCode)
	}
	return &problem
}
