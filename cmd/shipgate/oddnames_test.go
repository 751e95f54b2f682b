package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// oddNames are names of files that git, a shell, a URL or a tar stream could take for something else.
var oddNames = []string{
	"a space.txt", " first", "last ", "two  spaces", "a\ttab", "a\nline", "a\x01control", "a\x7fdelete", "a+plus", "100%.txt", "a%20b", "a%2Fb", "%", "%zz",
	"a?b=c", "a#b", "a&b=c", "a;b", "a,b", "a:b", "a@b", "a=b", "a!b", "a~b", "~", "a^b", "a|b", "a*b", "a'b", `a"b`, "a<b>", "[a]", "{a}", "(a)", "$HOME", "$(id)", "`id`",
	"-rf", "--help", "@", "null", "CON", "a..b", "...", "a.tar.gz", "UPPER.TXT", "upper.txt",
	"caf\u00e9", "cafe\u0301", "\u65e5\u672c\u8a9e", "\U0001f600", "\u202egnp.txt", "a\u00a0b", "a\u200bb", "\ufeffa", "a\u2028b",
	strings.Repeat("n", 250), strings.Repeat("d/", 60) + "deep", "dir with space/a & b/c",
}

// Files with odd names are pushed, published and copied into images as any other is, each with its own content.
func TestOddFileNames(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, dir, nil)
	s.ready(t)
	found := must(readServerFile(dir))
	folder := t.TempDir()
	for _, name := range append([]string{"index.html"}, oddNames...) {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("content of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("static", func(t *testing.T) {
		pushNew(t, dir, folder, "odd-site", "--source", "static", "--publish-dir", ".")
		for _, name := range oddNames {
			if !strings.HasPrefix(name, ".") { // which is not published
				expectContent(t, found.Public, "odd-site", "/"+escaped(name), name)
			}
		}
	})
	t.Run("dockerfile", func(t *testing.T) {
		requireEngine(t)
		for name, content := range map[string]string{"testapp": string(must(os.ReadFile(filepath.Join(programs(t), "testapp")))),
			"Dockerfile": "FROM scratch\nCOPY . /c\nCOPY testapp /testapp\nEXPOSE 8080\nENTRYPOINT [\"/testapp\"]\n"} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pushNew(t, dir, folder, "odd-image", "--source", "dockerfile")
		for _, name := range oddNames {
			expectContent(t, found.Public, "odd-image", "/file?path="+url.QueryEscape("/c/"+name), name)
		}
	})
	destroy(t, dir, "odd-site", "odd-image")
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func escaped(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

func expectContent(t *testing.T, public, app, path, name string) {
	t.Helper()
	request := must(http.NewRequestWithContext(t.Context(), http.MethodGet, public+path, nil))
	request.Host = app + ".localhost"
	response := must(http.DefaultClient.Do(request))
	defer response.Body.Close()
	if body := must(io.ReadAll(response.Body)); response.StatusCode != http.StatusOK || string(body) != "content of "+name {
		t.Errorf("%q answers %d %.80q", name, response.StatusCode, body)
	}
}

// pushNew creates an app and pushes a folder to it.
func pushNew(t *testing.T, dir, folder, app string, create ...string) {
	t.Helper()
	env := map[string]string{"SHIPGATE_DATA": dir}
	got := shipgate(t.Context(), env, "", append([]string{"app", "create", app, "--host", app + ".localhost", "--no-token"}, create...)...)
	token := shipgate(t.Context(), env, "", "token", "create", "--rights", "deploy", "--app", app)
	if got.code != exitDone || token.code != exitDone {
		t.Fatalf("%s%s", got.stderr, token.stderr)
	}
	script := `rm -rf .git; git init -q -b main && git add -A -f && git commit -q -m all && exec git push -q "$1" main`
	address := strings.Replace(must(readServerFile(dir)).Local, "://", "://x:"+strings.TrimSpace(token.stdout)+"@", 1)
	command := exec.Command("sh", "-ec", script, "sh", address+"/"+app+".git")
	command.Dir = folder
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@localhost", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@localhost")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("push %s: %v\n%s", app, err, output)
	}
}

func destroy(t *testing.T, dir string, apps ...string) {
	t.Helper()
	for _, app := range apps {
		got := shipgate(t.Context(), map[string]string{"SHIPGATE_DATA": dir}, "", "app", "destroy", app, "--yes", "--with-data")
		if got.code != exitDone {
			t.Logf("destroy %s: %s", app, got.stderr)
		}
	}
}
