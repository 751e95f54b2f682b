package dockerengine

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// explain is where every engine error goes through: an engine that is not there becomes a Problem, others are wrapped
// with what was tried.
func (e *Engine) explain(attempt string, err error) error {
	switch {
	case err == nil:
		return nil
	case !client.IsErrConnectionFailed(err):
		return fmt.Errorf("%s: %w", attempt, said{err})
	case errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
		return store.Problemf(store.CodeErrored, "the Docker engine at %s does not let this user in: %w", e.docker.DaemonHost(), err).
			WithHint("sudo usermod --append --groups docker $USER")
	default:
		return store.Problemf(store.CodeErrored, "the Docker engine does not answer: %w", err).
			WithHint("sudo systemctl start docker")
	}
}

// said is an engine error in the engine's own words, without the client's preamble.
type said struct{ cause error }

func (s said) Error() string {
	return strings.TrimPrefix(s.cause.Error(), "Error response from daemon: ")
}
func (s said) Unwrap() error { return s.cause }
