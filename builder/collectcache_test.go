package builder

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

func TestPrunable(t *testing.T) {
	const day, gib = 24 * time.Hour, 1 << 30
	now := time.Now()
	record := func(id string, size int64, age time.Duration) *build.CacheRecord {
		return &build.CacheRecord{ID: id, Size: size, CreatedAt: now.Add(-30 * day), LastUsedAt: new(now.Add(-age))}
	}
	with := func(r *build.CacheRecord, change func(*build.CacheRecord)) *build.CacheRecord {
		change(r)
		return r
	}
	inUse := func(r *build.CacheRecord) { r.InUse = true }
	shared := func(r *build.CacheRecord) { r.Shared = true }
	internal := func(r *build.CacheRecord) { r.Type = "internal" }
	frontend := func(r *build.CacheRecord) { r.Type = "frontend" }
	never := func(r *build.CacheRecord) { r.LastUsedAt, r.CreatedAt = nil, now }
	of := func(parent string) func(*build.CacheRecord) {
		//lint:ignore SA1019 as an engine of API 1.41 tells it
		return func(r *build.CacheRecord) { r.Parent = parent }
	}
	ofBoth := func(r *build.CacheRecord) { r.Parents = []string{"a", "b"} }
	type records = []*build.CacheRecord
	for name, c := range map[string]struct {
		records records
		unused  time.Duration
		bytes   int64
	}{
		"nothing":                   {nil, 7 * day, 0},
		"old, though little":        {records{record("a", 1, 8*day)}, 7 * day, 1},
		"as old as it takes":        {records{record("a", 1, 7*day)}, 7 * day, 1},
		"young and little":          {records{record("a", 10*gib, 6*day)}, 7 * day, 0},
		"young and too much":        {records{record("a", 10*gib+1, 2*time.Hour)}, 2 * time.Hour, 10*gib + 1},
		"the oldest first":          {records{record("a", 6*gib, 2*day), record("b", 6*gib, 3*day)}, 3 * day, 6 * gib},
		"as many as it takes":       {records{record("a", 6*gib, 2*day), record("b", 6*gib, 3*day), record("c", 6*gib, 4*day)}, 3 * day, 12 * gib},
		"old first, then too much":  {records{record("a", 2*gib, 9*day), record("b", 11*gib, 2*day), record("c", gib, day)}, 2 * day, 13 * gib},
		"old is enough":             {records{record("a", 2*gib, 9*day), record("b", 9*gib, 2*day)}, 7 * day, 2 * gib},
		"used in the last hour":     {records{record("a", 20*gib, 59*time.Minute)}, 7 * day, 0},
		"some in the last hour":     {records{record("a", 20*gib, 59*time.Minute), record("b", gib, time.Hour)}, time.Hour, gib},
		"old and in use":            {records{with(record("a", 20*gib, 8*day), inUse)}, 7 * day, 0},
		"an image shares it":        {records{with(record("a", 20*gib, 8*day), shared), record("b", gib, 2*day)}, 7 * day, 0},
		"the engine's own":          {records{with(record("a", 20*gib, 8*day), internal), with(record("b", gib, 8*day), frontend)}, 7 * day, 0},
		"never used":                {records{with(record("a", 5, 0), never)}, 7 * day, 5},
		"made from by a young one":  {records{record("a", gib, 8*day), with(record("b", gib, day), of("a"))}, 7 * day, 0},
		"grandparent of one in use": {records{record("a", 20*gib, 8*day), with(record("b", gib, 9*day), of("a")), with(with(record("c", gib, 8*day), of("b")), inUse)}, 7 * day, 0},
		"parent of an old one":      {records{record("a", gib, 8*day), with(record("b", gib, 8*day), of("a"))}, 7 * day, 2 * gib},
		"an image shares its child": {records{record("a", gib, 8*day), with(with(record("b", gib, 8*day), of("a")), shared)}, 7 * day, 0},
		"two parents":               {records{record("a", gib, 8*day), record("b", gib, 8*day), with(record("c", gib, day), ofBoth)}, 7 * day, 0},
		"parent that is not there":  {records{with(record("a", gib, 8*day), of("gone"))}, 7 * day, gib},
	} {
		t.Run(name, func(t *testing.T) {
			if unused, bytes := prunable(c.records, now); unused != c.unused || bytes != c.bytes {
				t.Errorf("%d bytes unused for %s, want %d unused for %s", bytes, unused, c.bytes, c.unused)
			}
		})
	}
}

