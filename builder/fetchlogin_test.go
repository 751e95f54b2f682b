package builder

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	dockerregistry "github.com/docker/docker/api/types/registry"
	"github.com/moby/buildkit/session/auth"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shipgate/shipgate/store"
)

func TestLoginHeader(t *testing.T) {
	login := &registryLogin{host: "ghcr.io", username: "ship", password: "??>>\xff~~"}
	header, err := login.header()
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.URLEncoding.DecodeString(header)
	var sent dockerregistry.AuthConfig
	if err = errors.Join(err, json.Unmarshal(text, &sent)); err != nil || !strings.ContainsAny(header, "-_") {
		t.Fatalf("header %q: %v", header, err)
	}
	if want := (dockerregistry.AuthConfig{Username: "ship", Password: "??>>\ufffd~~", ServerAddress: "ghcr.io"}); sent != want {
		t.Errorf("sent %+v, want %+v", sent, want)
	}
	if header, err := (&registryLogin{host: "ghcr.io"}).header(); header != "" || err != nil {
		t.Errorf("without credentials: %q, %v", header, err)
	}
}

// BuildKit gets the credentials of a host, and of no other.
func TestCredentialsForBuildKit(t *testing.T) {
	locked := errors.New("the store is locked")
	lookup := func(_ context.Context, _, host string) (string, string, bool, error) {
		switch host {
		case "locked.example.com":
			return "", "", false, locked
		case "docker.io", "ghcr.io":
			return "ship", "password of " + host, true, nil
		}
		return "nobody", "nothing", false, nil
	}
	hub := &registryLogin{host: "docker.io", username: "ship", password: "password of docker.io"}
	ghcr := &registryLogin{host: "ghcr.io", username: "ship", password: "password of ghcr.io"}
	all := &registryLogins{login: lookup}
	for _, c := range []struct {
		from auth.AuthServer
		host string
		want string
		err  error
	}{
		{hub, "registry-1.docker.io", "password of docker.io", nil},
		{hub, "docker.io", "password of docker.io", nil},
		{hub, "ghcr.io", "", nil},
		{ghcr, "registry-1.docker.io", "", nil},
		{all, "registry-1.docker.io", "password of docker.io", nil},
		{all, "ghcr.io", "password of ghcr.io", nil},
		{all, "quay.io", "", nil},
		{all, "locked.example.com", "", locked},
	} {
		got, err := c.from.Credentials(t.Context(), &auth.CredentialsRequest{Host: c.host})
		if got.GetSecret() != c.want || (got.GetUsername() == "ship") != (c.want != "") || got.GetUsername() == "nobody" || !errors.Is(err, c.err) {
			t.Errorf("%T for %s: %v, %v, want %q, %v", c.from, c.host, got, err, c.want, c.err)
		}
	}
	b := New(Options{Login: lookup})
	for reference, want := range map[string]string{"nginx": "password of docker.io", "ghcr.io/a/b": "password of ghcr.io", "quay.io/a/b": ""} {
		named, err := parseReference(reference)
		if err != nil {
			t.Fatal(err)
		}
		if login, err := b.loginFor(t.Context(), "app", named); err != nil || login.password != want || login.known() != (want != "") {
			t.Errorf("%s: %+v, %v, want %q", reference, login, err, want)
		}
	}
	named, err := parseReference("locked.example.com/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.loginFor(t.Context(), "app", named); !errors.Is(err, locked) {
		t.Errorf("credentials that cannot be looked up: %v", err)
	}
}

// stream is an answer of the engine that notes its end.
type stream struct {
	io.Reader
	closed bool
}

func (s *stream) Close() error {
	s.closed = true
	return nil
}

func TestShowPull(t *testing.T) {
	for _, c := range []struct {
		said string
		want []string
		err  string
	}{
		{`{"status":"Pulling from a","id":"1"}{"status":"Downloading","progress":"[=>]","id":"x"}{"status":"Digest: d"}`, []string{"1: Pulling from a", "Digest: d"}, ""},
		{`{"status":"one"}{"error":"denied"}{"status":"two"}`, []string{"one"}, "denied"},
		{`{"status":"one"}{"stat`, []string{"one"}, "pull image: unexpected EOF"},
		{``, nil, ""},
	} {
		var got []string
		from := &stream{Reader: strings.NewReader(c.said)}
		err := showPull(from, func(line string) { got = append(got, line) })
		if !slices.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err || !from.closed {
			t.Errorf("%s: %q, %v, closed %v, want %q, %q", c.said, got, err, from.closed, c.want, c.err)
		}
	}
}

func TestCheckPlatform(t *testing.T) {
	l := newEngineLab(t)
	engine, err := l.docker.ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named, err := parseReference("team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		offered []string
		want    string // the platforms that are named; empty: it fits
	}{
		{nil, ""},
		{[]string{engine.Os + "/" + engine.Arch}, ""},
		{[]string{"plan9/mips", engine.Os + "/" + engine.Arch}, ""},
		{[]string{"/"}, ""},
		{[]string{engine.Os + "/"}, ""},
		{[]string{"plan9/" + engine.Arch}, "[plan9/" + engine.Arch + "]"},
		{[]string{engine.Os + "/mips"}, "[" + engine.Os + "/mips]"},
		{[]string{"unknown/unknown"}, ""},
		{[]string{"plan9/x", "plan9/b", "unknown/unknown", "plan9/x"}, "[plan9/b plan9/x]"},
	} {
		var found dockerregistry.DistributionInspect
		for _, platform := range c.offered {
			system, architecture, _ := strings.Cut(platform, "/")
			found.Platforms = append(found.Platforms, ocispec.Platform{OS: system, Architecture: architecture})
		}
		err := l.checkPlatform(t.Context(), named, found)
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.offered, err)
			}
			continue
		}
		want := "image team/app:1 is not for " + engine.Os + "/" + engine.Arch + ", only for " + c.want
		if p := problem(t, err, store.CodeFailed); p.Message != want || !strings.HasPrefix(p.Hint, "docker buildx build --platform ") {
			t.Errorf("%q: %q, hint %q, want %q", c.offered, p.Message, p.Hint, want)
		}
	}
}
