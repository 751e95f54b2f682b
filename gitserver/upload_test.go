package gitserver

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// tarred makes a stream of headers. A file has its name's length of content where none is said.
func tarred(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, header := range headers {
		content := ""
		if header.Typeflag == tar.TypeReg {
			content = header.Linkname
			header.Linkname, header.Size = "", int64(len(content))
		}
		if header.Mode == 0 && header.Typeflag != tar.TypeXGlobalHeader {
			header.Mode = 0o644
		}
		tarCheck(t, w.WriteHeader(&header))
		_, err := io.WriteString(w, content)
		tarCheck(t, err)
	}
	tarCheck(t, w.Close())
	return out.Bytes()
}

func tarCheck(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file is a header with the content where a link has its target.
func file(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content}
}

func linked(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}

func folder(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
}

func (r *rig) upload(content []byte) (store.Upload, error) {
	r.t.Helper()
	app, err := r.store.App(r.t.Context(), testApp)
	check(r.t, err)
	return r.server.Upload(r.t.Context(), app, "Built by\x1b[31m CI\nrun 7", bytes.NewReader(content))
}

// What native tar writes of a directory is what native git reads of the commit.
func TestUploadOfNativeTar(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	c.commit("files", "index.html", "<p>1</p>", "assets/app.js", "1", "assets/app.css", "1", "a.b/c", "2", "a/c", "3", "ä/ö", "4", "run.sh", "#!/bin/sh")
	c.git("update-index", "--chmod=+x", "run.sh")
	check(t, exec.Command("chmod", "755", c.dir+"/run.sh").Run())
	check(t, exec.Command("ln", "-s", "../index.html", c.dir+"/assets/home").Run())
	check(t, exec.Command("mkdir", "-p", c.dir+"/empty/inside").Run())
	c.git("add", "-A")
	c.git("commit", "-q", "-m", "all")
	stream, err := exec.Command("tar", "-C", c.dir, "--exclude=./.git", "-cf", "-", ".").Output()
	check(t, err)
	upload, err := r.upload(stream)
	check(t, err)
	equal(t, "files", upload.Files, 8)
	native := gitCommand(t, r.bare(), "rev-parse", upload.SHA+"^{tree}")
	out, err := native.Output()
	check(t, err)
	equal(t, "tree", strings.TrimSpace(string(out)), c.git("rev-parse", "HEAD^{tree}"))
	equal(t, "tree in the answer", upload.Tree, c.git("rev-parse", "HEAD^{tree}"))
	_, subject, err := r.server.Resolve(t.Context(), testApp, upload.SHA)
	check(t, err)
	equal(t, "subject", subject, "Built by [31m CI run 7")
	r.clean()
	again, err := r.upload(stream)
	check(t, err)
	equal(t, "files of the same again", again.Files, 8)
	equal(t, "tree of the same again", again.Tree, upload.Tree)
	r.clean()
}

