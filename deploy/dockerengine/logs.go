package dockerengine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"github.com/shipgate/shipgate/store"
)

// longestLine is where a line without an end is cut, in bytes.
const longestLine = 64 << 10

// Logs hands on what the container wrote to stdout and stderr, line by line in its order and as it is, beginning with
// the last tail lines, or with the first line when tail is negative. With follow it goes on until the container or ctx
// ends.
func (e *Engine) Logs(ctx context.Context, name string, tail int, follow bool, write func(line string)) error {
	found, err := e.inspect(ctx, name)
	if err != nil {
		return err
	}
	if found == nil {
		return gone(name)
	}
	options := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow, Tail: "all"}
	if tail >= 0 {
		options.Tail = strconv.Itoa(tail)
	}
	stream, err := e.docker.ContainerLogs(ctx, found.ID, options)
	if err != nil {
		return e.explain("read log of "+name, err)
	}
	defer stream.Close()
	if err := demultiplex(stream, write); err != nil {
		return fmt.Errorf("read log of %s: %w", name, err)
	}
	return nil
}

func gone(name string) error {
	return store.Problemf(store.CodeErrored, "container %s is gone", name).WithHint("docker ps --all")
}

// demultiplex splits Docker's one stream of two into lines, each stream keeping its own unfinished one, which counts as
// a line only where the stream is known to end.
func demultiplex(stream io.Reader, write func(line string)) error {
	out, errs := &lineWriter{write: write}, &lineWriter{write: write}
	if _, err := stdcopy.StdCopy(out, errs, stream); err != nil {
		return err
	}
	out.flush()
	errs.flush()
	return nil
}

type lineWriter struct {
	write   func(line string)
	pending []byte
}

func (w *lineWriter) Write(chunk []byte) (int, error) {
	w.pending = append(w.pending, chunk...)
	for {
		line, rest, found := bytes.Cut(w.pending, []byte("\n"))
		if !found {
			break
		}
		w.write(strings.TrimSuffix(string(line), "\r"))
		w.pending = rest
	}
	if len(w.pending) >= longestLine {
		w.flush()
	}
	return len(chunk), nil
}

func (w *lineWriter) flush() {
	if len(w.pending) > 0 {
		w.write(string(w.pending))
		w.pending = nil
	}
}

// plain takes out what could steer a terminal: escape sequences and control characters other than the tab.
func plain(line string) string {
	var kept strings.Builder
	rest := []rune(strings.ToValidUTF8(line, "\uFFFD"))
	for len(rest) > 0 {
		if rest[0] == '\x1b' {
			rest = rest[escapeLength(rest):]
			continue
		}
		if rest[0] == '\t' || !unicode.IsControl(rest[0]) {
			kept.WriteRune(rest[0])
		}
		rest = rest[1:]
	}
	return kept.String()
}

// escapeLength measures the sequence at the start of text, as ECMA-48 forms them: ESC [ parameters and a final byte
// from @ to ~; ESC ] any text up to BEL or ESC \; or ESC and one character.
func escapeLength(text []rune) int {
	if len(text) < 2 {
		return len(text)
	}
	for i, r := range text[2:] {
		switch {
		case text[1] == '[' && r >= '@' && r <= '~', text[1] == ']' && r == '\a':
			return i + 3
		case text[1] == ']' && r == '\x1b':
			return i + 2 // and its own two characters next
		case text[1] != '[' && text[1] != ']':
			return 2
		}
	}
	return len(text)
}
