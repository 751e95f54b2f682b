package builder

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

func TestBuildScratchImage(t *testing.T) {
	l := newEngineLab(t)
	artefact := l.must(t, commit{
		"Dockerfile": "FROM scratch\nCOPY hello.txt /hello.txt\nEXPOSE 8080\n",
		"hello.txt":  "hello",
	}, &store.DockerfileConfig{})
	if artefact.Port != 8080 || artefact.ImageTag != l.repository(l.app)+":1" {
		t.Errorf("artefact is %+v", artefact)
	}
	if got := l.read(t, artefact.Image, "hello.txt"); got != "hello" {
		t.Errorf("hello.txt is %q", got)
	}
	found, err := l.docker.ImageInspect(t.Context(), artefact.ImageTag)
	if err != nil {
		t.Fatal(err)
	}
	if found.ID != artefact.Image {
		t.Errorf("the tag is on %s, the artefact is %s", found.ID, artefact.Image)
	}
	labels := found.Config.Labels
	if labels[store.LabelApp] != l.app || labels[store.LabelDeployment] != "1" || labels[store.LabelData] != l.serverID {
		t.Errorf("labels are %v", labels)
	}
}

func TestImagePresent(t *testing.T) {
	l := newEngineLab(t)
	artefact := l.must(t, commit{"Dockerfile": "FROM scratch\nCOPY a /a\nEXPOSE 1", "a": l.app}, &store.DockerfileConfig{})
	present := func() bool {
		there, err := l.ImagePresent(t.Context(), artefact.Image)
		if err != nil {
			t.Fatal(err)
		}
		return there
	}
	if !present() {
		t.Error("an image that was built is said to be missing")
	}
	if _, err := l.docker.ImageRemove(t.Context(), artefact.Image, image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if present() {
		t.Error("an image that was removed is said to be there")
	}
}

// BuildKit's file sync compares size and time only: a context without checkout has to change the time with the content.
func TestEqualSizeChangeIsSeen(t *testing.T) {
	l := newEngineLab(t)
	c := commit{"Dockerfile": "FROM scratch\nCOPY a /a\nEXPOSE 1", "a": "one"}
	l.must(t, c, &store.DockerfileConfig{})
	artefact := l.must(t, c.with(commit{"a": "two"}), &store.DockerfileConfig{})
	if got := l.read(t, artefact.Image, "a"); got != "two" {
		t.Errorf("the second build has %q, the content of the first", got)
	}
	artefact = l.must(t, c.with(commit{"a": file{store.ModeExecutable, "two"}}), &store.DockerfileConfig{})
	if mode := l.contents(t, artefact.Image)["a"].Mode & 0o777; mode != 0o755 {
		t.Errorf("the third build has mode %o", mode)
	}
}

func TestContextReachesTheImage(t *testing.T) {
	l := newEngineLab(t)
	artefact := l.must(t, commit{
		".dockerignore":   "*.log\n!keep.log\nprivate\n",
		"Dockerfile":      "FROM scratch\nCOPY . /c\nEXPOSE 1",
		"debug.log":       "x",
		"keep.log":        "kept",
		"private/key":     "x",
		"bin/run":         file{store.ModeExecutable, "#!/bin/sh"},
		"bin.txt":         "sorted before bin/ by git, after it by everybody else",
		"bin-x/a":         "x",
		"latest":          file{store.ModeSymlink, "bin/run"},
		"absolute":        file{store.ModeSymlink, "/etc/passwd"},
		"deep/er/file":    "deep",
		"name with space": "x",
	}, &store.DockerfileConfig{})
	got := l.contents(t, artefact.Image)
	for name, want := range map[string]tar.Header{
		"c/keep.log":        {Mode: 0o644, Size: 4, Typeflag: tar.TypeReg},
		"c/bin/":            {Mode: 0o755, Typeflag: tar.TypeDir},
		"c/bin/run":         {Mode: 0o755, Size: 9, Typeflag: tar.TypeReg},
		"c/bin.txt":         {Mode: 0o644, Size: 53, Typeflag: tar.TypeReg},
		"c/bin-x/a":         {Mode: 0o644, Size: 1, Typeflag: tar.TypeReg},
		"c/latest":          {Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: "bin/run"},
		"c/absolute":        {Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"c/deep/er/file":    {Mode: 0o644, Size: 4, Typeflag: tar.TypeReg},
		"c/name with space": {Mode: 0o644, Size: 1, Typeflag: tar.TypeReg},
	} {
		h, ok := got[name]
		if !ok || h.Mode&0o777 != want.Mode || h.Size != want.Size || h.Typeflag != want.Typeflag || h.Linkname != want.Linkname || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is %+v (there: %t), want %+v", name, h, ok, want)
		}
	}
	for _, name := range []string{"c/debug.log", "c/private/", "c/private/key"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is ignored, and in the image", name)
		}
	}
}

