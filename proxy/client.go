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
	"time"

	"github.com/shipgate/shipgate/store"
)

// Client asks the proxy process through its control socket. It is the runner's router.
type Client struct{ http *http.Client }

// NewClient gives a client for the proxy of a data directory, which need not run yet.
func NewClient(dataDir string) *Client {
	dialer := &net.Dialer{}
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socketFile(dataDir))
		},
		DisableKeepAlives: true, // each call reaches whoever has the socket now
	}}}
}

// Status says who answers. It is an error when nobody does.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, c.call(ctx, http.MethodGet, "/v1/status", nil, &status)
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

func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
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
		return unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return problemIn(response)
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return unreachable(err)
	}
	return nil
}

func unreachable(err error) error {
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
