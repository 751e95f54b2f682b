package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/shipgate/shipgate/store"
)

// manyPages is a site of generated pages of half a kilobyte to four, as a documentation generator makes them.
func manyPages(n int) commit {
	words := strings.Fields("the gate holds requests while a new release starts and lets them go once it answers healthy proxy route table drain verdict push branch commit image layer cache secret volume address port")
	random := rand.New(rand.NewPCG(1, 2))
	pages := commit{"index.html": "<title>start</title>"}
	for i := range n - 1 {
		var page strings.Builder
		fmt.Fprintf(&page, "<!doctype html><title>page %d</title>", i)
		for length := 500 + random.IntN(4000); page.Len() < length; {
			fmt.Fprintf(&page, "<p class=%q>%s %s %d</p>", words[random.IntN(len(words))], words[random.IntN(len(words))], words[random.IntN(len(words))], random.IntN(1000))
		}
		pages[fmt.Sprintf("section-%d/part-%d/page-%d.html", i%20, i%200, i)] = page.String()
	}
	return pages
}

// listed is a Snapshot whose entries are known, as those of a repository are.
type listed struct {
	commit
	entries []store.TreeEntry
}

func (l listed) Entries() ([]store.TreeEntry, error) { return l.entries, nil }

func list(c commit) listed {
	entries, _ := c.Entries()
	return listed{c, entries}
}

