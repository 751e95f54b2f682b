package gitserver

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

const (
	dataBand     = 1
	progressBand = 2

	smallChunk = 994             // side-band: 1000 bytes with the length and the band
	largeChunk = 65515           // side-band-64k, within what pktline allows
	keepAlive  = 5 * time.Second // a proxy in between gives up on a silent answer
	longLine   = 4096            // more of a line than anyone reads
)

// sideband writes the answer to a push: lines for people on one band, the report for git on another. A client that is
// gone makes it silent.
type sideband struct {
	chunk int           // 0: the client has no bands, and only reads the report
	every time.Duration // after how much silence an empty packet is sent

	mu      sync.Mutex
	packets *pktline.Encoder
	plain   io.Writer
	flush   func() error
	broken  bool
	silence *time.Timer

	done   chan struct{}
	beater sync.WaitGroup
}

func newSideband(w io.Writer, flush func() error, capabilities *capability.List, every time.Duration) *sideband {
	s := &sideband{
		every: every, packets: pktline.NewEncoder(w), plain: w, flush: flush,
		silence: time.NewTimer(every), done: make(chan struct{}),
	}
	switch {
	case capabilities.Supports(capability.Sideband64k):
		s.chunk = largeChunk
	case capabilities.Supports(capability.Sideband):
		s.chunk = smallChunk
	default:
		return s
	}
	s.beater.Go(s.beat)
	return s
}

// beat sends an empty packet after each silence.
func (s *sideband) beat() {
	for {
		select {
		case <-s.done:
			return
		case <-s.silence.C:
			s.send([]byte{dataBand})
		}
	}
}

func (s *sideband) send(packet []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.broken {
		s.broken = s.packets.Encode(packet) != nil || s.flush() != nil
	}
	s.silence.Reset(s.every)
}

// line shows text to the person who pushes; each of its lines with the word in front, if there is one.
func (s *sideband) line(word, text string) {
	if s.chunk == 0 {
		return
	}
	var out strings.Builder
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if part = printable(part); word != "" {
			part = fmt.Sprintf("%-7s %s", word, part)
		}
		out.WriteString(strings.TrimRight(part, " \t") + "\n")
	}
	s.write(progressBand, []byte(out.String()))
}

func (s *sideband) write(band byte, content []byte) {
	for len(content) > 0 {
		n := min(len(content), s.chunk)
		s.send(append([]byte{band}, content[:n]...))
		content = content[n:]
	}
}

// finish sends the report and ends the answer.
func (s *sideband) finish(report []byte) {
	s.stop()
	if s.chunk == 0 {
		_, _ = s.plain.Write(report)
		return
	}
	s.write(dataBand, report)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.broken {
		s.broken = s.packets.Flush() != nil || s.flush() != nil
	}
}

// stop ends the keepalives. It can be called more than once, from one goroutine.
func (s *sideband) stop() {
	select {
	case <-s.done:
	default:
		close(s.done)
		s.beater.Wait()
	}
}

// printable takes out what could move a terminal's cursor or hide text. Tabs stay.
func printable(line string) string {
	line = strings.ToValidUTF8(line, "\uFFFD")
	if len(line) > longLine {
		cut := longLine
		for !utf8.RuneStart(line[cut]) {
			cut--
		}
		line = line[:cut] + " …"
	}
	return strings.Map(func(r rune) rune {
		if r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, line)
}
