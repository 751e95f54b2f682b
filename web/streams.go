package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/shipgate/shipgate/store"
)

// heartbeat keeps proxies and clients from taking a silent stream for a dead one.
const heartbeat = 15 * time.Second

// followEvents streams a deployment's history as server-sent events (WHATWG HTML, section 9.2): one "line" an Event, the
// id that of the Event, and at the end one "verdict" with the deployment. It resumes after Last-Event-ID.
func (s *server) followEvents(c echo.Context) error {
	d, err := s.deploymentOf(c)
	if err != nil {
		return err
	}
	stillMay := func() bool {
		_, err := s.Store.Authenticate(c.Request().Context(), secretOf(c))
		return err == nil
	}
	return s.follow(c, d, stillMay, func(news any) any { return news })
}

// follow streams each Event and the deployment with its verdict, in the form that show gives them. With every heartbeat it
// asks whether its reader still may, so that what is revoked also ends what it had opened.
func (s *server) follow(c echo.Context, d store.Deployment, stillMay func() bool, show func(any) any) error {
	ctx, cancel := s.streamContext(c)
	defer cancel()
	after, err := lastEventID(c)
	if err != nil {
		return err
	}
	changed, unwatch := s.Store.Watch(store.DeploymentTopic(d.ID))
	defer unwatch()
	stream := openStream(c, "text/event-stream")
	stream.show = show
	beat := time.NewTicker(s.Heartbeat)
	defer beat.Stop()
	for {
		ended, err := s.sendNews(ctx, stream, d.ID, &after)
		if ended || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-beat.C:
			if !stillMay() || stream.write(": still here\n\n") != nil {
				return nil
			}
		}
	}
}

// streamContext ends with the request or with the server.
func (s *server) streamContext(c echo.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.Request().Context())
	stop := context.AfterFunc(s.Lifetime, cancel)
	return ctx, func() { stop(); cancel() }
}

func lastEventID(c echo.Context) (int64, error) {
	text := c.Request().Header.Get("Last-Event-ID")
	if text == "" {
		text = c.QueryParam("after")
	}
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, store.Problemf(store.CodeUsage, "Last-Event-ID %q is not a number", text)
	}
	return id, nil
}

// sendNews writes what has come since, and the verdict once there is one. The deployment is read before its events, so
// that nothing that led to a verdict can be missed.
func (s *server) sendNews(ctx context.Context, stream *stream, id int64, after *int64) (ended bool, err error) {
	d, err := s.Store.Deployment(ctx, id)
	if err != nil {
		return false, err
	}
	err = s.eachEvent(ctx, id, *after, func(event store.Event) error {
		*after = event.ID
		return stream.event("line", event.ID, event)
	})
	if err != nil || d.Verdict == "" {
		return false, errors.Join(err, stream.flush())
	}
	shown, err := s.deploymentJSON(ctx, d)
	if err != nil {
		return false, err
	}
	return true, stream.event("verdict", *after, shown)
}

// stream is an answer that is written bit by bit.
type stream struct {
	out     io.Writer
	control *http.ResponseController
	show    func(any) any // the form of what an event carries
}

func openStream(c echo.Context, contentType string) *stream {
	header := c.Response().Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff") // what an app writes must not become a page of ours
	c.Response().WriteHeader(http.StatusOK)
	return &stream{out: c.Response(), control: http.NewResponseController(c.Response())}
}

func (s *stream) write(text string) error {
	if _, err := io.WriteString(s.out, text); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) flush() error { return s.control.Flush() }

func (s *stream) event(kind string, id int64, data any) error {
	text, err := json.Marshal(s.show(data))
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	_, err = fmt.Fprintf(s.out, "id: %d\nevent: %s\ndata: %s\n\n", id, kind, text)
	return err
}

// followLogs streams the lines of the live container, or the history of one deployment, as plain text.
func (s *server) followLogs(c echo.Context) error {
	ctx, app := c.Request().Context(), c.Param("app")
	if _, err := s.Store.App(ctx, app); err != nil {
		return err
	}
	if c.QueryParam("deployment") != "" {
		return s.deploymentLog(c, app)
	}
	tail, err := number(c, "tail", 100, 10000)
	if err != nil {
		return err
	}
	live, found, err := s.Store.Live(ctx, app)
	switch {
	case err != nil:
		return err
	case !found:
		return store.Problemf(store.CodeConflict, "%s has never been live", app).WithHint("git push shipgate main")
	case live.Container == "":
		return store.Problemf(store.CodeUsage, "%s is a static site: it has no container and so no log", app).
			WithHint("shipgate logs %s --deployment %d", app, live.Deployment)
	}
	mask, err := s.maskOf(ctx, live)
	if err != nil {
		return err
	}
	if c.QueryParam("raw") == "true" {
		return s.containerLog(c, live.Container, tail, mask)
	}
	return s.containerLog(c, live.Container, tail, func(line string) string { return mask(store.PlainLine(line)) })
}

// maskOf hides what a container may say of its env, and of the env that its app has by now, beside the secrets of the
// server itself.
func (s *server) maskOf(ctx context.Context, live store.Live) (func(string) string, error) {
	release, err := s.Store.Release(ctx, live.Release)
	if err != nil {
		return nil, err
	}
	started, err := s.Store.OpenEnv(release)
	if err != nil {
		return nil, err
	}
	env, err := s.Store.Env(ctx, live.App)
	if err != nil {
		return nil, err
	}
	mask := store.MaskOf(slices.AppendSeq(slices.Collect(maps.Values(started)), maps.Values(env))...)
	return func(line string) string { return s.Store.Masked(mask.Replace(line)) }, nil
}

// containerLog begins its answer with the first line, so that an engine that is away can still be said.
func (s *server) containerLog(c echo.Context, container string, tail int, mask func(string) string) error {
	ctx, cancel := s.streamContext(c)
	defer cancel()
	var out *stream
	err := s.Logs(ctx, container, tail, c.QueryParam("follow") == "true", func(line string) {
		if out == nil {
			out = openStream(c, "text/plain; charset=utf-8")
		}
		if out.write(mask(line)+"\n") != nil {
			cancel() // the client has left
		}
	})
	switch {
	case ctx.Err() != nil:
		return nil // nobody reads on, or the server stops
	case out == nil && err == nil:
		return c.String(http.StatusOK, "")
	}
	return err
}

// deploymentLog gives the history of one deployment as lines.
func (s *server) deploymentLog(c echo.Context, app string) error {
	ctx := c.Request().Context()
	id, err := strconv.ParseInt(c.QueryParam("deployment"), 10, 64)
	if err != nil {
		return store.Problemf(store.CodeUsage, "deployment=%s is not a number", c.QueryParam("deployment"))
	}
	d, err := s.Store.Deployment(ctx, id)
	if err != nil {
		return err
	}
	if d.App != app {
		return store.Problemf(store.CodeNotFound, "deployment %d is not one of %s", id, app).WithHint("shipgate deployments %s", app)
	}
	return s.writeHistory(c, d.ID)
}

func (s *server) writeHistory(c echo.Context, id int64) error {
	out := openStream(c, "text/plain; charset=utf-8")
	return s.eachEvent(c.Request().Context(), id, 0, func(event store.Event) error {
		if event.Kind == "step" {
			return nil
		}
		_, err := fmt.Fprintf(out.out, "%s %-7s %s\n", event.At.Format("15:04:05.000"), event.Kind, s.clean(event.Text))
		return err
	})
}
