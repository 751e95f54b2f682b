package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/docker/docker/client"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shipgate/shipgate/store"
)

const killed = 137 // exit status of a process that SIGKILL ended

// explain turns what the build ended with into what its reader can act on.
func (i *imageBuild) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if refused := i.context.refused.Load(); refused != nil {
		return refused
	}
	if i.fault != nil {
		err = i.fault
	}
	if problem, ok := store.AsProblem(err); ok {
		return problem
	}
	if problem := i.engineTrouble(err); problem != nil {
		return problem
	}
	at, line := i.place(err)
	var missing missingImage
	if errors.As(err, &missing) {
		return store.Problemf(store.CodeFailed, "%simage %s is neither local nor pullable", at, missing.ref).
			WithHint("docker pull %s", missing.ref)
	}
	return i.userFault(at, line, err)
}

// engineTrouble gives the Problem when the build ended on our side, else nil.
func (b *Builder) engineTrouble(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "no space left on device"):
		return store.Problemf(store.CodeErrored, "the disk of the Docker engine is full").
			WithHint("docker builder prune")
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

// place gives "Dockerfile:7: " and the line it stands for, both empty when BuildKit does not know.
func (i *imageBuild) place(err error) (at, line string) {
	name, number, data := "", 0, ""
	if sources := errdefs.Sources(err); len(sources) > 0 && len(sources[0].Ranges) > 0 {
		source := sources[0]
		name, number, data = source.Info.GetFilename(), int(source.Ranges[0].GetStart().GetLine()), string(source.Info.GetData())
	}
	var located *parser.LocationError
	if number == 0 && errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
		name, number = i.dockerfile, located.Locations[0][0].Start.Line
	}
	if number == 0 {
		return "", ""
	}
	if lines := strings.Split(data, "\n"); number <= len(lines) {
		line = strings.TrimSpace(lines[number-1])
	}
	return fmt.Sprintf("%s:%d: ", path.Join(i.config.Context, name), number), line
}

var (
	exitCode = regexp.MustCompile(`exit code: (\d+)`)
	notFound = regexp.MustCompile(`"?(/[^":]*)"?: not found|lstat [^:]*(/[^:/]+): no such file or directory`)
	// preamble is what BuildKit's layers put in front of the sentence that matters.
	preamble = regexp.MustCompile(`^(rpc error: code = \w+ desc = |failed to solve( with frontend [\w.]+)?: |failed to build LLB: |dockerfile parse error( on line \d+)?: |failed to compute cache key: |failed to calculate checksum of ref [^:]+: )`)
)

// userFault is an error of the Dockerfile or of a step of it.
func (i *imageBuild) userFault(at, line string, err error) error {
	text := err.Error()
	if code := exitCode.FindStringSubmatch(text); code != nil {
		if code[1] == fmt.Sprint(killed) {
			return store.Problemf(store.CodeFailed, "%s%s was killed, most likely for want of memory (%s)", at, shorten(line), i.limit).
				WithHint("give the build more memory, or let it use less")
		}
		return store.Problemf(store.CodeFailed, "%s%s: exit code %s", at, shorten(line), code[1]).
			WithHint("shipgate show %d", i.request.Deployment)
	}
	if missing := notFound.FindStringSubmatch(text); missing != nil {
		return store.Problemf(store.CodeFailed, "%s%s is not in the build context", at, strings.TrimPrefix(missing[1]+missing[2], "/")).
			WithHint("git add it, and see that .dockerignore does not leave it out")
	}
	sentence, _, _ := strings.Cut(text, "\n")
	for preamble.MatchString(sentence) {
		sentence = preamble.ReplaceAllString(sentence, "")
	}
	return store.Problemf(store.CodeFailed, "%s%s", at, shorten(sentence)).
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
