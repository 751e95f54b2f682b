package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"github.com/shipgate/shipgate/store"
)

func TestFailuresOfTheUser(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	for name, c := range map[string]struct {
		dockerfile string
		files      commit
		config     store.DockerfileConfig
		want       string
	}{
		"step":              {dockerfile: "FROM BASE\nRUN echo hi\n\nRUN echo bad >&2; exit 7\nEXPOSE 80", want: "Dockerfile:4: RUN echo bad >&2; exit 7: exit code 7"},
		"unknown word":      {dockerfile: "FROM scratch\nEXPOSE 80\nRUUN x", want: "Dockerfile:3: unknown instruction: RUUN (did you mean RUN?)"},
		"missing argument":  {dockerfile: "FROM scratch\nCOPY x", want: "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined"},
		"missing base":      {dockerfile: "FROM nosuch-base.invalid/x:1\nEXPOSE 80", want: "Dockerfile:1: image nosuch-base.invalid/x:1 is neither local nor pullable"},
		"missing file":      {dockerfile: "FROM scratch\nCOPY nope /x\nEXPOSE 80", want: "Dockerfile:2: nope is not in the build context"},
		"ignored file":      {dockerfile: "FROM scratch\nCOPY key /x\nEXPOSE 80", files: commit{".dockerignore": "key", "key": "x"}, want: "Dockerfile:2: key is not in the build context"},
		"unnamed secret":    {dockerfile: "FROM BASE\nRUN --mount=type=secret,id=x,required cat /run/secrets/x\nEXPOSE 80", want: "Dockerfile:2: the app's build_secrets do not name x"},
		"secret not set":    {dockerfile: "FROM BASE\nEXPOSE 80", config: store.DockerfileConfig{BuildSecrets: []string{"TOKEN"}}, want: "build secret TOKEN is not in the app's env"},
		"copy --parents":    {dockerfile: "FROM scratch\nCOPY --parents ./a /x\nEXPOSE 80", files: commit{"a": "x"}, want: "Dockerfile:2: this Docker engine is too old for COPY --parents and COPY --exclude: it would copy wrongly"},
		"copy --exclude":    {dockerfile: "FROM scratch\nCOPY --exclude=*.txt . /x\nEXPOSE 80", want: "Dockerfile:2: this Docker engine is too old for COPY --parents and COPY --exclude: it would copy wrongly"},
		"no port":           {dockerfile: "FROM scratch\nCOPY Dockerfile /", want: "the image says no port: the Dockerfile has no EXPOSE, and the app no port"},
		"unknown target":    {dockerfile: "FROM scratch\nEXPOSE 80", config: store.DockerfileConfig{Target: "nope"}, want: "target stage \"nope\" could not be found"},
		"empty":             {dockerfile: "", want: "the Dockerfile cannot be empty"},
		"no such context":   {dockerfile: "x", config: store.DockerfileConfig{Context: "app"}, want: "the build context app is not a directory of the commit"},
		"no such file":      {dockerfile: "x", config: store.DockerfileConfig{Dockerfile: "web/Dockerfile"}, want: "there is no web/Dockerfile in the commit"},
		"in a directory":    {files: commit{"app/Dockerfile": "FROM scratch\nCOPY nope /x\nEXPOSE 80"}, config: store.DockerfileConfig{Context: "app"}, want: "app/Dockerfile:2: nope is not in the build context"},
		"LFS, asked for":    {dockerfile: "FROM scratch\nCOPY a/b.bin /x\nEXPOSE 80", files: commit{"a/b.bin": lfsPointer}, want: "a/b.bin is a Git LFS pointer, and the file itself was not pushed"},
		"LFS, in use":       {dockerfile: "FROM scratch\nEXPOSE 80", files: commit{".gitattributes": "*.bin filter=lfs -text", "a/b.bin": lfsPointer}, want: "a/b.bin is a Git LFS pointer, and the file itself was not pushed"},
		"submodule":         {dockerfile: "FROM scratch\nEXPOSE 80", files: commit{"lib/sub": file{store.ModeSubmodule, ""}}, want: "lib/sub is a submodule, and its files were not pushed"},
		"name is not UTF-8": {dockerfile: "FROM scratch\nEXPOSE 80", files: commit{"caf\xe9": "x"}, want: `file name "caf\xe9" is not UTF-8, which BuildKit needs`},
	} {
		t.Run(name, func(t *testing.T) {
			files := commit{}.with(c.files)
			if files["app/Dockerfile"] == nil {
				files["Dockerfile"] = strings.ReplaceAll(c.dockerfile, "BASE", base)
			}
			_, log, err := l.build(t, files, &c.config)
			p := problem(t, err, store.CodeFailed)
			if p.Message != c.want || p.Hint == "" {
				t.Errorf("problem is %q, hint %q, want %q\n%s", p.Message, p.Hint, c.want, log)
			}
		})
	}
}

const lfsPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

// damaged is a commit with a file that cannot be read to its end.
type damaged struct {
	commit
	path  string
	short bool
}

func (d damaged) Open(name string) (io.ReadCloser, error) {
	content, err := d.commit.Open(name)
	if err != nil || name != d.path {
		return content, err
	}
	if d.short {
		return io.NopCloser(io.LimitReader(content, 100)), nil
	}
	return nil, errors.New("the pack is damaged")
}

func TestDamagedCommitEndsTheBuild(t *testing.T) {
	l := newEngineLab(t)
	for name, short := range map[string]bool{"open fails": false, "content is short": true} {
		t.Run(name, func(t *testing.T) {
			_, _, err := l.build(t, damaged{commit{
				"Dockerfile": "FROM scratch\nCOPY a /a\nEXPOSE 80", "a": strings.Repeat(l.app, 1000),
			}, "a", short}, &store.DockerfileConfig{})
			if err == nil || store.CodeOf(err) != store.CodeErrored || !strings.Contains(err.Error(), "a of the commit") {
				t.Errorf("the build ended with %v", err)
			}
		})
	}
}

func TestWhatIsIgnoredMayBeAnything(t *testing.T) {
	l := newEngineLab(t)
	l.must(t, commit{
		"Dockerfile":     "FROM scratch\nCOPY . /c\nEXPOSE 80",
		".dockerignore":  "*.bin\nsub\ncaf*\n",
		".gitattributes": "*.bin filter=lfs",
		"big.bin":        lfsPointer,
		"sub":            file{store.ModeSubmodule, ""},
		"caf\xe9":        "x",
	}, &store.DockerfileConfig{})
}

func TestDockerfileHasItsOwnIgnoreFile(t *testing.T) {
	l := newEngineLab(t)
	l.must(t, commit{
		"web.Dockerfile":              "FROM scratch\nCOPY . /c\nEXPOSE 80",
		"web.Dockerfile.dockerignore": "sub\n",
		".dockerignore":               "other\n",
		"sub":                         file{store.ModeSubmodule, ""},
	}, &store.DockerfileConfig{Dockerfile: "web.Dockerfile"})
}

// lane is a way to the engine that can be cut.
type lane struct {
	listener net.Listener
	mu       sync.Mutex
	open     []net.Conn
}

func newLane(t *testing.T, socket string) *lane {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l := &lane{listener: listener}
	var carrying sync.WaitGroup
	t.Cleanup(func() { l.cut(); carrying.Wait() })
	carrying.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				return
			}
			l.mu.Lock()
			l.open = append(l.open, from, to)
			l.mu.Unlock()
			carrying.Go(func() { io.Copy(to, from); to.(*net.UnixConn).CloseWrite() })
			carrying.Go(func() { io.Copy(from, to); from.(*net.UnixConn).CloseWrite() })
		}
	})
	return l
}

func (l *lane) cut() {
	l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, connection := range l.open {
		connection.Close()
	}
}

func TestEngineGoesAwayInMidBuild(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	socket, local := strings.CutPrefix(l.docker.DaemonHost(), "unix://")
	if !local {
		t.Skip("NOT TESTED, the engine has no socket here")
	}
	way := newLane(t, socket)
	direct := l.docker
	through, err := client.NewClientWithOpts(client.WithHost("unix://"+way.listener.Addr().String()), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	l.docker = through
	var once sync.Once
	_, log, err := l.buildUnder(t.Context(), 1, commit{
		"Dockerfile": "FROM " + base + "\nRUN echo now sleeping; sleep 3 # " + l.app + "\nEXPOSE 80",
	}, &store.DockerfileConfig{}, func(line string) {
		if strings.HasSuffix(line, "now sleeping") {
			once.Do(way.cut)
		}
	})
	l.docker = direct
	p := problem(t, err, store.CodeErrored)
	if !strings.HasPrefix(p.Message, "the Docker engine does not answer at unix://") || p.Hint != "sudo systemctl start docker" {
		t.Errorf("problem is %q, hint %q\n%s", p.Message, p.Hint, log)
	}
}

func TestCancellingEndsTheStep(t *testing.T) {
	l := newEngineLab(t)
	marker := fmt.Sprint("sleep ", 100_000_000+rand.IntN(100_000_000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var once sync.Once
	seen := func(line string) {
		if strings.Contains(line, "now sleeping") && !strings.Contains(line, "RUN") {
			once.Do(func() {
				if !runs(t, marker) {
					t.Error("the step cannot be seen from here: this test proves nothing")
				}
				cancel()
			})
		}
	}
	_, log, err := l.buildUnder(ctx, 1, commit{
		"Dockerfile": "FROM " + l.base(t) + "\nRUN echo now sleeping; " + marker + "\nEXPOSE 80",
	}, &store.DockerfileConfig{}, seen)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the build ended with %v\n%s", err, log)
	}
	for deadline := time.Now().Add(patience); runs(t, marker); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the step still runs")
		}
	}
}

