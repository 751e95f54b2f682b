package builder

import (
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestPrivateBaseImage(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	r.push(t, "base:1", 4096, nil)
	files := commit{"Dockerfile": "FROM " + r.host + "/base:1\nENV A=b\n"}
	if _, _, err := l.build(t, files, &store.DockerfileConfig{}); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("without a login: %v", err)
	}
	l.loginTo("elsewhere.invalid", registryPassword)
	if _, _, err := l.build(t, files, &store.DockerfileConfig{}); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("with another registry's password: %v", err)
	}
	l.loginTo(r.host, registryPassword)
	got, said, err := l.build(t, files, &store.DockerfileConfig{})
	if err != nil || got.Port != 8080 || strings.Contains(said, registryPassword) {
		t.Errorf("with the password: %+v, %v\n%s", got, err, said)
	}
}
