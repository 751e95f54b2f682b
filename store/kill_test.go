package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// victim enqueues, advances and logs until it is killed, and prints what it was told is done.
func victim(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	for err == nil {
		var d Deployment
		if d, err = s.Enqueue(ctx, NewDeployment{App: "hello", Trigger: TriggerPush}); err != nil {
			break
		}
		fmt.Printf("deployment %d\n", d.ID)
		line := fmt.Sprintf("line of %d", d.ID)
		if err = s.Log(ctx, d.ID, Event{Kind: "log", Text: line}); err != nil {
			break
		}
		fmt.Printf("logged %d\n", d.ID)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestNothingIsLostWhenTheProcessIsKilled ends a process with SIGKILL in mid-work; what it said is done must be there.
func TestNothingIsLostWhenTheProcessIsKilled(t *testing.T) {
	dir := t.TempDir()
	first := openStore(t, dir)
	newApp(t, first, "hello")
	check(t, first.Close())
	for round := range 3 {
		said := killAfter(t, dir, 60+37*round)
		s := openStore(t, dir) // the kernel has given the lock back
		for _, line := range said {
			var id int64
			if _, err := fmt.Sscanf(line, "deployment %d", &id); err == nil {
				if _, err := s.Deployment(t.Context(), id); err != nil {
					t.Errorf("lost: %v", err)
				}
			} else if _, err := fmt.Sscanf(line, "logged %d", &id); err == nil {
				if !strings.Contains(strings.Join(texts(t, s, id), "\n"), fmt.Sprintf("log line of %d", id)) {
					t.Errorf("lost the log line of %d", id)
				}
			}
		}
		if got := query(t, s.read, `PRAGMA integrity_check`); got != "ok" {
			t.Errorf("integrity check: %s", got)
		}
		if unfinished := must[[]Deployment](t)(s.Unfinished(t.Context(), "hello")); len(unfinished) != 1 {
			t.Errorf("%d deployments wait, want the newest only", len(unfinished))
		}
		check(t, s.Close())
	}
}

// killAfter runs the victim until it has printed the given number of lines, and gives all it printed.
func killAfter(t *testing.T, dir string, lines int) (said []string) {
	t.Helper()
	cmd := exec.Command(must[string](t)(os.Executable()))
	cmd.Env = append(os.Environ(), "SHIPGATE_STORE_TEST_VICTIM="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, errorsOf(err, cmd.Start()))
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if said = append(said, scanner.Text()); len(said) == lines {
			check(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); len(said) < lines {
		t.Fatalf("the child ended by itself after %d lines: %v", len(said), err)
	}
	return said
}
