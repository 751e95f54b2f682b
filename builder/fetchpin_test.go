package builder

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// fetchLocal fetches a deployment's image from the engine alone; seen gets the lines of the log.
func (l *lab) fetchLocal(ctx context.Context, name string, deployment int64, seen func(line string)) (store.Artefact, error) {
	artefact, _, err := l.buildUnder(ctx, deployment, nothing{}, &store.ImageConfig{Image: name, SharedConfig: store.SharedConfig{Port: 80}}, seen)
	return artefact, err
}

// names lists what an image is called; none when it is not there.
func (l *lab) names(t *testing.T, id string) []string {
	t.Helper()
	inspected, err := l.docker.ImageInspect(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Fatalf("image %s: %v", id, err)
	}
	return inspected.RepoTags
}

func (l *lab) idOf(t *testing.T, name string) string {
	t.Helper()
	inspected, err := l.docker.ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return inspected.ID
}

// checkNoPins looks for names that a fetch held, and for the empty images that they went to.
func (l *lab) checkNoPins(t *testing.T) {
	t.Helper()
	images, err := l.docker.ImageList(context.WithoutCancel(t.Context()), image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", l.repository(l.app)+"/*"))})
	if err != nil || len(images) > 0 {
		t.Errorf("left: %+v, %v", images, err)
	}
	ours, err := l.docker.ImageList(context.WithoutCancel(t.Context()), image.ListOptions{Filters: filters.NewArgs(filters.Arg("label", store.LabelData+"="+l.serverID))})
	if err != nil || slices.ContainsFunc(ours, func(one image.Summary) bool { return one.Size == 0 && one.Labels["other"] == "" }) {
		t.Errorf("an empty image is left: %+v, %v", ours, err)
	}
}

// other makes an image that is not the lab's base, under a name of its own.
func (l *lab) other(t *testing.T) (name string) {
	t.Helper()
	name = l.app + "/other:1"
	t.Cleanup(func() { l.removeName(t, name) })
	stream, err := l.docker.ImageImport(t.Context(), image.ImportSource{SourceName: "-", Source: strings.NewReader(strings.Repeat("\x00", 1024))}, name,
		image.ImportOptions{Changes: []string{"LABEL other=1"}})
	if err == nil {
		err = showPull(stream, func(string) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// What is built is what the reference meant when it was looked up, whatever it comes to mean meanwhile; and the image
// that lost its name by that is left alone.
func TestRetagWhileALocalImageIsFetched(t *testing.T) {
	l := newEngineLab(t)
	base, other := l.base(t), l.other(t)
	before := l.idOf(t, base)
	retagged := false
	got, err := l.fetchLocal(t.Context(), base, 1, func(line string) {
		if strings.Contains(line, "is taken from this engine") {
			retagged = true
			if err := l.docker.ImageTag(t.Context(), other, base); err != nil {
				t.Error(err)
			}
			if !strings.Contains(line, before) {
				t.Errorf("the log does not say which image: %s", line)
			}
		}
	})
	if err != nil || !retagged {
		t.Fatalf("%+v, %v, retagged %v", got, err, retagged)
	}
	if text := l.read(t, got.Image, "bin/busybox"); len(text) == 0 {
		t.Error("the image is not the one that was meant")
	}
	if names := l.names(t, before); len(names) != 0 {
		t.Errorf("the image that was fetched is called %q", names)
	}
	if !slices.Contains(l.names(t, other), base) {
		t.Error("the new meaning of the name is gone")
	}
	l.checkNoPins(t)
}

func TestLocalImageKeepsItsNames(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	id := l.idOf(t, base)
	if _, err := l.fetchLocal(t.Context(), base, 1, nil); err != nil {
		t.Fatal(err)
	}
	if names := l.names(t, id); !slices.Equal(names, []string{base}) {
		t.Errorf("the image is called %q", names)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	changed := errors.New("somebody changed their mind")
	_, err := l.fetchLocal(ctx, base, 2, func(line string) {
		if strings.Contains(line, "is taken from this engine") {
			stop(changed)
		}
	})
	if !errors.Is(err, changed) {
		t.Errorf("a cancelled fetch ended with %v", err)
	}
	if names := l.names(t, id); !slices.Equal(names, []string{base}) {
		t.Errorf("after a cancelled fetch the image is called %q", names)
	}
	l.checkNoPins(t)
}

// A crash leaves the name; the collection gives it up, and nobody else's.
func TestCollectPins(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	id := l.idOf(t, base)
	l.serverID, l.app = "mine"+l.serverID, "mine"+l.app // so that the base is not ours
	t.Cleanup(func() { l.serverID, l.app = strings.TrimPrefix(l.serverID, "mine"), strings.TrimPrefix(l.app, "mine") })
	gone, kept := l.pinOf(l.app, 7), l.pinOf(l.app, 8)
	foreign := []string{
		strings.Replace(l.pinOf(l.app, 7), l.serverID, "another", 1),
		l.pinOf(l.app, 7) + "x",
		strings.Replace(l.pinOf(l.app, 7), "-7", "-07", 1),
	}
	for _, name := range append([]string{gone, kept}, foreign...) {
		if err := l.docker.ImageTag(t.Context(), id, name); err != nil {
			t.Fatal(err)
		}
	}
	planned, err := l.collectPins(t.Context(), l.keeping(8).Has, true)
	if want := []store.Garbage{{Kind: "image", App: l.app, Name: gone}}; err != nil || !slices.Equal(planned, want) {
		t.Errorf("planned %+v, %v", planned, err)
	}
	if !slices.Contains(l.names(t, id), gone) {
		t.Error("a dry run gave the name up")
	}
	done, err := l.Collect(t.Context(), l.keeping(8), false)
	if err != nil || !slices.Contains(done, planned[0]) {
		t.Errorf("done %+v, %v", done, err)
	}
	want := append([]string{base, kept}, foreign...)
	if names := l.names(t, id); !sameSet(names, want) {
		t.Errorf("the image is called %q, want %q", names, want)
	}
	if err := l.Forget(t.Context(), "other"); err != nil || !sameSet(l.names(t, id), want) {
		t.Errorf("another app was forgotten, and the image is called %q, %v", l.names(t, id), err)
	}
	if err := l.Forget(t.Context(), l.app); err != nil {
		t.Error(err)
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == kept })
	if names := l.names(t, id); !sameSet(names, want) {
		t.Errorf("after the app was forgotten the image is called %q, want %q", names, want)
	}
}

// A name that could not be moved is not removed: its image may have no other.
func TestPinThatCannotBeMoved(t *testing.T) {
	l := newLab(t, Limits{})
	for name, answer := range map[string]func(w http.ResponseWriter){
		"refused":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"in stream": func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"error":"no room"}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			l.docker = fakeEngine(t, func(w http.ResponseWriter, request *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch {
				case strings.HasSuffix(request.URL.Path, "/images/json"):
					_ = json.NewEncoder(w).Encode([]image.Summary{{RepoTags: []string{l.pinOf(l.app, 7)}}})
				case strings.HasSuffix(request.URL.Path, "/containers/json"):
					_, _ = w.Write([]byte("[]"))
				case strings.HasSuffix(request.URL.Path, "/images/create"):
					answer(w)
				default:
					t.Errorf("asked for %s %s", request.Method, request.URL)
				}
			})
			if found, err := l.collectPins(t.Context(), l.keeping().Has, false); len(found) > 0 || err == nil {
				t.Errorf("collected %+v, %v", found, err)
			}
			if err := l.Forget(t.Context(), l.app); err == nil {
				t.Error("Forget says nothing")
			}
		})
	}
}

func sameSet(got, want []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}
