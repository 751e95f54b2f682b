package dockerengine

import (
	"testing"

	"github.com/shipgate/shipgate/deploy/enginetest"
)

func TestEnvReachesTheContainerByteForByte(t *testing.T) {
	l := newLab(t)
	env := enginetest.OddEnv()
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	spec := l.spec(t, lines...)
	l.start(t, spec)
	get(t, spec.Address, "/")
	enginetest.ExpectEnv(t, spec.Address, env, "")
}