func TestUploadIsRefused(t *testing.T) {
	r := newRig(t, Limits{UploadBytes: 1000, UploadFiles: 20})
	good := file("index.html", "x")
	many := make([]tar.Header, 21)
	for i := range many {
		many[i] = folder(strings.Repeat("d", i+1))
	}
	for name, test := range map[string]struct {
		content []byte
		says    string
	}{
		"absolute":              {tarred(t, good, file("/etc/passwd", "x")), `"/etc/passwd": its name is absolute`},
		"up":                    {tarred(t, good, file("a/../../b", "x")), `"a/../../b": it leads elsewhere`},
		"git's":                 {tarred(t, good, file("a/.git/config", "x")), "git keeps its own files there"},
		"git's in capitals":     {tarred(t, good, file(".GIT/config", "x")), "git keeps its own files there"},
		"git's on Windows":      {tarred(t, good, file("git~1", "x")), "git keeps its own files there"},
		"backslash":             {tarred(t, good, file(`a\b`, "x")), "its name has a backslash"},
		"control character":     {tarred(t, good, file("a\nb", "x")), "its name has a control character"},
		"not UTF-8":             {tarred(t, good, tar.Header{Name: "a\xff", Typeflag: tar.TypeReg, Linkname: "x", Format: tar.FormatGNU}), "its name is not UTF-8"},
		"long":                  {tarred(t, good, file(strings.Repeat("a/", 2100)+"b", "x")), "its name is too long"},
		"long part":             {tarred(t, good, file(strings.Repeat("a", 256), "x")), "a part of its name is longer than 255 bytes"},
		"deep":                  {tarred(t, good, file(strings.Repeat("a/", 200)+"b", "x")), "it lies too deep"},
		"device":                {tarred(t, good, tar.Header{Name: "null", Typeflag: tar.TypeChar}), `"null" is neither a file`},
		"hard link":             {tarred(t, good, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "index.html"}), `"hard" is neither a file`},
		"pipe":                  {tarred(t, good, tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}), `"pipe" is neither a file`},
		"twice":                 {tarred(t, good, file("./index.html", "y")), `"./index.html" is there twice`},
		"a file below a file":   {tarred(t, good, file("index.html/more", "y")), `"index.html/more" lies below a file`},
		"a folder where a file": {tarred(t, good, folder("index.html/")), `"index.html/" lies below a file`},
		"a file where a folder": {tarred(t, file("a/b", "x"), file("a", "y")), `"a" is there twice`},
		"a file below a link":   {tarred(t, good, linked("l", "index.html"), file("l/x", "y")), `"l/x" lies below a file`},
		"absolute link":         {tarred(t, good, linked("l", "/etc")), "its target is absolute"},
		"link out":              {tarred(t, good, linked("a/l", "../../x")), "its target lies outside"},
		"link to itself's up":   {tarred(t, good, linked("l", "..")), "its target lies outside"},
		"link by a link":        {tarred(t, good, linked("a/l", "b/../..")), "its target goes up after it went down"},
		"no target":             {tarred(t, good, linked("l", "")), "its target is no path"},
		"too large":             {tarred(t, good, file("big", strings.Repeat("x", 1000))), "more than 1000 bytes"},
		"too many":              {tarred(t, many...), "more than 20 entries"},
		"headers without end":   {endless(t), "more than 1000 bytes"},
		"empty":                 {tarred(t), "the upload has no files"},
		"folders only":          {tarred(t, folder("a/"), folder("a/b/")), "the upload has no files"},
		"nothing":               {nil, "the upload has no files"},
		"cut off in a file":     {tarred(t, good, file("big", strings.Repeat("x", 900)))[:2000], `entry "big" cannot be read`},
		"cut off in a header":   {tarred(t, good)[:300], "the tar stream cannot be read"},
		"no tar":                {[]byte(strings.Repeat("hello, world. ", 100)), "the tar stream cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			upload, err := r.upload(test.content)
			problem, known := store.AsProblem(err)
			if !known || problem.Code != store.CodeUsage || !strings.Contains(problem.Message, test.says) || upload.SHA != "" {
				t.Errorf("got %+v, %v, want a usage Problem that says %q", upload, err, test.says)
			}
		})
	}
	if r.packs() != 0 {
		t.Errorf("%d files of packs are left", r.packs())
	}
	r.clean()
}

// endless repeats a header that says nothing of any entry.
func endless(t *testing.T) []byte {
	t.Helper()
	long := tarred(t, file(strings.Repeat("a", 200)+"/"+strings.Repeat("b", 200), ""))[:1024] // a long name, for the entry after it
	return bytes.Repeat(long, 300)
}

func TestUploadTakes(t *testing.T) {
	r := newRig(t, Limits{})
	for name, content := range map[string][]byte{
		"links inside":        tarred(t, file("a/b", "x"), linked("a/up", "../a/b"), linked("c", "./a"), linked("dangling", "nowhere")),
		"what git archive is": tarred(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "1"}}, file("a", "x")),
		"folders again":       tarred(t, folder("./"), folder("a/"), file("a/b", "x"), folder("a/")),
		"the same content":    tarred(t, file("a", "same"), file("b", "same"), file("c/d", "same"), file("e", "other"), file("f", "same")),
		"names git orders":    tarred(t, file("a-b", "1"), file("a/b", "2"), file("a.b", "3"), file("a0", "4")),
		"an empty file":       tarred(t, file("a", "")),
	} {
		if _, err := r.upload(content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.clean()
	}
}

