package dockerengine

import (
	"archive/tar"
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/shipgate/shipgate/store"
)

// A grace of an hour is over at once, or the test does not end.
func TestStopKillsWhatWouldNotLearnOfIt(t *testing.T) {
	l := newLab(t)
	image := l.shellImage(t)
	for _, c := range []struct{ name, script, signal string }{
		{name: "no handler", script: "echo ready; exec sleep 1000"},
		{name: "a shell without a trap that waits for its child", script: "echo ready; sleep 1000; echo over"},
		{name: "ignored", script: "trap '' TERM; echo ready; exec sleep 1000"},
		{name: "a handler for another signal", script: "trap 'exit 7' TERM; echo ready; sleep 1000; exit 8", signal: "SIGUSR1"},
		{name: "a real-time signal", script: "echo ready; exec sleep 1000", signal: "RTMIN+3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := l.script(t, image, c.script, c.signal)
			l.awaitSleep(t, spec)
			l.mustStop(t, spec, time.Hour)
			l.wantExit(t, spec, 137)
		})
	}
}

// The process number of an engine elsewhere may be that of another container here.
func TestAnotherContainersProcessIsNotJudged(t *testing.T) {
	l := newLab(t)
	image := l.shellImage(t)
	spec := l.script(t, image, "echo ready; exec sleep 1000", "")
	l.awaitSleep(t, spec)
	found := l.state(t, spec)
	found.ID = strings.Repeat("0", len(found.ID))
	if dropsStopSignal(&found) {
		t.Error("the process was taken for that of another container")
	}
	found = l.state(t, spec)
	found.Config.StopSignal = "UNKNOWN"
	if dropsStopSignal(&found) {
		t.Error("a signal of no known number was judged")
	}
}

func TestStopLeavesTheGraceToAHandler(t *testing.T) {
	l := newLab(t)
	image := l.shellImage(t)
	const slow = "{ sleep 1; exit 7; }"
	for _, c := range []struct{ name, script, signal string }{
		{name: "a slow handler", script: "slow() " + slow + "; trap slow TERM; echo ready; while :; do sleep 0.1; done"},
		{name: "a handler that waits for a child", script: "sleep 1000 & trap 'kill $!; wait; exit 7' TERM; echo ready; wait"},
		{name: "another stop signal", script: "slow() " + slow + "; trap slow USR1; echo ready; while :; do sleep 0.1; done", signal: "10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := l.script(t, image, c.script, c.signal)
			l.mustStop(t, spec, time.Hour)
			l.wantExit(t, spec, 7)
		})
	}
	t.Run("a handler that goes on", func(t *testing.T) {
		spec := l.script(t, image, "trap : TERM; echo ready; while :; do sleep 0.1; done", "")
		const grace = 2 * time.Second
		asked := time.Now()
		l.mustStop(t, spec, grace)
		if l.wantExit(t, spec, 137); time.Since(asked) < grace {
			t.Errorf("killed after %s", time.Since(asked))
		}
	})
}

// Docker's own init has no handlers either: it waits for signals, and while it does not even a mask shows it.
func TestStopLeavesTheGraceToAnInit(t *testing.T) {
	l := newLab(t)
	image := l.shellImage(t)
	spec := l.spec(t)
	spec.Image, spec.Command = image, shell("slow() { sleep 1; exit 7; }; trap slow TERM; echo ready; while :; do sleep 0.1; done")
	on, err := l.ensureNetwork(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	config, host, networking := l.settings(spec, on, nil)
	host.Init = new(true)
	if _, err := l.docker.ContainerCreate(t.Context(), config, host, networking, nil, spec.Name); err != nil {
		t.Fatal(err)
	}
	if err := l.docker.ContainerStart(t.Context(), spec.Name, container.StartOptions{}); err != nil {
		if strings.Contains(err.Error(), "docker-init") {
			t.Skip("NOT TESTED, this engine has no init: ", err)
		}
		t.Fatal(err)
	}
	l.awaitReady(t, spec)
	l.mustStop(t, spec, time.Hour)
	l.wantExit(t, spec, 7)
}

// script runs a shell script as the first process of a container until it says that it is ready.
func (l *lab) script(t *testing.T, image, script, stopSignal string) store.ContainerSpec {
	t.Helper()
	spec := l.spec(t)
	spec.Image, spec.Command, spec.StopSignal = image, shell(script), stopSignal
	l.start(t, spec)
	l.awaitReady(t, spec)
	return spec
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

func (l *lab) awaitReady(t *testing.T, spec store.ContainerSpec) {
	t.Helper()
	eventually(t, "the script", func() bool {
		ready := false
		err := l.Logs(t.Context(), spec.Name, -1, false, func(line string) { ready = ready || line == "ready" })
		return err == nil && ready
	})
}

// awaitSleep waits until the process can be seen to drop its stop signal.
func (l *lab) awaitSleep(t *testing.T, spec store.ContainerSpec) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED, only root sees where a process sleeps")
	}
	found := l.state(t, spec)
	if _, here := processFolder(&found); !here {
		if os.Getenv("SHIPGATE_TEST_ENGINE") == "required" {
			t.Fatal("the engine's processes cannot be seen from here")
		}
		t.Skip("NOT TESTED, the engine's processes cannot be seen from here")
	}
	eventually(t, "its sleep", func() bool {
		found := l.state(t, spec)
		return dropsStopSignal(&found)
	})
}

