package store

import (
	"fmt"
	"strings"
	"testing"
)

func TestRepoFileDoesNotLiftTheAppsLimits(t *testing.T) {
	for _, c := range []struct {
		blob, file string
		want       Resources
		notes      string
	}{
		{`{"resources":{"memory":"64m","cpus":0.5,"pids":50}}`, "{memory: 20g, cpus: 2, pids: 100000}", Resources{64 << 20, 0.5, 50}, "memory 20g cpus 2 pids 100000"},
		{`{"resources":{"memory":"64m","cpus":0.5,"pids":50}}`, "{memory: 32m, cpus: 0.25, pids: 20}", Resources{32 << 20, 0.25, 20}, ""},
		{`{"resources":{"memory":"64m"}}`, "{memory: 64m}", Resources{Memory: 64 << 20}, ""},
		{`{}`, "{memory: 1g, cpus: 4, pids: 513}", Resources{1 << 30, 4, DefaultPIDs}, "pids 513"},
		{``, "{pids: 100}", Resources{PIDs: 100}, ""},
	} {
		file := must[*RepoFile](t)(DecodeRepoFile([]byte("resources: " + c.file)))
		config, _, err := file.Over(SourceDockerfile, []byte(c.blob))
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Shared().Resources; got != c.want {
			t.Errorf("%s over %s: %+v, want %+v", c.file, c.blob, got, c.want)
		}
		_, notes := file.Limited([]byte(c.blob))
		var said []string
		for _, note := range notes {
			var key, value string
			_, _ = fmt.Sscanf(strings.TrimPrefix(note, "resources."), "%s %s", &key, &value)
			said = append(said, key, value)
		}
		if got := strings.Join(said, " "); got != c.notes {
			t.Errorf("%s over %s: notes %q, want %q", c.file, c.blob, notes, c.notes)
		}
	}
}
