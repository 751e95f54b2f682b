package builder

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestBuildScratchImage(t *testing.T) {
	l := newEngineLab(t)
	artefact, log, err := l.build(t, commit{
		"Dockerfile": "FROM scratch\nCOPY hello.txt /hello.txt\nEXPOSE 8080\n",
		"hello.txt":  "hello",
	}, &store.DockerfileConfig{})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Log(log, artefact)
	if artefact.Port != 8080 || !strings.HasPrefix(artefact.Image, "sha256:") {
		t.Errorf("artefact is %+v", artefact)
	}
	if got := l.read(t, artefact.Image, "hello.txt"); got != "hello" {
		t.Errorf("hello.txt is %q", got)
	}
}
