package gitserver

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// toldForge answers with what it is given.
type toldForge struct{ references, pack []byte }

func (f toldForge) RoundTrip(r *http.Request) (*http.Response, error) {
	body := f.references
	if r.Method == http.MethodPost {
		body = f.pack
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func advertisement(sha, capabilities string) []byte {
	return []byte(packet("# service=git-upload-pack\n") + "0000" + packet(sha+" HEAD\x00"+capabilities) + packet(sha+" refs/heads/main\n") + "0000")
}

// FuzzForgeAnswer holds that nothing a forge says makes a fetch fall over or hang, and that the repository gets objects
// only by a fetch that succeeds, and then the commit with its tree.
func FuzzForgeAnswer(f *testing.F) {
	var p packBuilder
	want := plain(&p)
	head := packet("shallow "+want.String()) + "0000" + "0008NAK\n"
	sideband := advertisement(want.String(), "shallow side-band-64k thin-pack ofs-delta no-progress")
	f.Add(sideband, []byte(head+packet("\x01"+string(p.bytes()))+"0000"))
	f.Add(sideband, []byte(head+packet("\x03fatal: no")+"0000"))
	f.Add(sideband, []byte(packet("ERR upload-pack: not our ref")))
	f.Add(sideband, []byte(head+packet("\x01PACK\x00\x00\x00\x02\xff\xff\xff\xf0")+"0000"))
	f.Add(advertisement(want.String(), "shallow"), append([]byte(head), p.bytes()...))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, references, pack []byte) {
		remote := store.Remote{URL: "http://forge.example/octo/hello.git", Username: "x", Password: forgePassword}
		server, err := New(Options{
			Dir: t.TempDir(), Limits: Limits{ObjectBytes: 1 << 20, InflatedBytes: 4 << 20, Objects: 100, PackBytes: 1 << 20},
			Remote: func(context.Context, store.App) (store.Remote, bool, error) { return remote, true, nil },
		})
		check(t, err)
		defer server.Close()
		server.client = &http.Client{Transport: toldForge{references, pack}, CheckRedirect: sameHost}
		r, err := server.ensureRepository(testApp)
		check(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		fetched, err := server.fetchMissing(ctx, r, store.App{Name: testApp}, want)
		if ctx.Err() != nil {
			t.Fatal("the fetch hangs")
		}
		objects := r.packs.Load()
		if err != nil {
			if strings.Contains(err.Error(), forgePassword) {
				t.Errorf("the password is in %q", err)
			}
			equal(t, "fetched", fetched, false)
			equal(t, "packs", len(objects.packs), 0)
			return
		}
		commit, err := objects.commit(want)
		check(t, err)
		_, err = objects.readKind(commit.TreeHash, plumbing.TreeObject)
		check(t, err)
	})
}
