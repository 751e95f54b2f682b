package enginetest

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// testApp is built once per test process; it has no libraries, so an image needs nothing else.
var testApp = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "testapp")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "testapp")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary,
		"github.com/shipgate/shipgate/deploy/enginetest/testapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, &buildError{output: string(output), cause: err}
	}
	return os.ReadFile(binary)
})

type buildError struct {
	output string
	cause  error
}

func (e *buildError) Error() string { return "build testapp: " + e.cause.Error() + "\n" + e.output }

// TestApp gives the static Linux binary of the testapp folder, whose comment says what it can be told to do.
func TestApp(t testing.TB) []byte {
	t.Helper()
	binary, err := testApp()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// RootFS gives a tar archive with the testapp at /testapp and an empty /data: a whole image to import.
func RootFS(t testing.TB) []byte {
	t.Helper()
	binary := TestApp(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	headers := []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "testapp", Mode: 0o755, Size: int64(len(binary))},
		{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o777},
	}
	for _, header := range headers {
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := w.Write(binary); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}
