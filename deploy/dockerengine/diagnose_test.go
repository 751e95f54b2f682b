package dockerengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/docker/docker/pkg/stdcopy"
)

func TestDiagnoseShowsWhereItListens(t *testing.T) {
	l := newLab(t)
	for name, c := range map[string]struct {
		env    string
		wanted string
	}{
		"only on loopback": {"LISTEN_HOST=127.0.0.1", "[127.0.0.1:8080]"},
		"on another port":  {"PORT=9090", "[[::]:9090]"},
		"nowhere":          {"NEVER_LISTEN=1", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := l.spec(t, c.env)
			l.start(t, spec)
			eventually(t, c.wanted, func() bool {
				diagnosis, err := l.Diagnose(t.Context(), spec.Name, 50)
				if err != nil {
					t.Fatal(err)
				}
				if diagnosis.Listening == nil {
					t.Skip("NOT TESTED, the engine's processes are not on this host")
				}
				return len(diagnosis.Log) > 0 && fmt.Sprint(diagnosis.Listening) == c.wanted
			})
		})
	}
}

func TestDiagnoseShowsTheLastLines(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t, "LOG_LINES=60", "NEVER_LISTEN=1")
	l.start(t, spec)
	log := func(lines int) []string {
		diagnosis, err := l.Diagnose(t.Context(), spec.Name, lines)
		if err != nil {
			t.Fatal(err)
		}
		return diagnosis.Log
	}
	var all []string
	eventually(t, "the whole log", func() bool {
		all = log(100)
		return len(all) == 61
	})
	// Docker keeps the order within stdout and within stderr; between the two it is the one it read them in.
	streams := [2]int{}
	for _, line := range all {
		var number int
		if fmt.Sscanf(line, "line %d", &number); number == 0 {
			continue
		}
		if stream := number % 2; number < streams[stream] {
			t.Errorf("line %d comes after line %d", number, streams[stream])
		} else {
			streams[stream] = number
		}
	}
	if last := log(5); !slices.Equal(last, all[56:]) {
		t.Errorf("the last five lines are %q, want %q", last, all[56:])
	}
}

func TestDiagnoseCannotSteerATerminal(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	l.start(t, spec)
	get(t, spec.Address, "/log?line=%1b%5B31mred")
	eventually(t, "the line", func() bool {
		diagnosis, err := l.Diagnose(t.Context(), spec.Name, 1)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Equal(diagnosis.Log, []string{"red"})
	})
}

func TestLogsFollow(t *testing.T) {
	l := newLab(t)
	spec := l.spec(t)
	l.start(t, spec)
	get(t, spec.Address, "/log?line=first")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan string, 100)
	ended := make(chan error, 1)
	go func() { ended <- l.Logs(ctx, spec.Name, -1, true, func(line string) { lines <- line }) }()
	wait := func(wanted string) {
		eventually(t, wanted, func() bool { return strings.Contains(<-lines, wanted) })
	}
	wait("first")
	get(t, spec.Address, "/log?line=second")
	wait("second")
	cancel()
	if err := <-ended; err == nil {
		t.Error("a log that was cut off looks complete")
	}
	var tail []string
	if err := l.Logs(t.Context(), spec.Name, 1, false, func(line string) { tail = append(tail, line) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tail, []string{"second"}) {
		t.Errorf("the last line is %q", tail)
	}
}

func TestDemultiplex(t *testing.T) {
	var stream bytes.Buffer
	out, errs := stdcopy.NewStdWriter(&stream, stdcopy.Stdout), stdcopy.NewStdWriter(&stream, stdcopy.Stderr)
	io.WriteString(out, "one\r\ntw")
	io.WriteString(errs, "an error\n")
	io.WriteString(out, "o\n\nend")
	io.WriteString(errs, strings.Repeat("x", longestLine+1)+"\n")
	var lines []string
	if err := demultiplex(&stream, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	wanted := []string{"one", "an error", "two", "", strings.Repeat("x", longestLine+1), "end"}
	if !slices.Equal(lines, wanted) {
		t.Errorf("lines %.200q, want %.200q", lines, wanted)
	}
}

// What a stream that is lost breaks off in is no line: it comes whole when the log is read again.
func TestDemultiplexALostStream(t *testing.T) {
	var stream bytes.Buffer
	io.WriteString(stdcopy.NewStdWriter(&stream, stdcopy.Stdout), "one\ntw")
	io.WriteString(stdcopy.NewStdWriter(&stream, stdcopy.Stderr), "an err")
	var lines []string
	broken := io.MultiReader(&stream, iotest.ErrReader(io.ErrUnexpectedEOF))
	err := demultiplex(broken, func(line string) { lines = append(lines, line) })
	if !errors.Is(err, io.ErrUnexpectedEOF) || !slices.Equal(lines, []string{"one"}) {
		t.Errorf("lines %q, error %v", lines, err)
	}
}

func TestPlain(t *testing.T) {
	for line, wanted := range map[string]string{
		"as it is\ttabbed":           "as it is\ttabbed",
		"\x1b[31;1mred\x1b[0m":       "red",
		"\x1b[2J\x1b[Hcleared":       "cleared",
		"\x1bcreset":                 "reset",
		"bell\a back\b nul\x00":      "bell back nul",
		"\u009b31mC1":                "31mC1",
		"broken \xff byte":           "broken \uFFFD byte",
		"unfinished \x1b[31":         "unfinished ",
		"at the end \x1b":            "at the end ",
		"\x1b]0;title\atext":         "text",
		"\x1b]8;;http://x\x1b\\link": "link",
		"grüße 世界":                   "grüße 世界",
	} {
		if got := plain(line); got != wanted {
			t.Errorf("%q: %q, want %q", line, got, wanted)
		}
	}
}

func TestParseSockets(t *testing.T) {
	const v4 = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0700D60A:1F90 0100D60A:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 0B00007F:8F57 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
   4: nonsense:0050 00000000:0000 0A
   5: 00000000 00000000:0000 0A
   6: 000000:0050 00000000:0000 0A
`
	const v6 = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A
   3: B80D0120000000000000000001000000:FFFF 00000000000000000000000000000000:0000 0A
`
	for table, wanted := range map[string][]string{
		v4: {"127.0.0.1:8080", "0.0.0.0:80"},
		v6: {"[::]:8080", "[::1]:8081", "127.0.0.1:8082", "[2001:db8::1]:65535"},
		"": {},
	} {
		var addresses []netip.AddrPort
		for _, text := range wanted {
			addresses = append(addresses, netip.MustParseAddrPort(text))
		}
		if got := parseSockets(strings.NewReader(table)); !slices.Equal(got, addresses) {
			t.Errorf("sockets %v, want %v", got, addresses)
		}
	}
}