// engineWith answers as an engine whose cache holds some records, and notes the prunes that it is asked for.
func engineWith(t *testing.T, records []*build.CacheRecord, reclaimed uint64) (engine *client.Client, prunes *[]string) {
	t.Helper()
	prunes = &[]string{}
	return fakeEngine(t, func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(request.URL.Path, "/system/df"):
			_ = json.NewEncoder(w).Encode(types.DiskUsage{BuildCache: records})
		case strings.HasSuffix(request.URL.Path, "/build/prune"):
			*prunes = append(*prunes, request.URL.RawQuery)
			_ = json.NewEncoder(w).Encode(build.CachePruneReport{SpaceReclaimed: reclaimed})
		default:
			http.NotFound(w, request)
		}
	}), prunes
}

// fakeEngine returns a client of an engine that answers as the handler does.
func fakeEngine(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	engine, err := client.NewClientWithOpts(client.WithHost("tcp://"+strings.TrimPrefix(server.URL, "http://")), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

// Only cache mounts whose record names this server are removed unless the operator wants all of it pruned.
func TestCollectLeavesOthersBuildCache(t *testing.T) {
	l := newLab(t, Limits{})
	old := new(time.Now().Add(-9 * 24 * time.Hour))
	record := func(id, kind, description string) *build.CacheRecord {
		return &build.CacheRecord{ID: id, Size: 77, LastUsedAt: old, Type: kind, Description: description}
	}
	ours := `cached mount /x from exec /bin/sh -c make with id "` + l.repository("a") + `//x"`
	young := record("young", "exec.cachemount", ours)
	young.LastUsedAt = new(time.Now())
	records := []*build.CacheRecord{
		record("ours", "exec.cachemount", ours), young, record("layer", "regular", "mount / from exec /bin/sh -c make"),
		record("nameless", "exec.cachemount", "cached mount /x from exec /bin/sh -c make"), record("other", "exec.cachemount", `cached mount /x from exec make with id "/x"`),
		record("server", "exec.cachemount", `cached mount /x from exec make with id "shipgate-99999999/a//x"`), record("kind", "regular", ours),
	}
	var prunes *[]string
	l.docker, prunes = engineWith(t, records, 77)
	for name, collect := range map[string]func(context.Context, bool) ([]store.Garbage, error){"collect": l.collectCache, "alone": l.CollectCache} {
		*prunes = nil
		found, err := collect(t.Context(), false)
		if want := (store.Garbage{Kind: "build cache", App: "a", Name: "ours", Bytes: 77}); err != nil || len(found) != 1 || found[0] != want {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if len(*prunes) != 1 || !strings.Contains((*prunes)[0], "%22id%22%3A%7B%22ours%22") {
			t.Errorf("%s: asked for %q", name, *prunes)
		}
	}
}

func TestCollectCacheAsksForTheAgeAlone(t *testing.T) {
	l := newLab(t, Limits{})
	l.pruneCache = true
	records := []*build.CacheRecord{{ID: "a", Size: 77, LastUsedAt: new(time.Now().Add(-9 * 24 * time.Hour))}}
	var prunes *[]string
	l.docker, prunes = engineWith(t, records, 66)
	found, err := l.collectCache(t.Context(), true)
	if want := (store.Garbage{Kind: "build cache", Name: "unused for 168h0m0s", Bytes: 77}); err != nil || len(found) != 1 || found[0] != want || len(*prunes) != 0 {
		t.Errorf("dry: %+v, %v, asked for %q", found, err, *prunes)
	}
	found, err = l.collectCache(t.Context(), false)
	if err != nil || len(found) != 1 || found[0].Bytes != 66 {
		t.Errorf("%+v, %v", found, err)
	}
	if want := []string{"filters=%7B%22until%22%3A%7B%22168h0m0s%22%3Atrue%7D%7D"}; !slices.Equal(*prunes, want) {
		t.Errorf("asked for %q, want %q", *prunes, want)
	}
	l.docker, _ = engineWith(t, nil, 0)
	if found, err := l.collectCache(t.Context(), false); len(found) != 0 || err != nil {
		t.Errorf("of an empty cache: %+v, %v", found, err)
	}
}

// The engine measures its disk for one client at a time.
func TestCollectCacheWaitsForItsTurn(t *testing.T) {
	l := newLab(t, Limits{})
	records := []*build.CacheRecord{{
		ID: "ours", Size: 77, LastUsedAt: new(time.Now().Add(-9 * 24 * time.Hour)), Type: "exec.cachemount",
		Description: `cached mount /x from exec make with id "` + l.repository("a") + `//x"`,
	}}
	asked := 0
	l.docker = fakeEngine(t, func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"message": "a disk usage operation is already running"}`))
			return
		}
		_ = json.NewEncoder(w).Encode(types.DiskUsage{BuildCache: records})
	})
	found, err := l.CollectCache(t.Context(), true)
	if err != nil || len(found) != 1 || asked != 3 {
		t.Errorf("after %d answers: %+v, %v", asked, found, err)
	}
}

func TestCollectCacheTellsOfTrouble(t *testing.T) {
	l := newLab(t, Limits{})
	l.pruneCache = true
	for _, failing := range []string{"/system/df", "/build/prune"} {
		l.docker = fakeEngine(t, func(w http.ResponseWriter, request *http.Request) {
			if strings.HasSuffix(request.URL.Path, failing) {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = w.Write([]byte("{}"))
		})
		if found, err := l.collectCache(t.Context(), false); len(found) > 0 || err == nil || !strings.Contains(err.Error(), "the build cache") {
			t.Errorf("%s fails: %+v, %v", failing, found, err)
		}
	}
}

// The engine takes an age as we mean it. Only the cache of this test's own build is pruned.
func TestEngineKeepsTheYoungCache(t *testing.T) {
	l := newEngineLab(t)
	l.must(t, commit{"Dockerfile": "FROM " + l.base(t) + "\nRUN echo " + l.app + " > /made\nEXPOSE 80"}, &store.DockerfileConfig{})
	l.removeImages(t) // which shares the cache
	mine := func() string {
		usage, err := l.docker.DiskUsage(context.WithoutCancel(t.Context()), types.DiskUsageOptions{Types: []types.DiskUsageObject{types.BuildCacheObject}})
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range usage.BuildCache {
			if strings.Contains(record.Description, l.app) {
				return record.ID
			}
		}
		return ""
	}
	id := mine()
	if id == "" {
		t.Fatal("the build left nothing in the cache")
	}
	prune := func(unused time.Duration) {
		options := olderThan(unused)
		options.Filters = filters.NewArgs(append([]filters.KeyValuePair{filters.Arg("id", id)}, filters.Arg("until", options.Filters.Get("until")[0]))...)
		if _, err := l.docker.BuildCachePrune(t.Context(), options); err != nil {
			t.Fatal(err)
		}
	}
	prune(cacheOfLate)
	if mine() != id {
		t.Error("what was used in the last hour has gone")
	}
	prune(time.Nanosecond)
	if mine() != "" {
		t.Error("what was not used for the time stayed")
	}
}
