package dockerengine

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
)

// dropsStopSignal says that the container's process is sure never to learn of its stop signal. It is false wherever
// that cannot be seen: the container does not run, or its process is not on this host.
func dropsStopSignal(found *container.InspectResponse) bool {
	process, here := processFolder(found)
	signal, known := signalNumber(cmp.Or(found.Config.StopSignal, "SIGTERM"))
	if !here || !known {
		return false
	}
	before, err := os.ReadFile(filepath.Join(process, "status"))
	place, placeErr := os.ReadFile(filepath.Join(process, "wchan"))
	after, afterErr := os.ReadFile(filepath.Join(process, "status"))
	if errors.Join(err, placeErr, afterErr) != nil {
		return false
	}
	return drops(statusFields(before), string(place), statusFields(after), signal)
}

// statusFields reads /proc/PID/status, lines of a name, a colon and a value; see proc(5).
func statusFields(status []byte) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	return fields
}

// drops judges by two readings of a process's status and the kernel function it sleeps in, read between them. The
// masks are hexadecimal numbers with signal 1 as the lowest bit.
//
// The kernel drops what the first process of a PID namespace has no handler for, see pid_namespaces(7), unless it is
// blocked: then it stays pending for signalfd(2) or sigwait(3). While a process is in sigwait, as most inits are, it
// has nothing blocked. So a mask counts only where the process was asleep in something else for as long as it was read.
func drops(before map[string]string, place string, after map[string]string, signal int) bool {
	first := strings.HasSuffix(before["NSpid"], "\t1") // its number in the innermost namespace is the last
	const switches = "voluntary_ctxt_switches"
	asleep := strings.HasPrefix(before["State"], "S") && strings.HasPrefix(after["State"], "S") &&
		before[switches] != "" && before[switches] == after[switches]
	elsewhere := place != "" && place != "0" && !strings.Contains(place, "sigtimedwait") // 0 where it is not shown to us
	caught, err := strconv.ParseUint(before["SigCgt"], 16, 64)
	blocked, blockedErr := strconv.ParseUint(before["SigBlk"], 16, 64)
	return first && asleep && elsewhere && err == nil && blockedErr == nil && (caught|blocked)&(1<<(signal-1)) == 0
}

// The real-time signals as Docker counts them, which are those of the C library.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// signalNumber reads a stop signal as Docker does: a number, or a name in any case, with or without SIG, also counted
// from the ends of the real-time signals, as in SIGRTMIN+3.
func signalNumber(name string) (number int, known bool) {
	if number, err := strconv.Atoi(name); err == nil {
		return number, number >= 1 && number <= lastRealTime
	}
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for end, base := range map[string]int{"RTMIN": firstRealTime, "RTMAX": lastRealTime} {
		if offset, found := strings.CutPrefix(name, end); found {
			steps, err := strconv.Atoi(cmp.Or(offset, "0"))
			number = base + steps
			return number, err == nil && number >= firstRealTime && number <= lastRealTime
		}
	}
	number = int(unix.SignalNum("SIG" + name))
	return number, number != 0
}
