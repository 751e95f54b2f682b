package compose

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/builder"
	"github.com/shipgate/shipgate/deploy/enginetest"
	"github.com/shipgate/shipgate/store"
)

// Entries and Open make files a commit in memory.
func (f files) Entries() (entries []store.TreeEntry, err error) {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		entry := store.TreeEntry{Path: name, Mode: store.ModeFile, Blob: name, Size: int64(len(f[name]))}
		if name == "testapp" {
			entry.Mode = store.ModeExecutable
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (f files) Open(name string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f[name])), nil
}

// What the builder leaves is what the plugin brings up.
func TestBuiltStackComesUp(t *testing.T) {
	l := newLab(t)
	base := l.app() + "-base:1"
	if err := l.docker.ImageTag(t.Context(), l.image, base); err != nil {
		t.Fatal(err)
	}
	policy, err := store.NewPolicy(store.PolicyRules{Images: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	commit := files{"compose.yaml": `
services:
  web:
    build: {context: ., args: {VERSION: "${VERSION}"}}
  db:
    image: ` + base + `
    environment: {PORT: "5432"}
`, "Dockerfile": "FROM scratch\nARG VERSION\nCOPY testapp /\nENV PORT=8080 APP_VERSION=$VERSION\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n",
		"testapp": string(enginetest.TestApp(t))}
	b := builder.New(builder.Options{
		Docker: l.docker, Policy: policy, ServerID: l.server, SitesDir: t.TempDir(), StacksDir: l.dir, StackPlan: l.Plan,
		Snapshots: func(context.Context, string, string) (builder.Snapshot, error) { return commit, nil },
	})
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context()), l.app()); err != nil {
			t.Error(err)
		}
		if err := b.Forget(context.WithoutCancel(t.Context()), l.app()); err != nil {
			t.Error(err)
		}
	})
	config := &store.ComposeConfig{Service: "web"}
	env := map[string]string{"VERSION": "from the env"}
	artefact, err := b.Build(t.Context(), store.BuildRequest{App: l.app(), Deployment: 5, SHA: "x", Config: config, Env: env}, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	spec := l.spec(t, l.app(), 5, nil, env)
	spec.Config, spec.Dir, spec.Port = config, l.dir+"/"+artefact.Stack, artefact.Port
	l.up(t, spec)
	if answer := get(t, spec.Address, "/"); answer != "from the env" {
		t.Errorf("it answers %q", answer)
	}
}
