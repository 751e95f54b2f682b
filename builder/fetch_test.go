package builder

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/shipgate/shipgate/store"
)

const registryPassword = "correct-horse-battery"

// testRegistry is a registry on loopback.
type testRegistry struct {
	host    string
	private bool
	down    atomic.Bool
	// blob, when set, answers requests for layers in the registry's place.
	blob atomic.Pointer[http.HandlerFunc]
}

func newRegistry(t *testing.T, private bool) *testRegistry {
	t.Helper()
	r := &testRegistry{private: private}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		user, password, _ := request.BasicAuth()
		if private && (user != "ship" || password != registryPassword) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		if blob := r.blob.Load(); blob != nil && request.Method == http.MethodGet && strings.Contains(request.URL.Path, "/blobs/") {
			(*blob)(w, request)
			return
		}
		inner.ServeHTTP(w, request)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // the engine may hold some for a while
		server.Close()
	})
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// push gives the registry an image of one random layer and gives its digest.
func (r *testRegistry) push(t *testing.T, reference string, size int64, change func(*v1.ConfigFile)) string {
	t.Helper()
	made, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.ExposedPorts = map[string]struct{}{"8080/tcp": {}}
	if change != nil {
		change(config)
	}
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(r.host + "/" + reference)
	if err != nil {
		t.Fatal(err)
	}
	login := remote.WithAuth(&authn.Basic{Username: "ship", Password: registryPassword})
	if err := remote.Write(to, made, login); err != nil {
		t.Fatal(err)
	}
	digest, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// loginTo has the lab know one password, for one registry.
func (l *lab) loginTo(host, password string) {
	l.Builder.login = func(_ context.Context, _, asked string) (string, string, bool, error) {
		return "ship", password, asked == host, nil
	}
}

func (l *lab) fetch(t *testing.T, reference string) (store.Artefact, string, error) {
	t.Helper()
	artefact, said, err := l.build(t, nothing{}, &store.ImageConfig{Image: reference})
	if strings.Contains(said, registryPassword) || err != nil && strings.Contains(err.Error(), registryPassword) {
		t.Errorf("the password is shown: %s\n%v", said, err)
	}
	return artefact, said, err
}

func TestFetch(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	first := r.push(t, "team/app:1", 4096, nil)
	got, said, err := l.fetch(t, r.host+"/team/app:1")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if got.Digest != r.host+"/team/app@"+first || got.Port != 8080 || got.ImageTag != l.repository(l.app)+":1" {
		t.Errorf("fetched %+v", got)
	}
	inspected, err := l.docker.ImageInspect(t.Context(), got.ImageTag)
	if err != nil {
		t.Fatal(err)
	}
	if labels := inspected.Config.Labels; inspected.ID != got.Image || labels[store.LabelData] != l.serverID || labels[store.LabelApp] != l.app || labels[store.LabelDeployment] != "1" {
		t.Errorf("image %s has labels %v", inspected.ID, labels)
	}
	if !strings.Contains(said, first) || !strings.Contains(said, "FROM "+r.host) {
		t.Errorf("the log does not tell what is fetched:\n%s", said)
	}
	second := r.push(t, "team/app:1", 4096, nil)
	moved, said, err := l.fetch(t, r.host+"/team/app:1")
	if err != nil || moved.Digest != r.host+"/team/app@"+second || moved.Image == got.Image {
		t.Errorf("after the tag moved: %+v, %v\n%s", moved, err, said)
	}
	pinned, said, err := l.fetch(t, r.host+"/team/app@"+first)
	if err != nil || pinned.Digest != got.Digest {
		t.Errorf("by digest: %+v, %v\n%s", pinned, err, said)
	}
	if pinned, said, err = l.fetch(t, r.host+"/team/app:1@"+first); err != nil || pinned.Digest != got.Digest {
		t.Errorf("by tag and digest: %+v, %v\n%s", pinned, err, said)
	}
}

func TestFetchOfTheSameDigestIsCached(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	r.push(t, "app:1", 4096, nil)
	if _, said, err := l.fetch(t, r.host+"/app:1"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var asked atomic.Int64
	count := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "the layer is to be cached", http.StatusGone)
	})
	r.blob.Store(&count)
	if _, said, err := l.fetch(t, r.host+"/app:1"); err != nil {
		t.Errorf("%v (%d requests)\n%s", err, asked.Load(), said)
	}
}

