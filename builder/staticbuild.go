package builder

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/shipgate/shipgate/store"
)

const (
	buildRoot     = "/src" // where the commit is in the build
	shownOfOutput = 3      // last lines of a command that failed
)

var (
	defaultCaches = []string{"/root/.npm", "/root/.cache"}
	// mountPath has nothing that a Dockerfile's --mount would take for its own.
	mountPath = regexp.MustCompile(`^[A-Za-z0-9_./@+~-]+$`)
)

// runStaticBuild runs the app's build command over the commit and puts its result into the output. No image is made.
func (b *Builder) runStaticBuild(ctx context.Context, request store.BuildRequest, config *store.StaticBuild, snapshot Snapshot, output *output, log func(string)) error {
	text, err := staticDockerfile(config)
	if err != nil {
		return err
	}
	var last tail
	_, err = b.build(ctx, request, recipe{
		text: text, whole: true, portless: true, files: output.dir,
		step:    "build.command " + config.Command,
		explain: func(at place, err error) error { return explainStatic(request, config, &last, at, err) },
	}, snapshot, func(line string) {
		last.note(line)
		log(line)
	})
	return err
}

// staticDockerfile runs the command over the whole commit.
func staticDockerfile(config *store.StaticBuild) (string, error) {
	output := path.Clean(config.Output)
	if strings.ContainsAny(output, "*?[]$\\") {
		return "", store.Problemf(store.CodeFailed, "build.output %s is a pattern, and not the name of a directory", output).
			WithHint("let the command gather its files in one directory")
	}
	var mounts strings.Builder
	caches := config.Cache
	if len(caches) == 0 {
		caches = defaultCaches
	}
	for _, directory := range caches {
		if !mountPath.MatchString(directory) {
			return "", store.Problemf(store.CodeFailed, "build.cache %s has characters that a cache's path cannot have", directory).
				WithHint("use letters, digits and / . _ @ + ~ -")
		}
		if path.Clean(directory) != directory || directory == ".." || strings.HasPrefix(directory, "../") {
			return "", store.Problemf(store.CodeFailed, "build.cache %s is not a plain path", directory).WithHint("write %s", path.Clean("/"+directory))
		}
		fmt.Fprintf(&mounts, "--mount=type=cache,target=%s ", directory) // its id is set for the app, as for every build
	}
	return fmt.Sprintf(`FROM %s AS build
USER 0:0
WORKDIR %s
COPY . .
RUN %s%s
RUN %s
FROM scratch
COPY --from=build --chmod=755 %s
`, config.Image, buildRoot, &mounts, words("/bin/sh", "-c", config.Command), words("/bin/sh", "-c", `cd "$0"`, path.Join(buildRoot, output)),
		words(path.Join(buildRoot, output)+"/", "/")), nil
}

// The steps of the Dockerfile above that can be to blame.
const (
	commandLine = 5
	outputLine  = 6
)

// words writes a command as a Dockerfile takes it without a shell.
func words(list ...string) string {
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(list) // strings can always be encoded
	return strings.TrimSpace(written.String())
}

// explainStatic says what went wrong in terms of the app's config: its reader has never seen the Dockerfile.
func explainStatic(request store.BuildRequest, config *store.StaticBuild, last *tail, at place, err error) error {
	codes := exitCode.FindAllStringSubmatch(err.Error(), -1)
	if len(codes) == 0 {
		return nil
	}
	code := codes[len(codes)-1][1]
	switch {
	case at.line == outputLine:
		return store.Problemf(store.CodeFailed, "build.output %s is not a directory after the build", path.Clean(config.Output)).
			WithHint("see where %s puts its files, and correct \"output\": shipgate app update %s --config-json FILE", shorten(config.Command), request.App)
	case at.line == commandLine && code != killed:
		return store.Problemf(store.CodeFailed, "build.command %s: exit code %s%s", shorten(config.Command), code, last).
			WithHint("shipgate show %d", request.Deployment)
	}
	return nil
}

// tail keeps the last lines that a step wrote.
type tail struct{ lines []string }

// stepOutput is a line of a step in BuildKit's plain progress: the step's number, its time and the text.
var stepOutput = regexp.MustCompile(`^#\d+ \d+\.\d+ (.*\S.*)$`)

func (t *tail) note(line string) {
	found := stepOutput.FindStringSubmatch(line)
	if found == nil {
		return
	}
	t.lines = append(t.lines, strings.TrimSpace(found[1]))
	t.lines = t.lines[max(0, len(t.lines)-shownOfOutput):]
}

// String gives the lines in one, ready to follow a message.
func (t *tail) String() string {
	var all string
	for _, line := range t.lines {
		all += cmp.Or(strings.Repeat(" | ", min(1, len(all))), ": ") + shorten(line)
	}
	return all
}
