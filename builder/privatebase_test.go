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

// What the engine has by one app's login is not another app's to use, as an image or as a base.
func TestLoginOfOneAppIsNotAnothers(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	digest := r.push(t, "secret:1", 4096, nil)
	s, err := store.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	owner, stranger := l.app, l.app+"-stranger"
	for _, app := range []string{owner, stranger} {
		if _, err := s.CreateApp(t.Context(), store.App{Name: app, Source: "image", Config: []byte(`{"image":"` + r.host + `/secret:1"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	l.Builder.login, l.loginOfOthers = s.RegistryLogin, s.RegistryLoginOfOthers
	if err := s.SetRegistry(t.Context(), owner, r.host, "ship", registryPassword); err != nil {
		t.Fatal(err)
	}
	based := commit{"Dockerfile": "FROM " + r.host + "/secret:1\nENV A=b\n"}
	pinned := commit{"Dockerfile": "FROM " + r.host + "/secret@" + digest + "\nENV A=c\n"}
	uses := func(app string, allowed bool) {
		t.Helper()
		l.app = app
		if _, said, err := l.fetch(t, r.host+"/secret:1"); allowed != (err == nil) {
			t.Errorf("%s fetches it: %v\n%s", app, err, said)
		} else if !allowed && !strings.Contains(problem(t, err, store.CodeFailed).Message, "asks for a login") {
			t.Errorf("%s fetches it: %v", app, err)
		}
		if _, said, err := l.build(t, based, &store.DockerfileConfig{}); allowed != (err == nil) {
			t.Errorf("%s builds on it: %v\n%s", app, err, said)
		}
		if _, said, err := l.build(t, pinned, &store.DockerfileConfig{}); allowed != (err == nil) {
			t.Errorf("%s builds on its digest: %v\n%s", app, err, said)
		}
	}
	uses(owner, true)
	uses(stranger, false)
	if err := s.SetRegistry(t.Context(), "", r.host, "ship", registryPassword); err != nil {
		t.Fatal(err)
	}
	uses(stranger, true)
	l.app = owner
}
