package compose

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

const busyTries = 4

// unlessBusy does something again while the engine is still at work on what a plugin asked for that was ended.
func unlessBusy(ctx context.Context, said *tail, do func() error) error {
	for try := 1; ; try++ {
		said.lines = nil
		err := do()
		if err == nil || try == busyTries || !slices.ContainsFunc(said.lines, busy) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * time.Second):
		}
	}
}

// busy knows the engine's words for a name or a container that is about to be free, or went between two looks at it.
func busy(line string) bool {
	return strings.Contains(line, "is already in use by container") || strings.Contains(line, "is already in progress") ||
		strings.Contains(line, "is marked for removal") || strings.Contains(line, "No such container")
}

func lastOf(said []string, err error) string {
	for _, line := range slices.Backward(said) {
		if strings.TrimSpace(line) != "" {
			return strings.TrimSpace(line)
		}
	}
	return err.Error()
}

// errDoubleNetwork says that two networks of the stack have one name.
var errDoubleNetwork = store.Problemf(store.CodeErrored, "a network of the stack is there twice").
	WithHint("docker network ls, and docker network rm of the one without containers")

// errLateContainer says that the routed service has a container that an ended plugin had asked for, and that came to be when the
// next plugin was at work: Compose takes it as it is, under a name that it was to lose at the end.
var errLateContainer = store.Problemf(store.CodeErrored, "the routed container of the stack was left half-made").WithHint("docker ps --all")

// errLastRunLeft says that containerd still has a run of a container that the engine takes for ended: it cannot be started again.
var errLastRunLeft = store.Problemf(store.CodeErrored, "containers of the stack cannot be started again: containerd still has their last run").
	WithHint("sudo systemctl restart docker")

var lastRunLeft = regexp.MustCompile(`task [0-9a-f]{64}: already exists|id already in use`)

// engineProblem knows what is not the stack's fault by the engine's and the plugin's words, nil for anything else.
func engineProblem(said []string) error {
	text := strings.Join(said, "\n")
	switch {
	case strings.Contains(text, "is ambiguous (") && strings.Contains(text, "matches found on name"):
		return errDoubleNetwork
	case lastRunLeft.MatchString(text):
		return errLastRunLeft
	case strings.Contains(text, "Cannot connect to the Docker daemon"), strings.Contains(text, "error during connect"):
		return store.Problemf(store.CodeErrored, "the Docker engine does not answer").WithHint("sudo systemctl start docker")
	case strings.Contains(text, "no space left on device"):
		return store.Problemf(store.CodeErrored, "the disk of the Docker engine is full").WithHint("docker system df")
	case strings.Contains(text, "ddress already in use"), strings.Contains(text, "port is already allocated"), strings.Contains(text, "is already in use by container"):
		return store.Problemf(store.CodeErrored, "a name, address or port of the stack is taken: %s", lastOf(said, nil)).WithHint("docker ps --all")
	case strings.Contains(text, "No such image"):
		return store.Problemf(store.CodeErrored, "an image of the stack is gone: %s", lastOf(said, nil)).WithHint("docker image ls")
	}
	return nil
}