func TestRequestedImageWinsOverTheConfig(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	digest := r.push(t, "app:2", 1024, func(config *v1.ConfigFile) { config.Config.ExposedPorts = nil })
	request := store.BuildRequest{App: l.app, Deployment: 1, Image: r.host + "/app:2",
		Config: &store.ImageConfig{Image: r.host + "/missing:1", SharedConfig: store.SharedConfig{Port: 9000}}}
	got, err := l.Build(t.Context(), request, func(string) {})
	if err != nil || got.Digest != r.host+"/app@"+digest || got.Port != 9000 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFetchFromPrivateRegistry(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	digest := r.push(t, "app:1", 4096, nil)
	_, _, err := l.fetch(t, r.host+"/app:1")
	if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "asks for a login") || p.Hint != "shipgate registry login "+r.host+" --username NAME" {
		t.Errorf("without a login: %q, hint %q", p.Message, p.Hint)
	}
	l.loginTo(r.host, "wrong-"+registryPassword)
	_, _, err = l.fetch(t, r.host+"/app:1")
	if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "does not let user ship") || !strings.HasPrefix(p.Hint, "shipgate registry login ") {
		t.Errorf("with a wrong password: %q, hint %q", p.Message, p.Hint)
	}
	l.loginTo("elsewhere.invalid", registryPassword)
	if _, _, err = l.fetch(t, r.host+"/app:1"); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("with another registry's password: %v", err)
	}
	l.loginTo(r.host, registryPassword)
	got, said, err := l.fetch(t, r.host+"/app:1")
	if err != nil || got.Digest != r.host+"/app@"+digest {
		t.Errorf("with the password: %+v, %v\n%s", got, err, said)
	}
}

func TestFetchFaults(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	r.push(t, "app:1", 1024, nil)
	r.push(t, "portless:1", 1024, func(config *v1.ConfigFile) { config.Config.ExposedPorts = nil })
	r.push(t, "foreign:1", 1024, func(config *v1.ConfigFile) { config.Architecture = "s390x" })
	closed := httptest.NewServer(http.NotFoundHandler())
	gone := strings.TrimPrefix(closed.URL, "http://")
	closed.Close()
	for reference, want := range map[string]struct {
		code store.Code
		says string
	}{
		r.host + "/app:2":      {store.CodeFailed, "no such tag"},
		r.host + "/nope:1":     {store.CodeFailed, "has no image"},
		gone + "/app:1":        {store.CodeErrored, "cannot be reached"},
		r.host + "/foreign:1":  {store.CodeFailed, "is not for linux/amd64"},
		r.host + "/portless:1": {store.CodeFailed, "says no port"},
		"Not A Reference":      {store.CodeFailed, "is not a reference"},
		r.host + "/app@sha256:" + strings.Repeat("0", 64): {store.CodeFailed, "has no image"},
	} {
		_, said, err := l.fetch(t, reference)
		if p := problem(t, err, want.code); !strings.Contains(p.Message, want.says) || p.Hint == "" {
			t.Errorf("%s: %q, hint %q, want %q\n%s", reference, p.Message, p.Hint, want.says, said)
		}
	}
}

func TestFetchOfImageThatOnlyTheEngineHas(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	request := store.BuildRequest{App: l.app, Deployment: 1, Config: &store.ImageConfig{Image: base, SharedConfig: store.SharedConfig{Port: 80}}}
	var said []string
	got, err := l.Build(t.Context(), request, func(line string) { said = append(said, line) })
	if err != nil || got.Digest != "" || got.Port != 80 || got.Image == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "is taken from this engine") {
		t.Errorf("the log does not say where the image is from:\n%s", text)
	}
}

// Where nobody is let in without a login an image of that name may have been made here; where the login is wrong, that
// is what is to be mended.
func TestLocalImageUnderThePrivateRegistrysName(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	base := l.base(t)
	name := r.host + "/app:1"
	l.policy = policyOf(t, store.PolicyRules{Images: []string{r.host + "/app"}, Sources: []string{r.host}})
	t.Cleanup(func() { l.removeName(t, name) })
	if err := l.docker.ImageTag(t.Context(), base, name); err != nil {
		t.Fatal(err)
	}
	if got, err := l.fetchLocal(t.Context(), name, 1, nil); err != nil || got.Digest != "" {
		t.Errorf("without a login: %+v, %v", got, err)
	}
	l.loginTo(r.host, "wrong-"+registryPassword)
	_, err := l.fetchLocal(t.Context(), name, 2, nil)
	if p := problem(t, err, store.CodeFailed); !strings.Contains(p.Message, "does not let user ship") {
		t.Errorf("with a wrong password: %q", p.Message)
	}
	l.loginTo(r.host, "")
	if _, err := l.fetchLocal(t.Context(), name+"@sha256:"+strings.Repeat("0", 64), 3, nil); store.CodeOf(err) != store.CodeFailed {
		t.Errorf("by a digest that it does not have: %v", err)
	}
}

