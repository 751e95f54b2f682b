package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

const patience = time.Minute

// file is one file of a commit in memory.
type file struct {
	mode    uint32
	content string
}

// commit is a Snapshot in memory: text for ordinary files, or a file.
type commit map[string]any

func (c commit) file(name string) (file, bool) {
	switch content := c[name].(type) {
	case string:
		return file{store.ModeFile, content}, true
	case file:
		return content, true
	}
	return file{}, false
}

func blobID(content string) string {
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)))
}

func (c commit) Entries() ([]store.TreeEntry, error) {
	var entries []store.TreeEntry
	for _, name := range slices.Sorted(maps.Keys(c)) {
		f, _ := c.file(name)
		entries = append(entries, store.TreeEntry{Path: name, Mode: f.mode, Blob: blobID(f.content), Size: int64(len(f.content))})
	}
	return entries, nil
}

func (c commit) Open(name string) (io.ReadCloser, error) {
	f, ok := c.file(name)
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(strings.NewReader(f.content)), nil
}

func (c commit) with(changes commit) commit {
	changed := maps.Clone(c)
	maps.Copy(changed, changes)
	return changed
}

// lab is a builder with a data directory and an app name of its own. Images it makes go with the test.
type lab struct {
	*Builder
	app     string
	next    atomic.Int64
	commits sync.Map
}

func newLab(t testing.TB, limits Limits) *lab {
	t.Helper()
	l := &lab{app: "lab" + strings.ToLower(rand.Text()[:12])}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker.Close() })
	l.Builder = New(Options{
		Docker: docker, SitesDir: t.TempDir(), ServerID: "test-" + l.app, Limits: limits,
		Snapshots: func(_ context.Context, _, sha string) (Snapshot, error) {
			c, _ := l.commits.Load(sha)
			return c.(Snapshot), nil
		},
		Policy: policyOf(t, store.PolicyRules{Images: []string{l.app + "/*"}, Sources: []string{"127.0.0.1"}}),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	return l
}

// policyOf is what the operator of a lab allows.
func policyOf(t testing.TB, rules store.PolicyRules) store.Policy {
	t.Helper()
	policy, err := store.NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// removeName removes an image that the test named, and does not mind when it is gone.
func (l *lab) removeName(t testing.TB, name string) {
	t.Helper()
	_, err := l.docker.ImageRemove(context.WithoutCancel(t.Context()), name, image.RemoveOptions{Force: true})
	if err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("clean up: %v", err)
	}
}

// newEngineLab is a lab on a real Docker engine.
func newEngineLab(t testing.TB) *lab {
	t.Helper()
	l := newLab(t, Limits{})
	if _, err := l.docker.Ping(t.Context()); err != nil {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatal("no Docker engine answers: ", err)
		}
		t.Skip("NOT TESTED, no Docker engine answers: ", err)
	}
	t.Cleanup(func() { l.removeImages(t) })
	return l
}

func (l *lab) removeImages(t testing.TB) {
	ctx := context.WithoutCancel(t.Context())
	ours := filters.NewArgs(filters.Arg("label", store.LabelData+"="+l.serverID))
	images, err := l.docker.ImageList(ctx, image.ListOptions{All: true, Filters: ours})
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
	for _, made := range images {
		if _, err := l.docker.ImageRemove(ctx, made.ID, image.RemoveOptions{Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}
}

// build builds a commit of the lab's app as its next deployment.
func (l *lab) build(t testing.TB, snapshot Snapshot, config store.Config, env ...string) (store.Artefact, string, error) {
	t.Helper()
	return l.buildUnder(t.Context(), l.next.Add(1), snapshot, config, nil, env...)
}

func (l *lab) buildUnder(ctx context.Context, deployment int64, snapshot Snapshot, config store.Config, seen func(line string), env ...string) (store.Artefact, string, error) {
	sha := rand.Text()
	l.commits.Store(sha, snapshot)
	values := map[string]string{}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	var log []string
	request := store.BuildRequest{App: l.app, Deployment: deployment, SHA: sha, Config: config, Env: values}
	artefact, err := l.Build(ctx, request, func(line string) {
		log = append(log, line)
		if seen != nil {
			seen(line)
		}
	})
	return artefact, strings.Join(log, "\n"), err
}

// must builds what has to succeed.
func (l *lab) must(t testing.TB, snapshot Snapshot, config store.Config, env ...string) store.Artefact {
	t.Helper()
	artefact, log, err := l.build(t, snapshot, config, env...)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return artefact
}

// contents gives the files of an image, directories with a slash at the end.
func (l *lab) contents(t testing.TB, image string) map[string]tar.Header {
	t.Helper()
	headers := map[string]tar.Header{}
	l.export(t, image, func(header *tar.Header, _ io.Reader) { headers[header.Name] = *header })
	return headers
}

// read gives a file of an image.
func (l *lab) read(t testing.TB, image, name string) string {
	t.Helper()
	var content []byte
	found := false
	l.export(t, image, func(header *tar.Header, r io.Reader) {
		if header.Name == name {
			content, _ = io.ReadAll(r)
			found = true
		}
	})
	if !found {
		t.Fatalf("the image has no %s", name)
	}
	return string(content)
}

// export goes through an image's files by way of a container that never runs.
func (l *lab) export(t testing.TB, image string, visit func(*tar.Header, io.Reader)) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	config := &container.Config{Image: image, Cmd: []string{"/none"}, Labels: map[string]string{store.LabelData: l.serverID}}
	created, err := l.docker.ContainerCreate(ctx, config, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.docker.ContainerRemove(ctx, created.ID, container.RemoveOptions{Force: true}); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}()
	archive, err := l.docker.ContainerExport(ctx, created.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		visit(header, reader)
	}
}

// base imports busybox as a base image and gives its name.
func (l *lab) base(t testing.TB) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("busybox-static is needed: ", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(header tar.Header, content []byte) {
		header.Size = int64(len(content))
		if err := w.WriteHeader(&header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, applet := range []string{"sh", "cat", "echo", "sleep", "ls", "stat", "mkdir", "head", "dd", "kill", "nproc", "seq", "touch", "test", "tail"} {
		add(tar.Header{Name: path.Join("bin", applet), Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := l.app + "/base:1"
	source := image.ImportSource{SourceName: "-", Source: &archive}
	changes := []string{"ENV PATH=/bin"}
	t.Cleanup(func() { l.removeName(t, name) })
	stream, err := l.docker.ImageImport(t.Context(), source, name, image.ImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var answer struct{ Status, Error string }
	if err := json.NewDecoder(stream).Decode(&answer); err != nil || answer.Error != "" {
		t.Fatalf("import image: %v %s", err, answer.Error)
	}
	return name
}

// problem gives the Problem that a build has to end with.
func problem(t testing.TB, err error, code store.Code) *store.Problem {
	t.Helper()
	p, ok := store.AsProblem(err)
	if !ok || p.Code != code {
		t.Fatalf("the build ended with %v (%s), want a Problem %s", err, store.CodeOf(err), code)
	}
	return p
}
