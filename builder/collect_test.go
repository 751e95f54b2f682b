package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

// keeping is what stays of the lab's app.
func (l *lab) keeping(deployments ...int64) store.Kept {
	kept := store.Kept{Newest: 1000, Apps: map[string]map[int64]bool{l.app: {}}}
	for _, deployment := range deployments {
		kept.Apps[l.app][deployment] = true
	}
	return kept
}

// kindsOf names what was found but for the cache, which the engine's other users fill.
func kindsOf(found []store.Garbage) []string {
	var kinds []string
	for _, garbage := range found {
		if garbage.Kind != "build cache" {
			kinds = append(kinds, garbage.Kind+" "+garbage.Name)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// checkWhole reads every file and encoded form of a release.
func (l *lab) checkWhole(t *testing.T, artefact store.Artefact, files int) {
	t.Helper()
	if listed, _ := l.published(t, artefact); len(listed.Files) != files {
		t.Errorf("release %s has %d files, want %d", artefact.Site, len(listed.Files), files)
	}
}

func TestCollectSites(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	text := strings.Repeat("shared and compressible ", 200)
	old := l.must(t, commit{"index.html": text, "old.txt": strings.Repeat("only in the old one ", 200)}, &store.StaticConfig{})
	kept := l.must(t, commit{"index.html": text}, &store.StaticConfig{})
	planned, err := l.Collect(t.Context(), l.keeping(2), true)
	if err != nil {
		t.Fatal(err)
	}
	l.checkWhole(t, old, 2)
	done, err := l.Collect(t.Context(), l.keeping(2), false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(planned, done) || len(done) != 2 || done[0].Name != l.app+"/1" || done[1].Kind != "site objects" || done[1].Bytes < 4000 {
		t.Errorf("planned %+v, done %+v", planned, done)
	}
	l.checkWhole(t, kept, 1)
	l.checkNothingLeft(t, 1)
	if left, _ := filepath.Glob(filepath.Join(l.sites.dir, "objects", "*", "*")); len(left) < 2 || slices.ContainsFunc(left, func(name string) bool {
		info, err := os.Stat(name)
		_, links, _ := linksOf(info)
		return err != nil || links != 2
	}) {
		t.Errorf("objects left: %q", left)
	}
	if present, err := l.Present(t.Context(), old); present || err != nil {
		t.Errorf("the old site is there: %v, %v", present, err)
	}
	if present, err := l.Present(t.Context(), kept); !present || err != nil {
		t.Errorf("the kept site is there: %v, %v", present, err)
	}
	newer := store.Kept{Newest: 1}
	if found, err := l.Collect(t.Context(), newer, false); len(found) != 0 || err != nil {
		t.Errorf("what is newer than the list was collected: %+v, %v", found, err)
	}
}

func TestCollectStacks(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	l.stacksDir = t.TempDir()
	for _, name := range []string{"1/files/a", "2/files/a", "data/db/file", unfinished + "old/a", unfinished + "new/a"} {
		path := filepath.Join(l.stacksDir, l.app, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("12345"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(filepath.Join(l.stacksDir, l.app, unfinished+"old"), before, before); err != nil {
		t.Fatal(err)
	}
	found, err := l.Collect(t.Context(), l.keeping(2), true)
	if err != nil || len(found) != 2 || found[0].Bytes != 5 {
		t.Errorf("dry: %+v, %v", found, err)
	}
	l.checkStacks(t, unfinished+"new", unfinished+"old", "1", "2", "data")
	if _, err := l.Collect(t.Context(), l.keeping(2), false); err != nil {
		t.Error(err)
	}
	l.checkStacks(t, unfinished+"new", "2", "data")
	if err := l.Forget(t.Context(), l.app); err != nil {
		t.Error(err)
	}
	l.checkStacks(t, unfinished+"new", "data")
	if err := l.ForgetData(t.Context(), l.app); err != nil {
		t.Error(err)
	}
	l.checkStacks(t)
}

func (l *lab) checkStacks(t *testing.T, want ...string) {
	t.Helper()
	entries, _ := os.ReadDir(filepath.Join(l.stacksDir, l.app))
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("stacks has %q, want %q", names, want)
	}
}

// Nothing without our label is touched, and no name that is not ours.
func TestCollectLeavesWhatIsForeign(t *testing.T) {
	l := newEngineLab(t)
	ctx := context.WithoutCancel(t.Context())
	base := l.base(t)
	from := &store.DockerfileConfig{SharedConfig: store.SharedConfig{Port: 80}}
	dockerfile := commit{"Dockerfile": "FROM " + base + "\nCOPY Dockerfile /\n"}
	var made []store.Artefact
	for range 5 {
		made = append(made, l.must(t, dockerfile, from))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// 1 goes; 2 has a foreign tag as well; 3 has a container; 4 lost its tag, as an image that somebody built FROM ours; 5 is kept.
	foreignTag := l.app + "/mine:2"
	must(l.docker.ImageTag(ctx, made[1].Image, foreignTag))
	used, err := l.docker.ContainerCreate(ctx, &container.Config{Image: made[2].Image, Cmd: []string{"/none"}, Labels: map[string]string{store.LabelData: l.serverID}}, nil, nil, nil, "")
	must(err)
	defer l.docker.ContainerRemove(ctx, used.ID, container.RemoveOptions{Force: true})
	committed, err := l.docker.ContainerCommit(ctx, used.ID, container.CommitOptions{Reference: l.app + "/foreign:1", Changes: []string{"LABEL " + store.LabelData + "=another"}})
	must(err)
	defer l.docker.ImageRemove(ctx, committed.ID, image.RemoveOptions{Force: true})
	must(l.docker.ImageTag(ctx, made[4].Image, l.app+"/keeper:1"))
	must(l.docker.ImageTag(ctx, made[4].Image, made[3].ImageTag)) // 4 is untagged by this
	kept, err := l.docker.VolumeCreate(ctx, volume.CreateOptions{Name: l.app + "-foreign"})
	must(err)
	defer l.docker.VolumeRemove(ctx, kept.Name, true)

	unnamed, err := l.docker.ImageImport(ctx, image.ImportSource{SourceName: "-", Source: bytes.NewReader(make([]byte, 1024))}, "",
		image.ImportOptions{Changes: []string{"LABEL " + store.LabelData + "=" + l.serverID}}) // which no deployment built
	must(err)
	var imported struct{ Status string }
	must(errors.Join(json.NewDecoder(unnamed).Decode(&imported), unnamed.Close()))

	planned, err := l.Collect(ctx, l.keeping(5), true)
	must(err)
	for _, artefact := range made {
		_, err := l.docker.ImageInspect(ctx, artefact.Image)
		must(err)
	}
	done, err := l.Collect(ctx, l.keeping(5), false)
	must(err)
	if want := kindsOf(planned); !slices.Equal(kindsOf(done), want) || len(want) != 2 {
		t.Errorf("planned %q, done %q", want, kindsOf(done))
	}
	for i, want := range []bool{false, true, true, true, true} {
		if present, err := l.Present(ctx, made[i]); present != want || err != nil {
			t.Errorf("image %d is there: %v, want %v (%v)", i+1, present, want, err)
		}
	}
	for _, name := range []string{base, foreignTag, made[2].ImageTag, l.app + "/foreign:1", l.app + "/keeper:1", made[4].ImageTag} {
		if present, err := l.ImagePresent(ctx, name); !present || err != nil {
			t.Errorf("%s is gone (%v)", name, err)
		}
	}
	if present, _ := l.ImagePresent(ctx, made[1].ImageTag); present {
		t.Error("our tag on an image that others named stayed")
	}
	if again, err := l.Collect(ctx, l.keeping(5), false); len(kindsOf(again)) > 0 || err != nil { // 2 has no name but the foreign one now
		t.Errorf("collected %+v, %v the second time", again, err)
	}
	for _, id := range []string{made[1].Image, imported.Status} {
		if present, err := l.ImagePresent(ctx, id); !present || err != nil {
			t.Errorf("%s is gone (%v)", id, err)
		}
	}
	_, err = l.docker.VolumeInspect(ctx, kept.Name)
	must(err)
	_, err = l.docker.ContainerInspect(ctx, used.ID)
	must(err)
}

func TestCollectWithoutEngine(t *testing.T) {
	l := newLab(t, Limits{})
	docker, err := client.NewClientWithOpts(client.WithHost("unix://" + filepath.Join(t.TempDir(), "none.sock")))
	if err != nil {
		t.Fatal(err)
	}
	l.docker = docker
	l.must(t, commit{"index.html": "x"}, &store.StaticConfig{})
	found, err := l.Collect(t.Context(), l.keeping(), false)
	if len(found) != 2 || store.CodeOf(err) != store.CodeErrored {
		t.Errorf("collected %+v, %v", found, err)
	}
}

func TestOurTags(t *testing.T) {
	b := New(Options{ServerID: "1a2b3c4d5e"})
	for _, c := range []struct {
		tags string
		ours int
	}{
		{"shipgate-1a2b3c4d/a:7", 1},
		{"shipgate-1a2b3c4d/a:7 shipgate-1a2b3c4d/a/web:7", 2},
		{"shipgate/a:7 shipgate/a/web:7", 2},
		{"shipgate-1a2b3c4d/a:8", 0},
		{"shipgate-1a2b3c4d/ab:7", 0},
		{"shipgate-99999999/a:7", 0},
		{"elsewhere/shipgate/a:7 shipgate-1a2b3c4d/a:7", 1},
		{"<none>:<none>", 0},
		{"foreign:7", 0},
	} {
		labels := map[string]string{store.LabelApp: "a", store.LabelDeployment: "7", store.LabelData: "1a2b3c4d5e"}
		built, tags := b.ourTags(image.Summary{RepoTags: strings.Fields(c.tags), Labels: labels})
		if len(tags) != c.ours || built != (builtImage{"a", 7}) {
			t.Errorf("%s: ours are %q of %v, want %d", c.tags, tags, built, c.ours)
		}
		for _, label := range []string{store.LabelApp, store.LabelDeployment, store.LabelData} {
			others := maps.Clone(labels)
			others[label] = "8"
			if _, tags := b.ourTags(image.Summary{RepoTags: strings.Fields(c.tags), Labels: others}); len(tags) > 0 && label != store.LabelDeployment {
				t.Errorf("%s with another %s: ours are %q", c.tags, label, tags)
			}
		}
	}
}