// runs says whether a process with these arguments is on this host.
func runs(t *testing.T, arguments string) bool {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		line, _ := os.ReadFile(name) // processes end while we look
		if strings.HasSuffix(strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")), arguments) {
			return true
		}
	}
	return false
}

func TestNoEngine(t *testing.T) {
	l := newLab(t, Limits{})
	docker, err := client.NewClientWithOpts(client.WithHost("unix://" + filepath.Join(t.TempDir(), "none.sock")))
	if err != nil {
		t.Fatal(err)
	}
	l.docker = docker
	_, _, err = l.build(t, commit{"Dockerfile": "FROM scratch\nEXPOSE 80"}, &store.DockerfileConfig{})
	p := problem(t, err, store.CodeErrored)
	if !strings.HasPrefix(p.Message, "the Docker engine does not answer at unix://") || p.Hint != "sudo systemctl start docker" {
		t.Errorf("problem is %q, hint %q", p.Message, p.Hint)
	}
	if _, err := l.ImagePresent(t.Context(), "sha256:x"); store.CodeOf(err) != store.CodeErrored {
		t.Errorf("ImagePresent gives %v", err)
	}
	if err := l.Preflight(t.Context()); err != nil {
		t.Errorf("Preflight gives %v: a site needs no engine", err)
	}
}

func TestVanished(t *testing.T) {
	for text, want := range map[string]bool{
		"failed to solve: failed to get layer sha256:aa: layer does not exist": true,
		"content digest sha256:" + strings.Repeat("a", 64) + ": not found":     true,
		"failed to compute cache key: \"/nope\" not found: not found":          false,
		"executor failed running [/bin/sh -c exit 7]: exit code: 7":            false,
	} {
		if vanished(errors.New(text)) != want {
			t.Errorf("vanished(%q) is %t", text, !want)
		}
	}
	if vanished(nil) {
		t.Error("vanished(nil)")
	}
}

func TestLineLog(t *testing.T) {
	for name, c := range map[string]struct {
		written []string
		want    []string
	}{
		"pieces":           {[]string{"#1 on", "e\n#1 tw", "o\n", "#1 rest"}, []string{"#1 one", "#1 two", "#1 rest"}},
		"blank lines":      {[]string{"a\n\n\nb\n"}, []string{"a", "b"}},
		"colour":           {[]string{"\x1b[31mred\x1b[0m \x1b]0;title\x07x\n"}, []string{"red x"}},
		"progress bars":    {[]string{"#5 0.1 10%\r20%\r30%\n"}, []string{"#5 30%"}},
		"carriage return":  {[]string{"a\r\nb\r\n"}, []string{"a", "b"}},
		"control letters":  {[]string{"a\x00\x08b\tc\n"}, []string{"ab\tc"}},
		"secret":           {[]string{"#1 token hun", "ter2 and line-two\n"}, []string{"#1 token *** and ***"}},
		"one in the other": {[]string{"hunter2-long\n"}, []string{"***"}},
		"very long":        {[]string{strings.Repeat("é", 5000) + "\n"}, []string{strings.Repeat("é", 2048) + "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			log := newLineLog(func(line string) { got = append(got, line) }, map[string][]byte{
				"A": []byte("hunter2"), "B": []byte("hunter2-long"), "C": []byte("line-one\nline-two\n"), "SHORT": []byte("a"),
			})
			for _, text := range c.written {
				fmt.Fprint(log, text)
			}
			log.flush()
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
