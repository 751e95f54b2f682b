package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mounted makes dir a file system of its own, which only root can do.
func mounted(t *testing.T, dir string, args ...string) {
	t.Helper()
	if output, err := exec.Command("mount", append(args, dir)...).CombinedOutput(); err != nil {
		t.Skipf("mount needs root and a kernel that allows it: %v: %s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
}

// fill makes a file larger until the disk is full.
func fill(file string) {
	_ = exec.Command("dd", "if=/dev/zero", "of="+file, "bs=4096", "oflag=append", "conv=notrunc").Run()
}

// A disk that is full or read-only stops no site. Who asks for a change learns why it cannot be.
func TestFullAndReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	mounted(t, dir, "-t", "tmpfs", "-o", "size=2g,mode=0700", "tmpfs")
	d := newServed(t, filepath.Join(dir, "data"))
	s := d.start()
	s.ready(t)
	if output, err := exec.Command("mount", "-o", "remount,size=8m", dir).CombinedOutput(); err != nil {
		t.Fatalf("shrink disk: %v: %s", err, output)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.Remove(filepath.Join(d.dir, "reserve")); err != nil { // or the server gives it back just now, and there is room
		t.Fatal(err)
	}
	fill(filler)
	big := "BIG=" + strings.Repeat("x", 100<<10)
	if got := d.run(t, "", "env", "site", "set", big); got.code != exitErrored || !strings.Contains(got.stderr, "disk of the server is full") || !strings.Contains(got.stderr, "hint:") {
		t.Errorf("env set: exit %d, %s", got.code, got.stderr)
	}
	if got := d.run(t, "", "doctor"); got.code != exitFailed || !strings.Contains(got.stdout, "full") {
		t.Errorf("doctor: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	d.answers(t)
	s.end(syscall.SIGTERM)
	fill(filler) // the database's log is gone
	if code, said := d.start().end(0); code != exitErrored || !strings.Contains(said, "disk of the server is full") {
		t.Errorf("serve: exit %d:\n%s", code, said)
	}
	d.answers(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mounted(t, d.dir, "--bind", d.dir)
	if output, err := exec.Command("mount", "-o", "remount,bind,ro", d.dir).CombinedOutput(); err != nil {
		t.Skipf("remount: %v: %s", err, output)
	}
	if code, said := d.start().end(0); code != exitErrored || !strings.Contains(said, "cannot be written") || !strings.Contains(said, "hint:") {
		t.Errorf("serve: exit %d:\n%s", code, said)
	}
	if got := d.run(t, "", "doctor"); got.code != exitFailed || !strings.Contains(got.stdout, "read-only file system") {
		t.Errorf("doctor: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	d.answers(t)
	if output, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	s = d.start()
	s.ready(t)
	s.end(syscall.SIGTERM)
	d.answers(t)
}

// shrink makes a mounted disk as small as what is on it.
func shrink(t *testing.T, dir string) {
	t.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	used := (int64(disk.Blocks) - int64(disk.Bfree)) * disk.Bsize
	if output, err := exec.Command("mount", "-o", fmt.Sprintf("remount,size=%d", used+128<<10), dir).CombinedOutput(); err != nil {
		t.Fatalf("shrink disk: %v: %s", err, output)
	}
}

// useUp writes to the database until even little has no room any more.
func (d *served) useUp(t *testing.T) {
	t.Helper()
	for _, command := range [][]string{
		{"env", "site", "set", "BIG=" + strings.Repeat("x", 100<<10)}, {"token", "create", "--rights", "read", "--app", "site"},
	} {
		for n := 0; d.run(t, "", command...).code == exitDone; n++ {
			if n > 100 {
				t.Fatal("the database can be written although the disk is full")
			}
		}
	}
}

// pushSlow pushes a version of an app that takes a while to come up, and waits until it is started.
func (d *served) pushSlow(t *testing.T, deployment int) (said *bytes.Buffer, pushed <-chan error) {
	t.Helper()
	if output, err := d.git("hello", "commit", "-q", "--allow-empty", "-m", "Slow").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	push, ended := d.git("hello", "push", d.remote("hello"), "main"), make(chan error, 1)
	said = &bytes.Buffer{}
	push.Stdout, push.Stderr = said, said
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- push.Wait() }()
	d.until(t, deployment, `"step": *"started"`)
	return said, ended
}

// until waits for a deployment to be shown as the expression says.
func (d *served) until(t *testing.T, deployment int, expression string) string {
	t.Helper()
	wanted := regexp.MustCompile(expression)
	for deadline := time.Now().Add(patience); ; {
		shown := d.run(t, "", "show", fmt.Sprint(deployment), "--json")
		if wanted.MatchString(shown.stdout) {
			return shown.stdout
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is never %s: %s%s", expression, shown.stdout, shown.stderr)
		}
		<-time.After(300 * time.Millisecond) // each look takes a connection, and their number is limited
	}
}

// A disk that fills while a version is tried: the deployment is undone and its verdict said, out of the reserve. Where that is used up,
// too, the push says why it waits and ends within a limit, and the verdict comes when there is room.
func TestDiskFillsDuringADeployment(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	mounted(t, dir, "-t", "tmpfs", "-o", "size=2g,mode=0700", "tmpfs")
	d := newServed(t, filepath.Join(dir, "data"))
	if !d.container {
		t.Skip("no engine answers")
	}
	s := d.start()
	s.ready(t)
	t.Cleanup(func() {
		if t.Failed() {
			_ = s.command.Process.Kill()
			t.Log(s.rest())
		}
	})
	if got := d.run(t, "", "env", "hello", "set", "LISTEN_AFTER=15s"); got.code != exitDone {
		t.Fatal(got.stderr)
	}
	d.fillDuring(t, dir, 3, true)
	d.fillDuring(t, dir, 4, false)
	if code, said := s.end(syscall.SIGTERM); code != exitDone || !strings.Contains(said, "database or disk is full") {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func (d *served) fillDuring(t *testing.T, dir string, deployment int, reserve bool) {
	t.Helper()
	said, pushed := d.pushSlow(t, deployment)
	if !reserve {
		if err := os.Remove(filepath.Join(d.dir, "reserve")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	shrink(t, dir)
	filler := filepath.Join(dir, "filler")
	fill(filler)
	d.useUp(t)
	select {
	case err := <-pushed:
		if err == nil {
			t.Error("the push says that it succeeded")
		}
	case <-time.After(patience):
		t.Fatal("the push does not end")
	}
	d.answers(t)
	doctor := d.run(t, "", "doctor")
	if !strings.Contains(doctor.stdout, "free on the disk of") || strings.Contains(doctor.stdout, "disk of the server is full") == reserve {
		t.Errorf("doctor: %s%s", doctor.stdout, doctor.stderr)
	}
	want := []string{"wait", "errored", "the disk of the server is full", "2 keeps serving"}
	if !reserve {
		want = []string{"wait", "the disk of the server is full", fmt.Sprintf("deployment %d goes on", deployment)}
	}
	for _, text := range want {
		if !strings.Contains(said.String(), text) {
			t.Errorf("the push does not say %q:\n%s", text, said)
		}
	}
	if output, err := exec.Command("mount", "-o", "remount,size=2g", dir).CombinedOutput(); err != nil {
		t.Fatalf("grow disk: %v: %s", err, output)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	shown := d.until(t, deployment, `"verdict": *"errored"`)
	if !strings.Contains(shown, "the disk of the server is full") {
		t.Errorf("show: %s", shown)
	}
	d.answers(t)
}
