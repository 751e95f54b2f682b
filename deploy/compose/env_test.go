package compose

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/deploy/enginetest"
)

// The app's env reaches a service byte for byte: by its name alone, and as a variable in the compose file.
func TestEnvReachesTheServiceByteForByte(t *testing.T) {
	l := newLab(t)
	env := enginetest.OddEnv()
	var names strings.Builder
	for name := range env {
		fmt.Fprintf(&names, "      %s:\n      COPY_%s: '${%s}'\n", name, name, name)
	}
	file := "services:\n  web:\n    image: x\n    environment:\n      PORT: '8080'\n" + names.String()
	spec := l.spec(t, l.app(), 1, files{"compose.yaml": file}, env)
	l.up(t, spec)
	get(t, spec.Address, "/")
	enginetest.ExpectEnv(t, spec.Address, env, "")
	enginetest.ExpectEnv(t, spec.Address, env, "COPY_")
}
