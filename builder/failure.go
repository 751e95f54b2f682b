package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/docker/docker/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shipgate/shipgate/store"
)

const killed = "137" // exit status of a process that SIGKILL ended

// explain turns what the build ended with into what its reader can act on.
func (i *imageBuild) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ours := (stopped{}); errors.As(err, &ours) {
		return ours.error
	}
	if problem, ok := store.AsProblem(err); ok {
		return i.located(problem, err)
	}
	if problem := i.engineTrouble(err); problem != nil {
		return problem
	}
	at := i.place(err)
	if i.recipe.explain != nil {
		if explained := i.recipe.explain(at, err); explained != nil {
			return explained
		}
		at = place{text: cmp.Or(i.recipe.step, at.text)}
	}
	var missing missingImage
	if errors.As(err, &missing) {
		return store.Problemf(store.CodeFailed, "%simage %s is neither local nor pullable", at, missing.name()).
			WithHint("docker pull %s", missing.name())
	}
	return i.userFault(at, err)
}

// engineTrouble gives the Problem when the build ended on our side, else nil.
func (b *Builder) engineTrouble(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "no space left on device"):
		return store.Problemf(store.CodeErrored, "the disk of the Docker engine is full").
			WithHint("shipgate gc # and where that frees too little: docker builder prune")
	case status.Code(rootStatus(err)) == codes.Unavailable, client.IsErrConnectionFailed(err), strings.Contains(text, "error reading from server: EOF"):
		return b.engineProblem("build", err)
	}
	return nil
}

// rootStatus finds the gRPC status inside an error.
func rootStatus(err error) error {
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) {
		return carrier.GRPCStatus().Err()
	}
	return nil
}

func (b *Builder) engineProblem(attempt string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", attempt, err)
	case errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
		return store.Problemf(store.CodeErrored, "the Docker engine at %s does not let this user in: %w", b.docker.DaemonHost(), err).
			WithHint("sudo usermod --append --groups docker $USER")
	case client.IsErrConnectionFailed(err), status.Code(rootStatus(err)) == codes.Unavailable, strings.Contains(err.Error(), "EOF"):
		return store.Problemf(store.CodeErrored, "the Docker engine does not answer at %s", b.docker.DaemonHost()).
			WithHint("sudo systemctl start docker")
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

var (
	exitCode      = regexp.MustCompile(`exit code: (\d+)`)
	missingPath   = regexp.MustCompile(`"/?([^"]+)":? not found|lstat .*?/([^/:]+): no such file or directory`)
	missingSecret = regexp.MustCompile(`secret (\S+): not found|secret (\S+) not found`)
	// preamble is what BuildKit's layers put in front of the sentence that matters.
	preamble = regexp.MustCompile(`^(rpc error: code = \w+ desc = |failed to solve( with frontend [\w.]+)?: |failed to build LLB: |failed to read dockerfile: |dockerfile parse error( on line \d+)?: |failed to compute cache key: |failed to calculate checksum of ref [^:]+: )`)
)

// userFault is an error of the Dockerfile or of one of its steps.
func (i *imageBuild) userFault(at place, err error) *store.Problem {
	text := err.Error()
	if code := exitCode.FindStringSubmatch(text); code != nil {
		return i.stepFault(at, code[1], text)
	}
	if missing := missingSecret.FindStringSubmatch(text); missing != nil {
		return store.Problemf(store.CodeFailed, "%sthe app's build_secrets do not name %s", at, missing[1]+missing[2]).
			WithHint(`add it to "build_secrets": shipgate app update %s --config-json FILE`, i.request.App)
	}
	if missing := missingPath.FindStringSubmatch(text); missing != nil {
		return store.Problemf(store.CodeFailed, "%s%s is not in the build context", at, missing[1]+missing[2]).
			WithHint("git add it, and see that .dockerignore does not leave it out")
	}
	sentence, _, _ := strings.Cut(text, "\n")
	for preamble.MatchString(sentence) {
		sentence = preamble.ReplaceAllString(sentence, "")
	}
	return store.Problemf(store.CodeFailed, "%s%s", at, shorten(sentence)).
		WithHint("shipgate show %d", i.request.Deployment)
}

// stepFault is a RUN that ended with an exit status.
func (i *imageBuild) stepFault(at place, code, text string) *store.Problem {
	step := shorten(at.text)
	if step == "" {
		step = "a step of the build"
	}
	if code == killed || strings.Contains(text, "cannot allocate memory") {
		return store.Problemf(store.CodeFailed, "%s%s was killed (exit code %s), most likely for want of memory; %s", at, step, code, i.limit).
			WithHint("free -m # then build with less at once, or on a host with more memory")
	}
	return store.Problemf(store.CodeFailed, "%s%s: exit code %s", at, step, code).
		WithHint("shipgate show %d", i.request.Deployment)
}

// shorten keeps a message fit for one line of a push report.
func shorten(text string) string {
	const fits = 120
	if runes := []rune(text); len(runes) > fits {
		return string(runes[:fits]) + "…"
	}
	return text
}

// vanished says that the engine counted on an image or layer that was removed while it built.
func vanished(err error) bool {
	if err == nil {
		return false
	}
	for _, sign := range []string{"layer does not exist", "failed to get layer", "unable to find image", "missing parent"} {
		if strings.Contains(err.Error(), sign) {
			return true
		}
	}
	return contentGone.MatchString(err.Error())
}

var contentGone = regexp.MustCompile(`content digest sha256:[0-9a-f]{64}: not found`)