// published reads a release tree back: each path's content, and its encoded forms decoded.
func (l *lab) published(t testing.TB, artefact store.Artefact) (manifest, map[string]string) {
	t.Helper()
	tree := filepath.Join(l.sites.dir, artefact.Site)
	data, err := os.ReadFile(filepath.Join(tree, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(filepath.Join(tree, namesFile))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00")
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(m.Files)); len(want) > 0 && !slices.Equal(listed, want) {
		t.Errorf("the list of names has %q, the manifest %q", listed, want)
	}
	contents := map[string]string{}
	for name, entry := range m.Files {
		content, err := os.ReadFile(filepath.Join(tree, "files", name))
		if err != nil {
			t.Error(err)
		}
		if int64(len(content)) != entry.Size || blobID(string(content)) != entry.Blob {
			t.Errorf("%s has %d bytes, blob %s; the manifest says %d, %s", name, len(content), blobID(string(content)), entry.Size, entry.Blob)
		}
		contents[name] = string(content)
		for coding, size := range entry.Encodings {
			l.checkEncoded(t, tree, name, coding, size, string(content))
		}
	}
	return m, contents
}

func (l *lab) checkEncoded(t testing.TB, tree, name, coding string, size int64, want string) {
	t.Helper()
	suffix := map[string]string{"gzip": ".gz", "br": ".br", "zstd": ".zst"}[coding]
	encoded, err := os.ReadFile(filepath.Join(tree, "encoded", name+suffix))
	if err != nil {
		t.Error(err)
		return
	}
	var reader io.Reader
	switch coding {
	case "gzip":
		reader, err = gzip.NewReader(bytes.NewReader(encoded))
	case "br":
		reader = brotli.NewReader(bytes.NewReader(encoded))
	case "zstd":
		reader, err = zstd.NewReader(bytes.NewReader(encoded))
	default:
		t.Errorf("%s has coding %q", name, coding)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := io.ReadAll(reader)
	if err != nil || string(decoded) != want || int64(len(encoded)) != size {
		t.Errorf("%s decodes from %s (%d bytes, the manifest says %d) to something else (%v)", name, coding, len(encoded), size, err)
	}
}

func TestWhatASitePublishes(t *testing.T) {
	page := strings.Repeat("<p>all work and no play</p>", 100)
	for name, c := range map[string]struct {
		commit commit
		config store.StaticConfig
		want   string // paths, sorted
		log    string // in the log
		fails  string // message of the Problem
	}{
		"the root by default":     {commit: commit{"index.html": page, "a/b.css": "x"}, want: "a/b.css index.html"},
		"a directory":             {commit: commit{"public/index.html": page, "README": "x"}, config: store.StaticConfig{PublishDir: "./public/"}, want: "index.html"},
		"a directory by symlink":  {commit: commit{"public": file{store.ModeSymlink, "site"}, "site/index.html": "x"}, config: store.StaticConfig{PublishDir: "public"}, want: "index.html"},
		"no index":                {commit: commit{"a.html": "x"}, want: "a.html", log: "there is no index.html in publish_dir ."},
		"dotfiles":                {commit: commit{"index.html": "x", ".env": "x", ".git/config": "x", "a/.b/c": "x", ".well-known/security.txt": "x", "a/.well-known/x": "x"}, want: ".well-known/security.txt index.html", log: "4 dotfiles"},
		"symlink to a file":       {commit: commit{"index.html": file{store.ModeSymlink, "v2/index.html"}, "v2/index.html": page}, want: "index.html v2/index.html"},
		"symlink to a directory":  {commit: commit{"v2/index.html": page, "latest": file{store.ModeSymlink, "v2"}}, want: "latest/index.html v2/index.html"},
		"symlink above":           {commit: commit{"public/a": file{store.ModeSymlink, "../shared/a"}, "shared/a": "x"}, config: store.StaticConfig{PublishDir: "public"}, want: "a"},
		"symlink chain":           {commit: commit{"a": file{store.ModeSymlink, "b"}, "b": file{store.ModeSymlink, "c"}, "c": "x"}, want: "a b c"},
		"symlink out of the tree": {commit: commit{"a": "x", "out": file{store.ModeSymlink, "../../etc/passwd"}}, want: "a", log: "symlink out is left out: it points out of the repository"},
		"absolute symlink":        {commit: commit{"a": "x", "out": file{store.ModeSymlink, "/etc/passwd"}}, want: "a", log: "symlink out is left out: it points out of the repository"},
		"symlink to nothing":      {commit: commit{"a": "x", "gone": file{store.ModeSymlink, "nowhere"}}, want: "a", log: "symlink gone is left out: it points to nothing"},
		"symlink to itself":       {commit: commit{"a": "x", "loop": file{store.ModeSymlink, "loop"}}, want: "a", log: "symlink loop is left out: it points to itself"},
		"symlink to its parent":   {commit: commit{"d/a": "x", "d/up": file{store.ModeSymlink, ".."}}, want: "d/a", log: "symlink d/up is left out: it points to itself"},
		"file and encoded form":   {commit: commit{"a.html": page, "a.html.gz/b.html": page, "a.html.br/b.html": page}, want: "a.html a.html.br/b.html a.html.gz/b.html"},
		"equal contents":          {commit: commit{"a.html": page, "b.bin": page, "c/a.html": page}, want: "a.html b.bin c/a.html"},
		"strange names":           {commit: commit{"caf\u00e9 & co?.html": page, "a\nb": "x", "index.html": "x"}, want: "a\nb caf\u00e9 & co?.html index.html"},
		"empty file":              {commit: commit{"index.html": ""}, want: "index.html"},
		"missing directory":       {commit: commit{"a": "x"}, config: store.StaticConfig{PublishDir: "dist"}, fails: "publish_dir dist is not a directory of the commit"},
		"a file":                  {commit: commit{"a": "x"}, config: store.StaticConfig{PublishDir: "a"}, fails: "publish_dir a is not a directory of the commit"},
		"nothing but dotfiles":    {commit: commit{".a": "x"}, fails: "publish_dir . has no files to publish"},
		"LFS pointer":             {commit: commit{"index.html": "x", "big.mp4": lfsPointer}, fails: "big.mp4 is a Git LFS pointer, and the file itself was not pushed"},
		"LFS pointer left out":    {commit: commit{"public/index.html": "x", "big.mp4": lfsPointer}, config: store.StaticConfig{PublishDir: "public"}, want: "index.html"},
		"submodule":               {commit: commit{"index.html": "x", "theme": file{store.ModeSubmodule, ""}}, fails: "theme is a submodule, and its files were not pushed"},
		"submodule left out":      {commit: commit{"public/index.html": "x", "theme": file{store.ModeSubmodule, ""}}, config: store.StaticConfig{PublishDir: "public"}, want: "index.html"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, Limits{})
			artefact, log, err := l.build(t, c.commit, &c.config)
			if c.fails != "" {
				if p := problem(t, err, store.CodeFailed); p.Message != c.fails || p.Hint == "" {
					t.Errorf("problem is %q, hint %q, want %q", p.Message, p.Hint, c.fails)
				}
				l.checkNothingLeft(t, 0)
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			_, contents := l.published(t, artefact)
			if got := strings.Join(slices.Sorted(maps.Keys(contents)), " "); got != c.want {
				t.Errorf("published %q, want %q", got, c.want)
			}
			if !strings.Contains(log, c.log) {
				t.Errorf("the log has no %q:\n%s", c.log, log)
			}
			l.checkNothingLeft(t, 1)
		})
	}
}

// checkNothingLeft fails when anything but whole releases and objects is there.
func (l *lab) checkNothingLeft(t testing.TB, releases int) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(l.sites.dir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if found, _ := filepath.Glob(filepath.Join(l.sites.dir, "releases", l.app, "*")); len(found) != releases {
		t.Errorf("releases are %q, want %d", found, releases)
	}
}

func TestSiteEncodings(t *testing.T) {
	l := newLab(t, Limits{})
	page := strings.Repeat("<p>all work and no play</p>", 100)
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	artefact := l.must(t, commit{
		"index.html": page, "small.html": "<p>x</p>", "photo.jpg": page, "noise.js": string(noise),
	}, &store.StaticConfig{})
	if artefact.Site != "releases/"+l.app+"/1" || artefact.Image != "" || artefact.Port != 0 {
		t.Errorf("artefact is %+v", artefact)
	}
	m, _ := l.published(t, artefact)
	if e := m.Files["index.html"].Encodings; e["gzip"] == 0 || e["br"] == 0 && e["zstd"] == 0 {
		t.Errorf("index.html has encodings %v", e)
	}
	for _, name := range []string{"small.html", "photo.jpg", "noise.js"} {
		if e := m.Files[name].Encodings; len(e) > 0 {
			t.Errorf("%s has encodings %v", name, e)
		}
	}
	info, err := os.Stat(filepath.Join(l.sites.dir, artefact.Site, "files", "index.html"))
	if err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("index.html is %v (%v)", info.Mode(), err)
	}
}