func (l *lab) mustStop(t *testing.T, spec store.ContainerSpec, grace time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Stop(ctx, spec.Name, grace); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) wantExit(t *testing.T, spec store.ContainerSpec, code int) {
	t.Helper()
	if state := l.state(t, spec).State; state.Running || state.ExitCode != code {
		t.Errorf("running %t, exit code %d, want %d", state.Running, state.ExitCode, code)
	}
}

// shellImage has a shell and sleep, from the static busybox of this machine.
func (l *lab) shellImage(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("NOT TESTED, there is no busybox: ", err)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, header := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "bin/sh", Mode: 0o755, Size: int64(len(binary))},
		{Typeflag: tar.TypeSymlink, Name: "bin/sleep", Linkname: "sh", Mode: 0o777},
	} {
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
	return l.importImage(t, archive.Bytes())
}

func TestDrops(t *testing.T) {
	const term = 15
	deaf := map[string]string{
		"State": "S (sleeping)", "NSpid": "4242\t1", "SigBlk": "0000000000000000", "SigIgn": "0000000000000000",
		"SigCgt": "0000000000000000", "voluntary_ctxt_switches": "12",
	}
	for _, c := range []struct {
		name, field, value string
		wanted             bool
	}{
		{"nothing is caught", "SigIgn", "0000000000000000", true},
		{"it is ignored", "SigIgn", "0000000000004000", true},
		{"its neighbours are caught", "SigCgt", "000000000000a000", true},
		{"its neighbours are blocked", "SigBlk", "fffffffffffbbfff", true},
		{"it is caught", "SigCgt", "0000000000004000", false},
		{"it is blocked", "SigBlk", "0000000000004000", false},
		{"not the first process", "NSpid", "4242\t11", false},
		{"no namespace of its own", "NSpid", "1", false},
		{"no numbers", "NSpid", "", false},
		{"no caught ones", "SigCgt", "", false},
		{"no blocked ones", "SigBlk", "", false},
		{"masks of another form", "SigCgt", "10000000000000000", false},
		{"it runs", "State", "R (running)", false},
		{"no switches", "voluntary_ctxt_switches", "", false},
	} {
		status := maps.Clone(deaf)
		status[c.field] = c.value
		if got := drops(status, "hrtimer_nanosleep", status, term); got != c.wanted {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	for place, wanted := range map[string]bool{
		"ep_poll": true, "0": false, "": false, "do_sigtimedwait": false, "do_sigtimedwait.isra.0": false, "__x64_sys_rt_sigtimedwait": false,
	} {
		if drops(deaf, place, deaf, term) != wanted {
			t.Errorf("in %q: %t", place, !wanted)
		}
	}
	for field, value := range map[string]string{"State": "R (running)", "voluntary_ctxt_switches": "13"} {
		later := maps.Clone(deaf)
		later[field] = value
		if drops(deaf, "ep_poll", later, term) || drops(later, "ep_poll", deaf, term) {
			t.Errorf("judged although it ran: %s %s", field, value)
		}
	}
	last := maps.Clone(deaf)
	last["SigCgt"] = "8000000000000000"
	if drops(last, "ep_poll", last, lastRealTime) {
		t.Error("the last signal is caught")
	}
}

func TestSignalNumber(t *testing.T) {
	for name, wanted := range map[string]int{
		"SIGTERM": 15, "TERM": 15, "sigterm": 15, "15": 15, "SIGQUIT": 3, "SIGWINCH": 28, "USR1": 10, "1": 1, "64": 64,
		"RTMIN": 34, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "rtmin+15": 49, "SIGRTMAX": 64, "RTMAX-14": 50, "37": 37,
		"0": 0, "-1": 0, "65": 0, "": 0, "SIG": 0, "TERMINATE": 0, "RTMIN-1": 0, "RTMAX+1": 0, "RTMIN+31": 0, "RTMINX": 0,
	} {
		if number, known := signalNumber(name); known != (wanted != 0) || known && number != wanted {
			t.Errorf("%q: %d %t, want %d", name, number, known, wanted)
		}
	}
}
