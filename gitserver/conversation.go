package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// maxLines bounds an answer of the forge up to its pack: branches and tags, and what is said about the boundary.
	maxLines = 32 << 20
	// stallPatience is how long an answer may bring no byte.
	stallPatience = time.Minute
)

var (
	errStalled = errors.New("the forge stopped sending")
	errTooLong = fmt.Errorf("the forge sent more than %d bytes that are no pack", maxLines)
)

// conversation carries the requests to a forge, bounds what comes back, and remembers how the last request went: the git
// library keeps neither the status nor the network's error.
type conversation struct {
	transport http.RoundTripper
	patience  time.Duration
	status    int
	comeBack  bool  // the forge names a time for another try
	fault     error // of the network; no fault of what was said
	answer    *answer
}

// RoundTrip is the http.RoundTripper of the git library's client.
func (c *conversation) RoundTrip(request *http.Request) (*http.Response, error) {
	c.status, c.comeBack, c.fault, c.answer = 0, false, nil, nil
	ctx, cancel := context.WithCancelCause(request.Context())
	response, err := c.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		cancel(nil)
		c.fault = err
		return nil, err
	}
	c.status, c.comeBack = response.StatusCode, response.Header.Get("Retry-After") != ""
	c.answer = &answer{body: response.Body, conversation: c, ctx: ctx, cancel: cancel, left: maxLines}
	response.Body = c.answer
	return response, nil
}

// allowPack lets the last answer go on with a pack, whose own limit holds when it is unwrapped.
func (c *conversation) allowPack(size int64) {
	if c.answer != nil {
		c.answer.left = maxLines + 2*size // many small packets cost something too
	}
}

// silent says whether the last answer had no body at all.
func (c *conversation) silent() bool { return c.answer != nil && !c.answer.began }

// answer is a response's body, cut when it grows too long or stands still.
type answer struct {
	body         io.ReadCloser
	conversation *conversation
	ctx          context.Context
	cancel       context.CancelCauseFunc
	left         int64
	began        bool
}

func (a *answer) Read(p []byte) (int, error) {
	timer := time.AfterFunc(a.conversation.patience, func() { a.cancel(errStalled) })
	n, err := a.body.Read(p)
	timer.Stop()
	a.began = a.began || n > 0
	if a.left -= int64(n); a.left < 0 {
		n, err = 0, errTooLong
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if errors.Is(context.Cause(a.ctx), errStalled) {
			err = errStalled
		}
		a.conversation.fault = err
	}
	return n, err
}

func (a *answer) Close() error {
	a.cancel(nil)
	return a.body.Close()
}
