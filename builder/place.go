package builder

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/shipgate/shipgate/store"
)

// place is a line of a Dockerfile; the zero place is unknown.
type place struct {
	file string
	line int
	text string
}

// String gives "Dockerfile:7: ", or nothing when the place is not known.
func (p place) String() string {
	if p.line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", p.file, p.line)
}

// places knows which line each step of a build comes from, and which step failed: an old engine names neither.
type places struct {
	mu     sync.Mutex
	steps  map[string]place // by the digest of the step
	failed place
}

func (p *places) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps, p.failed = map[string]place{}, place{}
}

// note learns the lines of a definition's steps.
func (p *places) note(definition *pb.Definition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	infos := definition.GetSource().GetInfos()
	for digest, locations := range definition.GetSource().GetLocations() {
		for _, location := range locations.GetLocations() {
			if at := int(location.GetSourceIndex()); at < len(infos) {
				p.steps[digest] = placeOf(infos[at], location.GetRanges())
				break
			}
		}
	}
}

// follow notices the first step that fails.
func (p *places) follow(status *buildkit.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, vertex := range status.Vertexes {
		if vertex.Error == "" || strings.HasSuffix(vertex.Error, "context canceled") || p.failed.line != 0 {
			continue
		}
		p.failed = p.steps[vertex.Digest.String()]
	}
}

// fail records which step is to blame. A source has no line of its own: it gets that of the first step which uses it.
func (p *places) fail(definition *pb.Definition, step digest.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = p.steps[step.String()]
	for _, marshalled := range definition.GetDef() {
		if p.failed.line != 0 {
			return
		}
		var user pb.Op
		if err := user.UnmarshalVT(marshalled); err != nil {
			return
		}
		uses := func(input *pb.Input) bool { return input.GetDigest() == step.String() }
		if slices.ContainsFunc(user.GetInputs(), uses) {
			p.failed = p.steps[digest.FromBytes(marshalled).String()]
		}
	}
}

// failAt records the line to blame where no step is known.
func (p *places) failAt(line place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = line
}

func placeOf(info *pb.SourceInfo, ranges []*pb.Range) place {
	if len(ranges) == 0 {
		return place{}
	}
	found := place{file: info.GetFilename(), line: int(ranges[0].GetStart().GetLine())}
	if lines := strings.Split(string(info.GetData()), "\n"); found.line > 0 && found.line <= len(lines) {
		found.text = strings.TrimSpace(lines[found.line-1])
	}
	return found
}

// place finds the line that an error is about.
func (i *imageBuild) place(err error) place {
	var found place
	var located *parser.LocationError
	sources := errdefs.Sources(err)
	switch {
	case len(sources) > 0:
		found = placeOf(sources[0].Info, sources[0].Ranges)
	case errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0:
		found = place{file: i.dockerfile, line: located.Locations[0][0].Start.Line}
	}
	if found.line == 0 {
		i.places.mu.Lock()
		found = i.places.failed
		i.places.mu.Unlock()
	}
	found.file = path.Join(i.recipe.context, found.file)
	return found
}

// located puts the line in front of a Problem that was met while a step was looked at.
func (i *imageBuild) located(problem *store.Problem, err error) *store.Problem {
	found := *problem
	found.Message = i.place(err).String() + problem.Message
	return &found
}