// An upload does not lie in memory, however large it is.
func TestLargeUpload(t *testing.T) {
	r := newRig(t, Limits{})
	app, err := r.store.App(t.Context(), testApp)
	check(t, err)
	const size = 200 << 20
	out, in := io.Pipe()
	go func() {
		w := tar.NewWriter(in)
		err := w.WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: size, Mode: 0o644})
		if err == nil {
			_, err = io.CopyN(w, rand.Reader, size)
		}
		if err == nil {
			err = w.Close()
		}
		in.CloseWithError(err)
	}()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	highest := uint64(0)
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				runtime.ReadMemStats(&now)
				highest = max(highest, now.HeapInuse)
			}
		}
	}()
	upload, err := r.server.Upload(t.Context(), app, "", out)
	done <- struct{}{}
	check(t, err)
	equal(t, "bytes", upload.Bytes, int64(size))
	if grown := int64(highest) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("it took %d MiB of memory", grown>>20)
	}
}

// Nothing is left of an upload whose client goes away.
func TestUploadThatIsBrokenOff(t *testing.T) {
	r := newRig(t, Limits{})
	app, err := r.store.App(t.Context(), testApp)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	go func() {
		_, _ = in.Write(tarred(t, file("a", strings.Repeat("x", 5000)))[:2048])
		cancel()
		in.CloseWithError(context.Canceled)
	}()
	if _, err := r.server.Upload(ctx, app, "", out); err == nil {
		t.Error("it was taken")
	}
	r.clean()
}

// An upload that nobody deploys stays for an hour, and one that is deployed as long as its deployment.
func TestCollectLeavesFreshUploads(t *testing.T) {
	r := newRig(t, Limits{})
	upload, err := r.upload(tarred(t, file("index.html", "x")))
	check(t, err)
	_, err = r.server.Collect(t.Context(), store.Kept{}, false)
	check(t, err)
	if sha, _, err := r.server.Resolve(t.Context(), testApp, upload.SHA); err != nil || sha != upload.SHA {
		t.Errorf("resolved %s, %v", sha, err)
	}
}

func TestPlainSubject(t *testing.T) {
	for text, want := range map[string]string{
		"": "", " a \r\n b\t": "a b", "\x00\x1b[0m": "[0m", "a\xff": "a�", strings.Repeat("é", 201): strings.Repeat("é", 199) + "…", strings.Repeat("é", 200): strings.Repeat("é", 200),
	} {
		equal(t, text, plainSubject(text), want)
	}
}

// FuzzUpload: whatever is sent is refused, or becomes a commit that our own checks and git's take.
func FuzzUpload(f *testing.F) {
	f.Add(tarred(f, file("a/b", "x"), linked("l", "a/b"), folder("c/")))
	f.Add(tarred(f, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "1"}}, file("a", "x")))
	f.Add(tarred(f, file("a", strings.Repeat("x", 2000)))[:900])
	f.Fuzz(func(t *testing.T, content []byte) {
		pack, err := newUploadPack(t.TempDir())
		check(t, err)
		defer pack.file.Close()
		limits := Limits{UploadBytes: 1 << 20, UploadFiles: 100}.withDefaults()
		tree := newUploadTree(limits)
		if err := tree.take(t.Context(), bytes.NewReader(content), pack); err != nil {
			if _, known := store.AsProblem(err); !known {
				t.Fatal(err)
			}
			return
		}
		root, err := tree.root.write(pack)
		check(t, err)
		_, err = pack.commit(root, "fuzz", time.Unix(0, 0))
		check(t, err)
		stream, err := pack.stream()
		check(t, err)
		q := &quarantine{dir: t.TempDir()}
		check(t, q.fill(t.Context(), &repository{}, stream, intake{limits: limits}, &objects{}))
		check(t, q.discard())
	})
}