// What once came from a registry is not taken from the engine when that registry is down: it may have moved on.
func TestPulledImageWithoutItsRegistry(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	r.push(t, "app:1", 1024, nil)
	name := r.host + "/app:1"
	if err := l.pull(t.Context(), l.app, mustReference(t, name), func(string) {}); err != nil {
		t.Fatal(err)
	}
	defer l.docker.ImageRemove(context.WithoutCancel(t.Context()), name, image.RemoveOptions{})
	r.down.Store(true)
	_, said, err := l.fetch(t, name)
	if p := problem(t, err, store.CodeErrored); !strings.Contains(p.Message, "cannot be reached") {
		t.Errorf("%q\n%s", p.Message, said)
	}
}

// A password that stands in a line of the log, whoever wrote it, is not shown.
func TestPasswordInTheLog(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	r.push(t, registryPassword+":1", 1024, nil)
	l.loginTo(r.host, registryPassword)
	_, said, err := l.fetch(t, r.host+"/"+registryPassword+":1")
	if err != nil || !strings.Contains(said, "FROM "+r.host+"/***@sha256:") {
		t.Errorf("%v\n%s", err, said)
	}
}

// stall has the registry begin a layer and then wait for the end of the request; entered is closed then.
func (r *testRegistry) stall(end func(w http.ResponseWriter, request *http.Request)) (entered chan struct{}) {
	entered = make(chan struct{})
	var once sync.Once
	handler := http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Length", "1048576")
		_, _ = w.Write(make([]byte, 1024))
		w.(http.Flusher).Flush()
		once.Do(func() { close(entered) })
		end(w, request)
	})
	r.blob.Store(&handler)
	return entered
}

func TestCancelInMidPull(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	r.push(t, "app:1", 1<<20, nil)
	entered := r.stall(func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() })
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("too late"))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	changed := errors.New("somebody changed their mind")
	go func() {
		<-entered
		stop(changed)
	}()
	_, said, err := l.buildUnder(ctx, 1, nothing{}, &store.ImageConfig{Image: r.host + "/app:1"}, nil)
	if !errors.Is(err, changed) {
		t.Errorf("ended with %v\n%s", err, said)
	}
}

func TestRegistryDiesInMidPull(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, false)
	r.push(t, "app:1", 1<<20, nil)
	r.stall(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, said, err := l.fetch(t, r.host+"/app:1")
	if p := problem(t, err, store.CodeErrored); !strings.Contains(p.Message, "cannot be reached") {
		t.Errorf("ended with %q\n%s", p.Message, said)
	}
}

func TestPull(t *testing.T) {
	l := newEngineLab(t)
	r := newRegistry(t, true)
	r.push(t, "service:1", 4096, nil)
	if err := l.pull(t.Context(), l.app, mustReference(t, r.host+"/service:1"), func(string) {}); !strings.Contains(problem(t, err, store.CodeFailed).Message, "asks for a login") {
		t.Errorf("without a login: %v", err)
	}
	l.loginTo(r.host, registryPassword)
	var said []string
	if err := l.pull(t.Context(), l.app, mustReference(t, r.host+"/service:1"), func(line string) { said = append(said, line) }); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := l.docker.ImageRemove(context.WithoutCancel(t.Context()), r.host+"/service:1", image.RemoveOptions{}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}()
	if len(said) == 0 {
		t.Error("nothing is shown")
	}
	if err := l.pull(t.Context(), l.app, mustReference(t, r.host+"/service:2"), func(string) {}); !strings.Contains(problem(t, err, store.CodeFailed).Message, "no such tag") {
		t.Errorf("of a missing tag: %v", err)
	}
}

func mustReference(t *testing.T, text string) reference.Named {
	t.Helper()
	named, err := parseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return named
}
