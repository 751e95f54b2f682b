package builder

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func TestDefaultLimits(t *testing.T) {
	if got := (Limits{}).or(8<<30, 4); got != (Limits{Memory: 6 << 30, CPUs: 3.75}) {
		t.Errorf("defaults are %+v", got)
	}
	given := Limits{Memory: 512 << 20, CPUs: 1}
	if got := given.or(8<<30, 4); got != given {
		t.Errorf("%+v became %+v", given, got)
	}
	if got := given.String(); got != "each step may use 512 MiB of memory and 1 CPUs" {
		t.Errorf("limits read %q", got)
	}
}

func TestSettings(t *testing.T) {
	limits := Limits{Memory: 1 << 20, CPUs: 1.5}
	for version, want := range map[string][]setting{
		"1": {{"/r/memory/docker/buildkit", "memory.limit_in_bytes", "1048576"}, {"/r/cpu/docker/buildkit", "cpu.cfs_quota_us", "150000"}},
		"2": {{"/r", "memory.max", "1048576"}, {"/r", "cpu.max", "150000 100000"}, {"/r/docker/buildkit", "memory.max", "1048576"}, {"/r/docker/buildkit", "cpu.max", "150000 100000"}},
	} {
		got := settings("/r", version, limits)
		if len(got) != len(want) {
			t.Fatalf("version %s: %v", version, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("version %s: %v, want %v", version, got[i], want[i])
			}
		}
	}
}

func TestWithMarker(t *testing.T) {
	given := map[string]string{"NO_PROXY": "a.example", "X": "1"}
	if got := withMarker(given, "m"); got["NO_PROXY"] != "a.example,m" || got["X"] != "1" || given["NO_PROXY"] != "a.example" {
		t.Errorf("got %v from %v", got, given)
	}
	if got := withMarker(map[string]string{"no_proxy": "a"}, "m"); got["no_proxy"] != "a,m" || len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if got := withMarker(nil, "m"); got["NO_PROXY"] != "m" {
		t.Errorf("got %v", got)
	}
}

// needsLimits skips where we cannot limit a step, for want of rights or because the engine is elsewhere.
func needsLimits(t *testing.T, l *lab) {
	t.Helper()
	info, err := l.docker.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadDir(filepath.Join(info.DockerRootDir, "buildkit", "executor")); err != nil || os.Geteuid() != 0 {
		t.Skip("NOT TESTED, the steps of a build cannot be limited here: ", err, ", user ", os.Geteuid())
	}
	if info.CgroupVersion == "2" {
		t.Skip("NOT TESTED, the engine's control groups are of version 2")
	}
}

func TestStepOutOfMemory(t *testing.T) {
	l := newEngineLab(t)
	needsLimits(t, l)
	l.limits = Limits{Memory: 64 << 20, CPUs: 1}
	_, log, err := l.build(t, commit{
		"Dockerfile": "FROM " + l.base(t) + "\nRUN sleep 1; dd if=/dev/zero of=/dev/null bs=200M count=1 # " + l.app + "\nEXPOSE 80",
	}, &store.DockerfileConfig{})
	p := problem(t, err, store.CodeFailed)
	if !strings.HasPrefix(p.Message, "Dockerfile:2: RUN sleep 1; dd") || !strings.HasSuffix(p.Message, "was killed (exit code 137), most likely for want of memory; each step may use 64 MiB of memory and 1 CPUs") {
		t.Errorf("problem is %q\n%s", p.Message, log)
	}
}

func TestStepHasLimitsAndOthersHaveNot(t *testing.T) {
	l, other := newEngineLab(t), newEngineLab(t)
	needsLimits(t, l)
	l.limits, other.limits = Limits{Memory: 64 << 20, CPUs: 0.5}, Limits{Memory: 128 << 20, CPUs: 1}
	text := "FROM BASE\nRUN echo now sleeping; sleep 2 # LAB\nEXPOSE 80"
	var seen sync.Map
	var builds sync.WaitGroup
	for _, lab := range []*lab{l, other} {
		dockerfile := strings.NewReplacer("BASE", lab.base(t), "LAB", lab.app).Replace(text)
		builds.Go(func() {
			_, text, err := lab.buildUnder(t.Context(), 1, commit{"Dockerfile": dockerfile}, &store.DockerfileConfig{}, func(line string) {
				if !strings.Contains(line, "now sleeping") {
					return
				}
				groups, _ := filepath.Glob("/sys/fs/cgroup/memory/docker/buildkit/*/memory.limit_in_bytes")
				for _, group := range groups {
					limit, _ := os.ReadFile(group) // it may be gone
					quota, _ := os.ReadFile(strings.Replace(filepath.Dir(group), "/memory/", "/cpu/", 1) + "/cpu.cfs_quota_us")
					seen.Store(strings.TrimSpace(string(limit))+" "+strings.TrimSpace(string(quota)), true)
				}
			})
			if err != nil {
				t.Errorf("%v\n%s", err, text)
			}
		})
	}
	builds.Wait()
	for _, want := range []string{"67108864 50000", "134217728 100000"} {
		if _, ok := seen.Load(want); !ok {
			t.Errorf("no step had %s", want)
		}
	}
}

func TestMarkerDoesNotSpoilTheCache(t *testing.T) {
	l := newEngineLab(t)
	c := commit{"Dockerfile": "FROM " + l.base(t) + "\nRUN echo once # " + l.app + "\nEXPOSE 80"}
	l.must(t, c, &store.DockerfileConfig{})
	_, log, err := l.build(t, c, &store.DockerfileConfig{})
	if err != nil || !strings.Contains(log, "CACHED") || strings.Contains(log, "#5 0.") {
		t.Errorf("the second build ran the step again (%v):\n%s", err, log)
	}
}