func TestOfTwoModernEncodingsTheSmallerIsKept(t *testing.T) {
	for _, page := range []string{strings.Repeat("<p>all work and no play</p>", 100), manyPages(2)["section-0/part-0/page-0.html"].(string)} {
		forms, err := encodeAll([]byte(page))
		if err != nil {
			t.Fatal(err)
		}
		if (forms[1] == nil) == (forms[2] == nil) || forms[0] == nil {
			t.Errorf("gzip %d, br %d, zstd %d bytes", len(forms[0]), len(forms[1]), len(forms[2]))
		}
	}
}

// A name decides whether a content is compressed: a content that was not can need it later.
func TestContentUnderAnotherName(t *testing.T) {
	l := newLab(t, Limits{})
	page := strings.Repeat("<p>all work and no play</p>", 100)
	l.must(t, commit{"index.bin": page}, &store.StaticConfig{})
	m, _ := l.published(t, l.must(t, commit{"index.html": page}, &store.StaticConfig{}))
	if len(m.Files["index.html"].Encodings) == 0 {
		t.Error("index.html is not compressed")
	}
}

func TestSymlinksThatMultiply(t *testing.T) {
	c := commit{"index.html": "x"}
	for level := range 30 {
		for _, name := range []string{"a", "b"} {
			c[fmt.Sprintf("d%02d/%s", level, name)] = file{store.ModeSymlink, fmt.Sprintf("../d%02d", level+1)}
		}
	}
	c["d30/page.html"] = "x"
	build := &siteBuild{log: newLineLog(func(string) {}, nil), left: 1000}
	p := problem(t, build.collect(material{Snapshot: c, directory: ".", name: "publish_dir ."}), store.CodeFailed)
	if !strings.HasPrefix(p.Message, "the site has more than") {
		t.Errorf("problem is %q", p.Message)
	}
}

// counting counts what is read of a commit.
type counting struct {
	listed
	opened *atomic.Int64
}

func (c counting) Open(name string) (io.ReadCloser, error) {
	c.opened.Add(1)
	return c.listed.Open(name)
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	l := newLab(t, Limits{})
	pages := manyPages(200)
	l.must(t, list(pages), &store.StaticConfig{})
	changed := counting{list(pages.with(commit{"new.html": strings.Repeat("new ", 1000)})), new(atomic.Int64)}
	artefact := l.must(t, changed, &store.StaticConfig{})
	if opened := changed.opened.Load(); opened != 1 {
		t.Errorf("%d files were read, one is new", opened)
	}
	m, _ := l.published(t, artefact)
	if len(m.Files) != 201 || len(m.Files["new.html"].Encodings) == 0 {
		t.Errorf("%d files, new.html %+v", len(m.Files), m.Files["new.html"])
	}
}

