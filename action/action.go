// Package action is the program of the GitHub Action, which knows only the HTTP API: trigger, follow, outputs, summary, cancel.
package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Exit codes, the same as those of the command line.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitUnauthorised = 3
	exitUnreachable  = 4
	exitErrored      = 5
	exitCancelled    = 130
)

// Options are what a run of the Action is made with.
type Options struct {
	Getenv func(name string) string
	Stdout io.Writer
	Client *http.Client // nil: one of ours

	away    time.Duration // how long a server that is followed may be out of reach; 0: awayPatience
	silence time.Duration // after which a quiet log says that all is well; 0: silence
}

// run is one step of a workflow.
type run struct {
	inputs inputs
	place  place
	out    *commands
	server *server
	asked  map[string]any // of the server; nil: nothing yet
	away   time.Duration
	quiet  time.Duration
	tail   []string // the last lines, for the summary
}

// Run does what the inputs in the environment ask for and gives the exit code. A ctx that ends, as by a signal, cancels the
// deployment or lets it go on, as the inputs say, and Run returns within 6 s.
func Run(ctx context.Context, options Options) int {
	r := &run{out: newCommands(options.Stdout, options.Getenv), away: cmp.Or(options.away, awayPatience), quiet: cmp.Or(options.silence, silence)}
	err := r.prepare(options)
	if err == nil {
		err = r.work(ctx)
	}
	return r.conclude(err)
}

func (r *run) prepare(options Options) (err error) {
	if r.inputs, err = readInputs(options.Getenv); err != nil {
		return err
	}
	if r.inputs.inTheClear() {
		r.out.command("warning", " title=shipgate", "the token goes to "+r.inputs.server+" without encryption: give the server an https address")
	}
	r.place = readPlace(options.Getenv)
	r.server = newServer(options.Client, r.inputs, r.place, r.out)
	return nil
}

// work does it within the time that the inputs give.
func (r *run) work(interrupted context.Context) error {
	ctx, cancel := context.WithTimeoutCause(interrupted, r.inputs.timeout, errTimeout)
	defer cancel()
	var d deployment
	err := r.server.authenticate(ctx)
	if err == nil && r.inputs.dryRun {
		err = r.showPlan(ctx)
	} else if err == nil {
		d, err = r.deploy(ctx)
	}
	if d.ID != 0 {
		err = errors.Join(err, r.record(d))
	}
	switch {
	case err != nil && interrupted.Err() != nil:
		return r.interrupted(interrupted, d)
	case err != nil && errors.Is(context.Cause(ctx), errTimeout):
		return &problem{Code: "unreachable", Message: fmt.Sprintf("there is no verdict after %s; what was begun goes on", r.inputs.timeout),
			Hint: "look at " + r.server.page(d) + ", or give the input timeout more"}
	case err != nil || r.inputs.dryRun:
		return err
	}
	return r.end(d)
}

// deploy asks for the deployment and follows it to its verdict, unless nobody wants to wait.
func (r *run) deploy(ctx context.Context) (deployment, error) {
	d, err := r.trigger(ctx)
	if err != nil {
		return d, err
	}
	r.out.notice("Deployment", fmt.Sprintf("%s is deployed as %d: %s", d.App, d.ID, r.server.page(d)))
	if !r.inputs.wait {
		return d, nil
	}
	ended, err := r.follow(ctx, d)
	if err != nil {
		return d, err
	}
	return ended, nil
}

// conclude says what went wrong, with what to do about it, and gives the exit code.
func (r *run) conclude(err error) int {
	var failure *problem
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &failure):
		r.out.fail(failure)
		return failure.exit()
	}
	r.out.fail(&problem{Code: "errored", Message: err.Error(), Hint: "see the server's log"})
	return exitErrored
}

// problem is an error that users see, as the server gives it. The code decides the exit status.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`

	file string // of the repository, for a fault that has a place
	line int

	// foreign says that something else than the server may have answered, or a server in trouble: it means nothing for the
	// deployment.
	foreign bool
}

// passing says that another try may fare better.
func (p *problem) passing() bool { return p.foreign || p.Code == "unreachable" }

func (p *problem) Error() string { return p.Message }

func (p *problem) exit() int {
	switch p.Code {
	case "failed", "superseded":
		return exitFailed
	case "usage", "not_found", "conflict":
		return exitUsage
	case "unauthorised":
		return exitUnauthorised
	case "unreachable":
		return exitUnreachable
	case "cancelled":
		return exitCancelled
	}
	return exitErrored
}

func usage(hint, format string, args ...any) *problem {
	return &problem{Code: "usage", Message: fmt.Sprintf(format, args...), Hint: hint}
}
