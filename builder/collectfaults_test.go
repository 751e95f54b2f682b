package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// plant writes a file, and the directories above it.
func plant(t *testing.T, parts ...string) (name string) {
	t.Helper()
	name = filepath.Join(parts...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return name
}

func there(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// What has not the name of an app's deployment is nobody's garbage.
func TestCollectLeavesOtherFolders(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker, l.stacksDir = nil, t.TempDir()
	var planted []string
	for _, dir := range []string{filepath.Join(l.sites.dir, "releases"), l.stacksDir} {
		for _, name := range []string{"Not_An_App/1/x", l.app + "/0/x", l.app + "/-1/x", l.app + "/1x/x", l.app + "/7", "file"} {
			planted = append(planted, plant(t, dir, name))
		}
	}
	link := filepath.Join(l.sites.dir, "objects", "ab", "link") // which has one name, as a loose object has
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("nothing", link)); err != nil {
		t.Fatal(err)
	}
	found, err := l.Collect(t.Context(), l.keeping(), false)
	if len(found) > 0 || err != nil {
		t.Errorf("collected %+v, %v", found, err)
	}
	for _, name := range append(planted, link) {
		if !there(name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// Without stacks the folder that the server was started in is not taken for theirs.
func TestCollectWithoutStacks(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	here := t.TempDir()
	t.Chdir(here)
	mine := plant(t, here, l.app, unfinished+"old", "x")
	before := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(filepath.Dir(mine), before, before); err != nil {
		t.Fatal(err)
	}
	if found, err := l.Collect(t.Context(), l.keeping(), false); len(found) > 0 || err != nil {
		t.Errorf("collected %+v, %v", found, err)
	}
	if err := l.ForgetData(t.Context(), l.app); err != nil {
		t.Error(err)
	}
	if !there(mine) {
		t.Error("a folder that is no stack is gone")
	}
}

func TestForgetRefusesNamesOfNoApp(t *testing.T) {
	l := newLab(t, Limits{})
	dir := t.TempDir()
	l.docker, l.stacksDir = nil, filepath.Join(dir, "stacks")
	mine := plant(t, dir, "mine")
	for _, name := range []string{"", ".", "..", "../stacks", "A b"} {
		if err := errors.Join(l.ForgetData(t.Context(), name)); err == nil {
			t.Errorf("ForgetData takes %q", name)
		}
		if err := l.Forget(t.Context(), name); err == nil {
			t.Errorf("Forget takes %q", name)
		}
	}
	if !there(mine) {
		t.Error("what is beside the stacks is gone")
	}
}

// A dry run leaves what builds are making, and a real one sweeps what dead ones left, or says that it cannot.
func TestCollectSweeps(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	left := plant(t, l.sites.temporary(), "dead", "x")
	if _, err := l.Collect(t.Context(), l.keeping(), true); err != nil || !there(left) {
		t.Errorf("dry: %v, there %v", err, there(left))
	}
	if _, err := l.Collect(t.Context(), l.keeping(), false); err != nil || there(left) {
		t.Errorf("%v, there %v", err, there(left))
	}
	l.sites.sweepError = errors.New("the disk is broken")
	if _, err := l.Collect(t.Context(), l.keeping(), false); !errors.Is(err, l.sites.sweepError) {
		t.Errorf("a sweep that failed: %v", err)
	}
}

// A tree that cannot be removed keeps its objects, and the next time it goes with them.
func TestCollectTreeThatStays(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	site := l.must(t, commit{"index.html": strings.Repeat("text ", 500)}, &store.StaticConfig{})
	if err := os.RemoveAll(l.sites.temporary()); err != nil {
		t.Fatal(err)
	}
	plant(t, l.sites.temporary()) // where a directory is needed
	found, err := l.Collect(t.Context(), l.keeping(), false)
	if err == nil || len(found) > 0 {
		t.Errorf("collected %+v, %v", found, err)
	}
	if err := l.Forget(t.Context(), l.app); err == nil {
		t.Error("Forget says nothing")
	}
	l.checkWhole(t, site, 1)
	loose, err := l.sites.loose(t.Context(), nil)
	if err != nil || len(loose.paths) > 0 {
		t.Errorf("loose: %+v, %v", loose, err)
	}
	if err := os.Remove(l.sites.temporary()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Collect(t.Context(), l.keeping(), false); err != nil {
		t.Error(err)
	}
	l.checkNothingLeft(t, 0)
	if there(filepath.Join(l.sites.dir, "releases", l.app)) {
		t.Error("the app's directory outlives its last release")
	}
	if err := l.sites.removeTree(deploymentFolder{path: filepath.Join(l.sites.dir, "releases", l.app, "9")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a tree that is not there: %v", err)
	}
	l.checkNothingLeft(t, 0)
}

func TestCollectStackThatStays(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker, l.stacksDir = nil, t.TempDir()
	plant(t, l.stacksDir, l.app, "1", "a")
	plant(t, l.stacksDir, l.app, "2", "a")
	plant(t, l.stacksDir, l.app, unfinished+"removed-1", "a") // its removal was cut off just now, and then it was made again
	found, err := l.Collect(t.Context(), l.keeping(), false)
	if err == nil || len(found) != 1 || found[0].Name != l.app+"/2" {
		t.Errorf("collected %+v, %v", found, err)
	}
	if err := l.Forget(t.Context(), l.app); err == nil {
		t.Error("Forget says nothing")
	}
	l.checkStacks(t, "1", unfinished+"removed-1")
}

func TestCollectIsCancelled(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker, l.stacksDir = nil, t.TempDir()
	site := l.must(t, commit{"index.html": strings.Repeat("text ", 500)}, &store.StaticConfig{})
	plant(t, l.stacksDir, l.app, "1", "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	found, err := l.Collect(ctx, l.keeping(), false)
	if !errors.Is(err, context.Canceled) || len(found) > 0 {
		t.Errorf("collected %+v, %v", found, err)
	}
	l.checkStacks(t, "1")
	l.checkWhole(t, site, 1)
	objects, err := filepath.Glob(filepath.Join(l.sites.dir, "objects", "*", "*"))
	if err != nil || len(objects) == 0 {
		t.Fatal(objects, err)
	}
	if removed, err := removeObjects(ctx, looseObjects{paths: objects}); !errors.Is(err, context.Canceled) || len(removed.paths) > 0 {
		t.Errorf("removed %+v, %v", removed, err)
	}
}

// While a release is removed nobody sees half of it.
func TestRemovalIsWhole(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker, l.stacksDir = nil, t.TempDir()
	const files = 3000
	stack, site := filepath.Join(l.stacksDir, l.app, "1"), filepath.Join(l.sites.dir, "releases", l.app, "1")
	for _, folder := range []string{stack, site} {
		for i := range files {
			plant(t, folder, fmt.Sprint(i))
		}
	}
	var watching sync.WaitGroup
	for _, folder := range []string{stack, site} {
		watching.Go(func() {
			for there(folder) {
				for _, i := range []int{0, files / 2, files - 1} {
					if !there(filepath.Join(folder, fmt.Sprint(i))) && there(folder) {
						t.Errorf("%s is seen without its file %d", folder, i)
						return
					}
				}
			}
		})
	}
	if _, err := l.Collect(t.Context(), l.keeping(), false); err != nil {
		t.Error(err)
	}
	watching.Wait()
}

// An image that came into use meanwhile stays and is not told of; one that is gone already is; other trouble is said.
func TestCollectImagesThatChangeMeanwhile(t *testing.T) {
	l := newLab(t, Limits{})
	status := map[string]int{"1": http.StatusConflict, "2": http.StatusNotFound, "3": http.StatusInternalServerError}
	l.docker = fakeEngine(t, func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch _, tag, _ := strings.Cut(path.Base(request.URL.Path), ":"); {
		case strings.HasSuffix(request.URL.Path, "/images/json"):
			var images []image.Summary
			for number := range status {
				images = append(images, image.Summary{ID: "sha256:" + number, RepoTags: []string{l.repository(l.app) + ":" + number},
					Labels: map[string]string{store.LabelApp: l.app, store.LabelDeployment: number, store.LabelData: l.serverID}})
			}
			_ = json.NewEncoder(w).Encode(images)
		case strings.HasSuffix(request.URL.Path, "/containers/json"):
			_ = json.NewEncoder(w).Encode([]container.Summary{})
		case request.Method == http.MethodDelete:
			w.WriteHeader(status[tag])
			_, _ = w.Write([]byte(`{"message":"so it is"}`))
		}
	})
	found, err := l.collectImages(t.Context(), l.keeping().Has, false)
	if len(found) != 1 || found[0].Name != l.repository(l.app)+":2" || err == nil || !strings.Contains(err.Error(), "remove image "+l.repository(l.app)+":3") || strings.Contains(err.Error(), l.app+":1") {
		t.Errorf("collected %+v, %v", found, err)
	}
	if err := l.Forget(t.Context(), l.app); err == nil || !strings.Contains(err.Error(), "remove image") {
		t.Errorf("Forget gives %v", err)
	}
}

func TestSitePresent(t *testing.T) {
	l := newLab(t, Limits{})
	plant(t, l.sites.dir, "releases", l.app, "1", "files", "index.html")
	plant(t, l.sites.dir, "releases", l.app, "2", "manifest.json")
	for site, want := range map[string]bool{"1": false, "2": true, "3": false} {
		if present, err := l.Present(t.Context(), store.Artefact{Site: "releases/" + l.app + "/" + site}); present != want || err != nil {
			t.Errorf("site %s is there: %v, %v, want %v", site, present, err, want)
		}
	}
	if _, err := l.Present(t.Context(), store.Artefact{Site: strings.Repeat("a", 300)}); err == nil {
		t.Error("a site that cannot be looked for is told of as absent")
	}
}

func TestStackPresent(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker, l.stacksDir = nil, t.TempDir()
	plant(t, l.stacksDir, l.app, "1", store.StackCheckout, "compose.yaml")
	for stack, text := range map[string]string{"2": `{"images":{}}`, "3": `{"ima`} {
		if err := os.WriteFile(plant(t, l.stacksDir, l.app, stack, store.StackImages), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for stack, want := range map[string]bool{"1": false, "2": true, "4": false} {
		if present, err := l.Present(t.Context(), store.Artefact{Stack: l.app + "/" + stack}); present != want || err != nil {
			t.Errorf("stack %s is there: %v, %v, want %v", stack, present, err, want)
		}
	}
	if _, err := l.Present(t.Context(), store.Artefact{Stack: l.app + "/3"}); err == nil {
		t.Error("a stack that cannot be read is told of as absent")
	}
}
