package action

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// event is one line of a deployment's history.
type event struct {
	ID   int64     `json:"id"`
	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Step string    `json:"step"`
	Text string    `json:"text"`
}

const (
	streamPatience = time.Minute      // without a sign of life, which the server gives every 15 s
	awayPatience   = 10 * time.Minute // for a server that cannot be reached
	silence        = 30 * time.Second // after which the log says that all is well
	tailLines      = 50
)

// errBroken says that a stream ended without a verdict.
var errBroken = errors.New("the stream of events broke off")

// follow shows the deployment's history as it comes, until the verdict. A stream that breaks off is taken up where it was.
func (r *run) follow(ctx context.Context, d deployment) (deployment, error) {
	defer r.out.endGroup()
	var after int64
	seen := time.Now()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		before := after
		ended, err := r.followOnce(ctx, d.ID, &after)
		if err == nil || ctx.Err() != nil {
			return ended, err
		}
		if after > before {
			pause = firstPause
		}
		if errors.Is(err, errBroken) { // it was there, even if it had nothing to say
			seen = time.Now()
		}
		if failed := r.recover(ctx, err); failed != nil && !isPassing(failed) {
			return d, failed
		}
		if time.Since(seen) > r.away {
			return d, &problem{Code: "unreachable", Message: fmt.Sprintf("deployment %d cannot be followed any more: %v", d.ID, err), Hint: "look at " + r.server.page(d)}
		}
		if err := wait(ctx, pause); err != nil {
			return d, err
		}
	}
}

// recover gets another token where the one at hand is not taken any more, and otherwise gives the fault as it is.
func (r *run) recover(ctx context.Context, fault error) error {
	var refused *problem
	if !errors.As(fault, &refused) || refused.passing() || refused.Code != "unauthorised" || r.server.asked == nil {
		return fault
	}
	return r.server.renew(ctx)
}

// isPassing says that a deployment may be followed again: the server or its neighbours are in trouble, which says nothing
// of the deployment.
func isPassing(fault error) bool {
	var refused *problem
	return !errors.As(fault, &refused) || refused.passing()
}

// followOnce reads one stream to its end.
func (r *run) followOnce(ctx context.Context, id int64, after *int64) (d deployment, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {fmt.Sprint(*after)}}
	response, _, err := r.server.send(ctx, http.MethodGet, fmt.Sprintf("/api/v1/deployments/%d/events", id), header, nil)
	if err != nil {
		return d, err
	}
	defer response.Body.Close()
	alive := time.AfterFunc(streamPatience, func() { cancel(errBroken) })
	defer alive.Stop()
	quiet := r.breakSilence(ctx)
	defer quiet.Stop()
	lines := bufio.NewScanner(&touched{response.Body, func() { alive.Reset(streamPatience) }})
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
			var e event
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return d, fmt.Errorf("read event: %w", err)
			}
			*after = e.ID
			quiet.Reset(r.quiet)
			r.show(e)
		}
	}
	return d, errBroken
}

// breakSilence keeps a log from looking as if the step hung.
func (r *run) breakSilence(ctx context.Context) *time.Timer {
	var quiet *time.Timer
	ready := make(chan struct{})
	quiet = time.AfterFunc(r.quiet, func() {
		<-ready
		if ctx.Err() != nil {
			return // the stream has ended at this very moment
		}
		r.out.say("… still at work")
		quiet.Reset(r.quiet)
	})
	close(ready)
	return quiet
}

// touched tells of every sign of life.
type touched struct {
	io.Reader
	alive func()
}

func (t *touched) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if n > 0 {
		t.alive()
	}
	return n, err
}

// groups are the parts of a log that can be folded, by the kind of their lines.
var groups = map[string]string{
	"plan": "Plan", "wait": "Plan", "fetch": "Fetch", "build": "Build", "release": "Release command", "stop": "Start", "hold": "Start",
	"start": "Start", "gate": "Health check", "log": "Container log", "route": "Cutover",
}

// show writes one line of the history. Whoever wrote it, it is only text.
func (r *run) show(e event) {
	if e.Step != "" {
		return // the verdict comes with the times of all steps
	}
	if title := groups[e.Kind]; title != "" {
		r.out.begin(title)
	} else {
		r.out.endGroup()
	}
	line := fmt.Sprintf("%-7s %s", e.Kind, e.Text)
	r.out.say(line)
	if r.tail = append(r.tail, plain(line)); len(r.tail) > tailLines {
		r.tail = r.tail[1:]
	}
}