func TestDockerfileFeatures(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	secret := "s3cret-" + l.app
	for name, c := range map[string]struct {
		commit commit
		config store.DockerfileConfig
		env    []string
		want   string // content of /out
	}{
		"heredoc":             {commit: commit{"Dockerfile": "FROM BASE\nRUN <<EOF\necho one > /out\necho two >> /out\nEOF\n"}, want: "one\ntwo\n"},
		"syntax line":         {commit: commit{"Dockerfile": "# syntax=nosuch.invalid/frontend:1\nFROM BASE\nRUN echo x > /out\n"}, want: "x\n"},
		"build argument":      {commit: commit{"Dockerfile": "ARG B\nFROM BASE\nARG A\nRUN echo $A > /out\n"}, config: store.DockerfileConfig{BuildArgs: map[string]string{"A": "given"}}, want: "given\n"},
		"target":              {commit: commit{"Dockerfile": "FROM BASE AS a\nRUN echo a > /out\nFROM BASE AS b\nRUN exit 1\n"}, config: store.DockerfileConfig{Target: "a"}, want: "a\n"},
		"several stages":      {commit: commit{"Dockerfile": "FROM BASE AS a\nRUN echo a > /made\nFROM scratch\nCOPY --from=a /made /out\n"}, want: "a\n"},
		"secret":              {commit: commit{"Dockerfile": "FROM BASE\nRUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN; head -c 8 /run/secrets/TOKEN > /out # LAB\n"}, config: store.DockerfileConfig{BuildSecrets: []string{"TOKEN"}}, env: []string{"TOKEN=" + secret, "OTHER=x"}, want: secret[:8]},
		"context directory":   {commit: commit{"app/Dockerfile": "FROM BASE\nCOPY . /c\nRUN ls /c > /out\n", "outside": "x", "app/inside": "x"}, config: store.DockerfileConfig{Context: "app"}, want: "Dockerfile\ninside\n"},
		"other Dockerfile":    {commit: commit{"build/web.Dockerfile": "FROM BASE\nCOPY . /c\nRUN ls /c > /out\n", "build/web.Dockerfile.dockerignore": "build\nb", ".dockerignore": "a", "a": "x", "b": "x"}, config: store.DockerfileConfig{Dockerfile: "build/web.Dockerfile"}, want: "a\n"},
		"Dockerfile is link":  {commit: commit{"Dockerfile": file{store.ModeSymlink, "build/Dockerfile"}, "build/Dockerfile": "FROM BASE\nRUN echo x > /out\n"}, want: "x\n"},
		"lower case":          {commit: commit{"dockerfile": "FROM BASE\nRUN echo x > /out\n"}, want: "x\n"},
		"symlink is followed": {commit: commit{"Dockerfile": "FROM BASE\nCOPY dir/ /c/\nRUN cat /c/f > /out\n", "dir": file{store.ModeSymlink, "real"}, "real/f": "linked"}, want: "linked"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"Dockerfile", "dockerfile", "app/Dockerfile", "build/Dockerfile", "build/web.Dockerfile"} {
				if text, ok := c.commit[path].(string); ok {
					c.commit[path] = strings.NewReplacer("BASE", base, "LAB", l.app).Replace(text)
				}
			}
			c.config.Port = 8080
			artefact, log, err := l.build(t, c.commit, &c.config, c.env...)
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if got := l.read(t, artefact.Image, "out"); got != c.want {
				t.Errorf("/out is %q, want %q\n%s", got, c.want, log)
			}
			if strings.Contains(log, secret) {
				t.Errorf("the log shows the secret:\n%s", log)
			}
			if name == "secret" && !strings.Contains(log, "***") {
				t.Errorf("the log does not show where the secret was:\n%s", log)
			}
			if name == "syntax line" && !strings.Contains(log, "# syntax=nosuch.invalid/frontend:1 is ignored") {
				t.Errorf("the log is silent about the syntax line:\n%s", log)
			}
		})
	}
}

func TestCacheMountLastsFromBuildToBuild(t *testing.T) {
	l := newEngineLab(t)
	text := "FROM " + l.base(t) + "\nARG N\nRUN --mount=type=cache,id=" + l.app + ",target=/cache cat /cache/* > /out; touch /cache/$N; echo $N > /cache/$N\nEXPOSE 1"
	config := func(n string) *store.DockerfileConfig {
		return &store.DockerfileConfig{BuildArgs: map[string]string{"N": n}}
	}
	l.must(t, commit{"Dockerfile": text}, config("first"))
	artefact := l.must(t, commit{"Dockerfile": text}, config("second"))
	if got := l.read(t, artefact.Image, "out"); got != "first\n" {
		t.Errorf("the second build found %q in the cache", got)
	}
}

func TestBuildIsRepeatable(t *testing.T) {
	l := newEngineLab(t)
	c := commit{"Dockerfile": "FROM scratch\nCOPY a /a\nEXPOSE 1", "a": "x"}
	for range 2 {
		if _, log, err := l.buildUnder(t.Context(), 7, c, &store.DockerfileConfig{}, nil); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
	}
}

func TestChoosePort(t *testing.T) {
	for name, c := range map[string]struct {
		configured int
		exposed    string
		want       int
		message    string
	}{
		"the app's goes first":    {3000, "8080/tcp", 3000, ""},
		"the one exposed":         {0, "8080/tcp", 8080, ""},
		"UDP does not count":      {0, "53/udp 8080/tcp", 8080, ""},
		"none":                    {0, "", 0, "the image says no port: the Dockerfile has no EXPOSE, and the app no port"},
		"only UDP":                {0, "53/udp", 0, "the image says no port: the Dockerfile has no EXPOSE, and the app no port"},
		"several, by number":      {0, "9000/tcp 80/tcp", 0, "the image exposes several ports, 80 9000, and the app does not say which"},
		"several, but configured": {80, "9000/tcp 80/tcp", 80, ""},
	} {
		t.Run(name, func(t *testing.T) {
			exposed := map[string]struct{}{}
			for _, port := range strings.Fields(c.exposed) {
				exposed[port] = struct{}{}
			}
			port, err := choosePort("hello", c.configured, exposed)
			if port != c.want {
				t.Errorf("port is %d, want %d", port, c.want)
			}
			if c.message == "" {
				if err != nil {
					t.Error(err)
				}
			} else if p := problem(t, err, store.CodeFailed); p.Message != c.message || p.Hint == "" {
				t.Errorf("problem is %q, hint %q", p.Message, p.Hint)
			}
		})
	}
}
