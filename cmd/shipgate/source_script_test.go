package main

import (
	"archive/tar"
	"bytes"
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// registryUser and registryPassword open the registry of a script that asked for a closed one.
const (
	registryUser     = "robot"
	registryPassword = "open-sesame-42"
)

// atRegistry starts a registry on loopback, or puts an image of the test app into it:
//
//	registry start [closed]      sets REGISTRY to its host and port
//	registry push NAME:TAG VERSION
func atRegistry(ts *testscript.TestScript, _ bool, args []string) {
	switch args[0] {
	case "start":
		server := newRegistry(len(args) > 1 && args[1] == "closed")
		ts.Defer(server.Close)
		ts.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
	case "push":
		ts.Check(pushTestapp(ts.Getenv("REGISTRY")+"/"+args[1], filepath.Join(serverOf(ts).bin, "testapp"), args[2]))
	default:
		ts.Fatalf("usage: registry start|push")
	}
}

// startRegistry starts a registry that is open to all.
func startRegistry(t *testing.T) (host string) {
	server := newRegistry(false)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func newRegistry(closed bool) *httptest.Server {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if closed {
		handler = withLogin(handler)
	}
	return httptest.NewServer(handler)
}

func pushTestapp(reference, binary, version string) error {
	image, err := testappImage(binary, version)
	if err != nil {
		return err
	}
	parsed, err := name.ParseReference(reference, name.Insecure)
	if err != nil {
		return err
	}
	login := authn.FromConfig(authn.AuthConfig{Username: registryUser, Password: registryPassword})
	return remote.Write(parsed, image, remote.WithAuth(login))
}

func withLogin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != registryUser || subtle.ConstantTimeCompare([]byte(password), []byte(registryPassword)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// testappImage makes an image of the test app that says which version it is.
func testappImage(binary, version string) (v1.Image, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	if err := files.WriteHeader(&tar.Header{Name: "testapp", Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := files.Write(content); err != nil {
		return nil, err
	}
	if err := files.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", RootFS: must(image.ConfigFile()).RootFS,
		Config: v1.Config{
			Entrypoint: []string{"/testapp"}, Env: []string{"APP_VERSION=" + version}, ExposedPorts: map[string]struct{}{"8080/tcp": {}},
		},
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// importBase makes a base image that scripts can build on: base busybox NAME, or base deno NAME. It carries a
// label of the server, so that it goes with what the script made.
func importBase(ts *testscript.TestScript, _ bool, args []string) {
	label := "LABEL shipgate-test=" + serverID(serverOf(ts).dir)
	switch args[0] {
	case "busybox":
		ts.Check(importBusybox(args[1], label))
	case "deno":
		ts.Check(importDeno(args[1], label))
	default:
		ts.Fatalf("usage: base busybox|deno NAME")
	}
}

func importBusybox(image, label string) error {
	script := `d=$(mktemp -d) && mkdir "$d/bin" "$d/tmp" && cp /bin/busybox "$d/bin/" && for c in sh cat cp mkdir echo ls sleep wc date; do ln -s busybox "$d/bin/$c"; done
		tar -C "$d" -c . | docker import --change "$2" --change 'ENV PATH=/bin' - "$1" && rm -r "$d"`
	return runShell(script, image, label)
}

// importDeno puts the real Deno and the libraries it needs into an image.
func importDeno(image, label string) error {
	script := `deno=$(../../scripts/deno.sh) || exit 1
		d=$(mktemp -d) && mkdir -p "$d/usr/bin" "$d/tmp" "$d/etc" && cp "$deno" "$d/usr/bin/deno" && chmod 755 "$d/usr/bin/deno" && chmod 1777 "$d/tmp"
		for l in $(ldd "$deno" | grep -o '/[^ ]*'); do mkdir -p "$d$(dirname "$l")" && cp -L "$l" "$d$l"; done
		tar -C "$d" -c . | docker import --change "$2" --change 'ENV PATH=/usr/bin' - "$1" && rm -r "$d"`
	return runShell(script, image, label)
}

func runShell(script string, args ...string) error {
	if output, err := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// composePlugin tells a server where the plugin is that was built for the tests, if it was.
var composePlugin = sync.OnceValue(func() []string {
	output, err := exec.Command("../../scripts/compose.sh").Output()
	if err != nil {
		return nil
	}
	return []string{"SHIPGATE_COMPOSE=" + strings.TrimSpace(string(output))}
})

// hasTool tells scripts which of the tools that are not on every machine are there.
func hasTool(t *testing.T, script string) bool {
	t.Helper()
	output, err := exec.Command("../../scripts/" + script).CombinedOutput()
	if err != nil {
		t.Logf("NOT HERE: scripts/%s: %v\n%s", script, err, output)
	}
	return err == nil
}
