package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a server, gc removes build cache that names this server, and nothing where the server's id is not known.
func TestCollectWithoutServer(t *testing.T) {
	var prunes []string
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(request.URL.Path, "/system/df"):
			record := `{"ID": %q, "Type": "exec.cachemount", "Size": 77, "LastUsedAt": "2020-01-01T00:00:00Z", "Description": "cached mount /x from exec make with id \"shipgate-%s/a//x\""}`
			_, _ = io.WriteString(w, `{"BuildCache": [`+fmt.Sprintf(record, "ours", "01234567")+","+fmt.Sprintf(record, "theirs", "89abcdef")+`]}`)
		case strings.HasSuffix(request.URL.Path, "/build/prune"):
			prunes = append(prunes, request.URL.Query().Get("filters"))
			_, _ = io.WriteString(w, `{}`)
		default:
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	defer engine.Close()
	t.Setenv("DOCKER_HOST", "tcp://"+strings.TrimPrefix(engine.URL, "http://"))
	t.Setenv("DOCKER_API_VERSION", "1.41")
	for id, want := range map[string]string{"0123456789abcdef": "ours", "": "nothing was removed", "0123456": "nothing was removed", "89abcdef/../../01": "nothing was removed"} {
		prunes = nil
		dir := t.TempDir()
		for name, content := range map[string]string{"admin-token": "sg_1", "server.json": fmt.Sprintf(`{"local": "http://127.0.0.1:1", "server_id": %q}`, id)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		environment := map[string]string{"SHIPGATE_DATA": dir}
		if got := shipgate(t.Context(), environment, "", "gc", "--dry-run"); got.code != exitErrored || !strings.Contains(got.stdout, want) || len(prunes) > 0 {
			t.Errorf("dry with id %q: exit %d, %s%s, pruned %q", id, got.code, got.stdout, got.stderr, prunes)
		}
		got := shipgate(t.Context(), environment, "", "gc")
		if got.code != exitErrored || !strings.Contains(got.stdout, want) || !strings.Contains(got.stderr, "only its build cache") || strings.Contains(got.stdout, "theirs") {
			t.Errorf("with id %q: exit %d, %s%s", id, got.code, got.stdout, got.stderr)
		}
		if pruned := strings.Join(prunes, " "); strings.Contains(pruned, "theirs") || (want == "ours") != strings.Contains(pruned, "ours") {
			t.Errorf("with id %q pruned %q", id, pruned)
		}
	}
}
