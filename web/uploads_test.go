package web

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// sendFiles uploads a body of a type with a token.
func (l *lab) sendFiles(path, token, kind, body string) answer {
	l.t.Helper()
	request := l.request("POST", path, body)
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", kind)
	return l.send(request)
}

func TestUpload(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.ask("POST", "/api/v1/apps", `{"name":"shop","source":"image","config":{"image":"ghcr.io/acme/shop:1"}}`).must(t, 201)
	deploys := l.token(store.Token{App: "hello", Rights: store.Rights{store.RightDeploy}})
	long := strings.Repeat("x", 3<<20) // more than any other body of the API may have
	got := l.sendFiles("/api/v1/apps/hello/uploads?subject=Run+7", deploys, "application/x-tar", long).must(t, http.StatusCreated)
	if want := `"bytes":3145728`; !strings.Contains(got.body, want) || l.git.uploaded != "hello: Run 7: xxxxxxxxxxxxxxxxxxxx" {
		t.Errorf("got %s of %q", got.body, l.git.uploaded)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte("unpacked"))
	_ = w.Close()
	l.sendFiles("/api/v1/apps/hello/uploads", deploys, "application/gzip; x=y", packed.String()).must(t, http.StatusCreated)
	if l.git.uploaded != "hello: : unpacked" {
		t.Errorf("%q was uploaded", l.git.uploaded)
	}
	for name, test := range map[string]struct {
		path, token, kind, body string
		status                  int
	}{
		"another type":  {"/api/v1/apps/hello/uploads", deploys, "application/zip", "x", 400},
		"no type":       {"/api/v1/apps/hello/uploads", deploys, "", "x", 400},
		"no gzip":       {"/api/v1/apps/hello/uploads", deploys, "application/gzip", "x", 400},
		"read only":     {"/api/v1/apps/hello/uploads", l.token(store.Token{App: "hello", Rights: store.Rights{store.RightRead}}), "application/x-tar", "x", 403},
		"no token":      {"/api/v1/apps/hello/uploads", "", "application/x-tar", "x", 401},
		"another app":   {"/api/v1/apps/hello/uploads", l.token(store.Token{App: "shop", Rights: store.Rights{store.RightDeploy}}), "application/x-tar", "x", 403},
		"no such app":   {"/api/v1/apps/nothing/uploads", l.admin, "application/x-tar", "x", 404},
		"runs an image": {"/api/v1/apps/shop/uploads", l.admin, "application/x-tar", "x", 400},
	} {
		got := l.sendFiles(test.path, test.token, test.kind, test.body)
		if got.status != test.status {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, test.status)
		}
	}
	l.git.fault = store.Problemf(store.CodeUsage, `entry "a" is there twice`)
	l.sendFiles("/api/v1/apps/hello/uploads", l.admin, "application/x-tar", "x").must(t, 400)
}
