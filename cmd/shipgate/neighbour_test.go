package main

import (
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// neighbourVariable has the paths that the test binary tries as another user.
const neighbourVariable = "SHIPGATE_TEST_NEIGHBOUR"

// beNeighbour tries to open each path, and to connect to it, and writes those where it could.
func beNeighbour(paths string) {
	for path := range strings.SplitSeq(paths, "\n") {
		if file, err := os.Open(path); err == nil {
			_ = file.Close()
			_, _ = os.Stdout.WriteString(path + "\n")
		}
		if conn, err := net.Dial("unix", path); err == nil {
			_ = conn.Close()
			_, _ = os.Stdout.WriteString(path + "\n")
		}
	}
}

// Another user of the machine reads nothing of the data directory, and does not reach the proxy's control socket, although
// the folder above is open to all and the server was started with an umask that keeps nothing back.
func TestNeighbourReadsNothing(t *testing.T) {
	if paths := os.Getenv(neighbourVariable); paths != "" {
		beNeighbour(paths)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED, being another user takes root")
	}
	above := must(os.MkdirTemp("", "sg"))
	t.Cleanup(func() { os.RemoveAll(above) }) // after the proxy has been ended, which is found by it
	dir, beside := filepath.Join(above, "data"), filepath.Join(above, "beside")
	if err := os.Chmod(above, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(beside, []byte("for all"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0)
	s := startServer(t, dir, nil)
	syscall.Umask(old)
	s.ready(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "index.html"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	pushNew(t, dir, folder, "neighboured", "--source", "static", "--publish-dir", ".")
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d paths: %v", len(paths), err)
	}
	got := asNeighbour(t, append(paths, beside))
	if got != beside+"\n" {
		t.Errorf("a neighbour could open\n%s", got)
	}
	if code, said := s.end(syscall.SIGTERM); code != exitDone {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

// asNeighbour runs this program as nobody, from where nobody may start it.
func asNeighbour(t *testing.T, paths []string) string {
	t.Helper()
	program := filepath.Join(must(os.MkdirTemp("", "sg")), "neighbour")
	defer os.RemoveAll(filepath.Dir(program))
	if err := os.WriteFile(program, must(os.ReadFile(must(os.Executable()))), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-test.run=^TestNeighbourReadsNothing$")
	command.Dir = "/"
	command.Env = []string{neighbourVariable + "=" + strings.Join(paths, "\n")}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := command.Output()
	if err != nil {
		t.Skipf("NOT TESTED, nobody can be another user here: %v", err)
	}
	return strings.TrimSuffix(string(output), "PASS\n")
}
