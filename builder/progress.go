package builder

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const (
	maxLine     = 4096
	minSecret   = 4 // hiding shorter values would hide half of every log
	lineEndings = "\r\n"
)

var colour = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])`)

// lineLog cuts what is written into lines and hands them on without colour and secrets.
type lineLog struct {
	out    func(line string)
	hidden *strings.Replacer

	mu      sync.Mutex
	partial []byte
}

func newLineLog(out func(line string), secrets map[string][]byte) *lineLog {
	var values []string
	for _, secret := range secrets {
		for _, line := range strings.FieldsFunc(string(secret), func(r rune) bool { return strings.ContainsRune(lineEndings, r) }) {
			if len(line) >= minSecret {
				values = append(values, line)
			}
		}
	}
	// The longest first, for one value can begin with another.
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, value := range values {
		pairs = append(pairs, value, "***")
	}
	return &lineLog{out: out, hidden: strings.NewReplacer(pairs...)}
}

// Write takes text with any number of line ends in it.
func (l *lineLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(text) {
		l.partial = append(l.partial, line...)
		if bytes.HasSuffix(line, []byte("\n")) {
			l.emit()
		}
	}
	return len(text), nil
}

// flush hands on a last line that has no end.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit()
}

func (l *lineLog) emit() {
	line := cleanLine(string(l.partial))
	l.partial = l.partial[:0]
	if line != "" {
		l.out(l.hidden.Replace(line))
	}
}

// say logs a line of ours among the builder's.
func (l *lineLog) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out(l.hidden.Replace(cleanLine(fmt.Sprintf(format, args...))))
}

// cleanLine gives what a terminal would show: without colour, and of a line that was written over only the last state.
func cleanLine(line string) string {
	line = strings.TrimRight(colour.ReplaceAllString(line, ""), " \t"+lineEndings)
	if at := strings.LastIndexByte(line, '\r'); at >= 0 {
		prefix := ""
		if strings.HasPrefix(line, "#") { // BuildKit's number of the step
			prefix, _, _ = strings.Cut(line, " ")
			prefix += " "
		}
		line = prefix + line[at+1:]
	}
	line = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, line)
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + "…"
	}
	return line
}
