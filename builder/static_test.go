package builder

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/image"

	"github.com/shipgate/shipgate/store"
)

// imageIDs lists every image of the engine that is ours.
func (l *lab) imageIDs(t *testing.T) []string {
	t.Helper()
	images, err := l.docker.ImageList(t.Context(), image.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, one := range images {
		if one.Labels[store.LabelData] == l.serverID {
			ids = append(ids, one.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (l *lab) temporaries(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(l.sites.temporary(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestStaticBuild(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	before := l.imageIDs(t)
	files := commit{
		"src/page.txt": "hello", ".dockerignore": "src", ".env": "SECRET=1", "publish/index.html": "not this one",
	}
	config := &store.StaticConfig{PublishDir: "publish", Build: &store.StaticBuild{
		Image: base, Output: "./out/site/", Command: `set -e
			test ! -e .git && test -e .env
			mkdir -p out/site/.well-known && cat src/page.txt > out/site/index.html
			cat > "out/site/a<b>\$\"c\".txt" <<END
here
END
			echo x > out/site/.secret; echo y > out/site/.well-known/security.txt
			echo '/old /new 301' > out/site/_redirects
			busybox ln -s index.html out/site/inside; busybox ln -s /etc/passwd out/site/outside; busybox ln -s ../../src/page.txt out/site/above
			busybox mkfifo out/site/pipe; busybox chmod 0 out/site/index.html
			echo "env: [$TOKEN]"`,
	}}
	artefact, log, err := l.build(t, files, config, "TOKEN=seven-of-nine")
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if artefact.Image != "" || artefact.ImageTag != "" || artefact.Site == "" {
		t.Errorf("artefact is %+v, want a site alone", artefact)
	}
	m, published := l.published(t, artefact)
	want := map[string]string{`a<b>$"c".txt`: "here\n", "index.html": "hello", "inside": "hello", ".well-known/security.txt": "y\n"}
	if !maps.Equal(published, want) {
		t.Errorf("published %q, want %q", published, want)
	}
	if len(m.Redirects) != 1 || m.Version != 2 {
		t.Errorf("manifest has version %d and redirects %v", m.Version, m.Redirects)
	}
	for _, said := range []string{"symlink outside is left out", "symlink above is left out", "env: []", "1 dotfiles are left out"} {
		if !strings.Contains(log, said) {
			t.Errorf("log does not say %q:\n%s", said, log)
		}
	}
	if after := l.imageIDs(t); !slices.Equal(before, after) {
		t.Errorf("images of ours: %v before the build, %v after it", before, after)
	}
	if left := l.temporaries(t); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// A cache is kept from build to build, and is one app's own.
func TestStaticBuildCache(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	config := &store.StaticConfig{Build: &store.StaticBuild{
		Image: base, Output: "out", Cache: []string{"/var/kept"},
		Command: `mkdir -p out; cat /var/kept/seen > out/index.html; echo "$0 seen" >> /var/kept/seen; cat stamp >> /var/kept/seen; true`,
	}}
	builds := func(stamp string) string {
		t.Helper()
		artefact := l.must(t, commit{"stamp": stamp}, config)
		_, published := l.published(t, artefact)
		return published["index.html"]
	}
	if first := builds("one"); first != "" {
		t.Errorf("the first build found %q in its cache", first)
	}
	if second := builds("two"); !strings.Contains(second, "one") {
		t.Errorf("the second build found %q in its cache", second)
	}
	l.app += "b"
	if other := builds("three"); other != "" {
		t.Errorf("another app's build found %q in its cache", other)
	}
}

func TestStaticBuildMistakes(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	for name, c := range map[string]struct {
		build store.StaticBuild
		files commit
		want  string
		hint  string
	}{
		"command fails":        {build: store.StaticBuild{Command: "echo zero; echo one; echo two; echo exit code: 3; echo; exit 7"}, want: "build.command echo zero; echo one; echo two; echo exit code: 3; echo; exit 7: exit code 7: one | two | exit code: 3", hint: "shipgate show"},
		"silent command fails": {build: store.StaticBuild{Command: "exit 9"}, want: "build.command exit 9: exit code 9", hint: "shipgate show"},
		"killed":               {build: store.StaticBuild{Command: "exit 137"}, want: "build.command exit 137 was killed (exit code 137), most likely for want of memory", hint: "memory"},
		"no output":            {build: store.StaticBuild{Command: "true"}, want: "build.output dist is not a directory after the build", hint: "correct \"output\""},
		"output is a file":     {build: store.StaticBuild{Command: "echo x > dist"}, want: "build.output dist is not a directory after the build", hint: "correct \"output\""},
		"empty output":         {build: store.StaticBuild{Command: "mkdir dist"}, want: "build.output dist has no files to publish", hint: "see what the command makes"},
		"only dotfiles":        {build: store.StaticBuild{Command: "mkdir dist; echo x > dist/.x"}, want: "build.output dist has no files to publish", hint: "see what the command makes"},
		"pattern":              {build: store.StaticBuild{Command: "true", Output: "di*"}, want: "build.output di* is a pattern, and not the name of a directory", hint: "one directory"},
		"strange cache":        {build: store.StaticBuild{Command: "true", Cache: []string{"/a,b"}}, want: "build.cache /a,b has characters that a cache's path cannot have", hint: "letters"},
		"missing image":        {build: store.StaticBuild{Command: "true", Image: "nosuch-base.invalid/x:1"}, want: "image nosuch-base.invalid/x:1 is neither local nor pullable", hint: "docker pull"},
		"no shell":             {build: store.StaticBuild{Command: "true", Image: "scratch"}, want: "build.command true: exit code", hint: ""},
		"submodule":            {build: store.StaticBuild{Command: "true"}, files: commit{".dockerignore": "theme", "theme": file{store.ModeSubmodule, ""}}, want: "theme is a submodule", hint: "git rm"},
		"LFS pointer":          {build: store.StaticBuild{Command: "true"}, files: commit{".gitattributes": "* filter=lfs", "a.png": lfsPointer}, want: "a.png is a Git LFS pointer", hint: "git lfs"},
	} {
		t.Run(name, func(t *testing.T) {
			build := c.build
			if build.Image == "" {
				build.Image = base
			}
			if build.Output == "" {
				build.Output = "dist"
			}
			_, log, err := l.build(t, commit{"a": "x"}.with(c.files), &store.StaticConfig{Build: &build})
			p := problem(t, err, store.CodeFailed)
			if !strings.Contains(p.Message, c.want) || !strings.Contains(p.Hint, c.hint) {
				t.Errorf("problem is %q, hint %q; want %q, hint %q\n%s", p.Message, p.Hint, c.want, c.hint, log)
			}
			if strings.Contains(p.Message, "Dockerfile") {
				t.Errorf("problem %q speaks of a Dockerfile that nobody wrote", p.Message)
			}
			if left := l.temporaries(t); len(left) > 0 {
				t.Errorf("temporary files are left: %v", left)
			}
		})
	}
}

// The build may write where it is and where its caches are, whoever the image's user is, and we may read what it made.
func TestStaticBuildRights(t *testing.T) {
	l := newEngineLab(t)
	image := l.must(t, commit{"Dockerfile": "FROM " + l.base(t) + "\nUSER 1000\nEXPOSE 80"}, &store.DockerfileConfig{}).ImageTag
	build := func(stamp string) string {
		t.Helper()
		output, err := l.sites.newOutput()
		if err != nil {
			t.Fatal(err)
		}
		defer output.remove()
		config := &store.StaticBuild{Image: image, Output: "o", Command: `set -e
			mkdir o; cat stamp >> /root/.cache/seen; echo x > /root/.npm/x; cat /root/.cache/seen > o/page; busybox chmod 0 o/page`}
		request := store.BuildRequest{App: l.app, Deployment: l.next.Add(1)}
		var log []string
		err = l.runStaticBuild(t.Context(), request, config, commit{"stamp": stamp}, output, func(line string) { log = append(log, line) })
		if err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(log, "\n"))
		}
		info, err := output.root.Lstat("page")
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o400 == 0 {
			t.Errorf("page has mode %s", info.Mode())
		}
		page, err := os.ReadFile(filepath.Join(output.dir, "page"))
		if err != nil {
			t.Fatal(err)
		}
		return string(page)
	}
	build("one ")
	if page := build("two "); page != "one two " {
		t.Errorf("the default caches are not kept: the second build found %q", page)
	}
}

// What a build that died left behind goes before the next process's first build.
func TestStaticBuildSweepsAfterACrash(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	dead := filepath.Join(l.sites.temporary(), "output123", "a")
	if err := os.MkdirAll(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	l.must(t, commit{"a": "x"}, &store.StaticConfig{Build: &store.StaticBuild{Image: base, Command: "mkdir o; echo x > o/a", Output: "o"}})
	if left := l.temporaries(t); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestStaticBuildIsCancelled(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config := &store.StaticConfig{Build: &store.StaticBuild{Image: base, Command: "echo begun; sleep 600", Output: "o"}}
	_, _, err := l.buildUnder(ctx, 1, commit{"a": "x"}, config, func(line string) {
		if strings.HasSuffix(line, " begun") && strings.HasPrefix(line, "#") {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the build ended with %v", err)
	}
	if left := l.temporaries(t); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}
