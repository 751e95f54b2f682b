package deploy

import (
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fastDir is a directory in memory where there is one: these tests commit some ten thousand transactions.
func fastDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "shipgate-deploy-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ourGoroutines gives the stacks of the goroutines that run code of this package, tests aside.
func ourGoroutines() []string {
	buffer := make([]byte, 1<<20)
	buffer = buffer[:runtime.Stack(buffer, true)]
	var ours []string
	for stack := range strings.SplitSeq(string(buffer), "\n\n") {
		if strings.Contains(stack, "shipgate/deploy.(*") && !strings.Contains(stack, "testing.tRunner(") {
			ours = append(ours, stack)
		}
	}
	return ours
}

// leftGoroutines gives those that do not go away. One that has said it is done may still be on its last instruction.
func leftGoroutines() []string {
	left := ourGoroutines()
	for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = ourGoroutines() {
		time.Sleep(5 * time.Millisecond)
	}
	return left
}

// checkGoroutines fails a test that leaves any of our goroutines behind. Not for tests that run beside others.
func checkGoroutines(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if left := leftGoroutines(); len(left) > 0 {
			t.Errorf("%d goroutines are left, such as\n%s", len(left), left[0])
		}
	})
}

func sockets(all ...string) []netip.AddrPort {
	var parsed []netip.AddrPort
	for _, socket := range all {
		parsed = append(parsed, netip.MustParseAddrPort(socket))
	}
	return parsed
}

// underRace: the race detector makes everything slower, and one schedule after another has few races to find.
var underRace bool

// thinned says that a schedule is left out: with the race detector all but every nineteenth, other ones in each scenario.
func thinned(scenario scenario, n int) bool {
	if !underRace || os.Getenv("SHIPGATE_CRASH_PAIRS") != "" {
		return false
	}
	return (n+len(scenario.String()))%19 != 0
}