// After a loss of power an object can be there with the wrong length.
func TestTornObjectsAreReplaced(t *testing.T) {
	l := newLab(t, Limits{})
	c := commit{"index.html": strings.Repeat("<p>whole</p>", 1000), "a.bin": "whole"}
	l.must(t, c, &store.StaticConfig{})
	var torn int
	err := filepath.WalkDir(filepath.Join(l.sites.dir, "objects"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		torn++
		return errors.Join(os.Remove(name), os.WriteFile(name, []byte("wh"), 0o444))
	})
	if err != nil || torn < 3 {
		t.Fatalf("tore %d objects: %v", torn, err)
	}
	l.published(t, l.must(t, c, &store.StaticConfig{}))
}

func TestMissingObjectsAreMadeAgain(t *testing.T) {
	l := newLab(t, Limits{})
	c := commit{"index.html": strings.Repeat("<p>whole</p>", 1000), "a.bin": "whole"}
	l.must(t, c, &store.StaticConfig{})
	if err := os.RemoveAll(filepath.Join(l.sites.dir, "objects")); err != nil {
		t.Fatal(err)
	}
	l.published(t, l.must(t, c, &store.StaticConfig{}))
}

func TestSiteBuildIsRepeatable(t *testing.T) {
	l := newLab(t, Limits{})
	for _, content := range []string{"first", "second"} {
		artefact, _, err := l.buildUnder(t.Context(), 5, commit{"index.html": content, content: "x"}, &store.StaticConfig{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, contents := l.published(t, artefact); len(contents) != 2 || contents["index.html"] != content {
			t.Errorf("release has %v", contents)
		}
	}
	l.checkNothingLeft(t, 1)
}

func TestDeadBuildsAreSwept(t *testing.T) {
	l := newLab(t, Limits{})
	leftover := filepath.Join(l.sites.dir, "tmp", "dead", "release", "files")
	if err := errors.Join(os.MkdirAll(leftover, 0o755), os.WriteFile(filepath.Join(leftover, "x"), nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	l.must(t, commit{"index.html": "x"}, &store.StaticConfig{})
	l.checkNothingLeft(t, 1)
}

// A release is there whole or not at all, also when the build is cut off.
func TestSiteAppearsWhole(t *testing.T) {
	l := newLab(t, Limits{})
	pages := list(manyPages(500))
	for number := range int64(20) {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(time.Duration(number)*3*time.Millisecond, cancel)
		artefact, _, err := l.buildUnder(ctx, number+1, pages, &store.StaticConfig{}, nil)
		stop.Stop()
		cancel()
		release := filepath.Join(l.sites.dir, "releases", l.app, fmt.Sprint(number+1))
		_, missing := os.Stat(release)
		if (err == nil) != (missing == nil) {
			t.Fatalf("the build ended with %v, the release with %v", err, missing)
		}
		if err == nil {
			if _, contents := l.published(t, artefact); len(contents) != 500 {
				t.Fatalf("release has %d files", len(contents))
			}
		}
		if left, _ := filepath.Glob(filepath.Join(l.sites.dir, "tmp", "*")); len(left) > 0 {
			t.Fatalf("left behind: %q", left)
		}
	}
}

func TestSitesAreBuiltSideBySide(t *testing.T) {
	l := newLab(t, Limits{})
	var builds sync.WaitGroup
	for number := range int64(8) {
		builds.Go(func() {
			artefact, log, err := l.buildUnder(t.Context(), number+1, list(manyPages(100+int(number))), &store.StaticConfig{}, nil)
			if err != nil {
				t.Errorf("%v\n%s", err, log)
				return
			}
			l.published(t, artefact)
		})
	}
	builds.Wait()
	l.checkNothingLeft(t, 8)
}

func TestReadCatalogueSurvivesNonsense(t *testing.T) {
	dir := t.TempDir()
	text := "good 10 true 5 0 4\nshort 10\n\nnumber x true 5 0 4\nnumber 1 true 5 y 4\n"
	if err := os.WriteFile(filepath.Join(dir, catalogueName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	known := readCatalogue(dir)
	if len(known) != 1 || known["good"] != (object{size: 10, tried: true, encoded: [3]int64{5, 0, 4}}) {
		t.Errorf("read %v", known)
	}
}
