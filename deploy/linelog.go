package deploy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/shipgate/shipgate/store"
)

// The limits of what the build, the release command and the start of one deployment may put into its history. They hold for
// the deployment as a whole; of each log that is cut the last lines are kept, where the reason for a failure is.
const (
	logBytes     = 1 << 20
	logLinesMost = 10_000
	lineBytes    = 8 << 10
	tailLines    = 100
)

// lineLog writes lines to the history in the order they come, as many at a time as came while the last ones were written.
type lineLog struct {
	attempt *attempt
	kind    string
	mu      sync.Mutex
	waiting []store.Event
	arrived chan struct{}
	done    sync.WaitGroup

	bytes, lines int           // that may still be written
	cut          bool          // the limit was reached
	tail         []store.Event // the last lines since then, as a ring
	left         int           // how many lines came since then
}

func (a *attempt) newLineLog(kind string) *lineLog {
	l := &lineLog{attempt: a, kind: kind, arrived: make(chan struct{}, 1)}
	lines, bytes, err := a.Store.LogSize(context.Background(), a.d.ID)
	if err != nil {
		a.logger.Error("measure log", "error", err)
	}
	l.lines, l.bytes = logLinesMost-lines, logBytes-bytes
	arrived := l.arrived
	l.done.Go(func() {
		for range arrived {
			l.flush()
		}
		l.flush()
	})
	return l
}

func (l *lineLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arrived == nil {
		return // a builder that speaks after it returned
	}
	if len(line) > lineBytes {
		line = line[:lineBytes] + " …"
	}
	event := store.Event{Kind: l.kind, At: time.Now(), Text: line}
	if l.lines--; l.lines < 0 || l.bytes < len(line) {
		l.keepTail(event)
		return
	}
	l.bytes -= len(line)
	l.write(event)
}

// keepTail says once that the log is cut, and remembers the last lines.
func (l *lineLog) keepTail(event store.Event) {
	if !l.cut {
		l.cut, l.lines, l.bytes = true, 0, 0
		l.write(store.Event{Kind: l.kind, At: event.At, Text: fmt.Sprintf(
			"(the log is longer than %d lines or %d KiB; of the rest only the last %d lines are kept)", logLinesMost, logBytes>>10, tailLines)})
	}
	if len(l.tail) < tailLines {
		l.tail = append(l.tail, event)
	} else {
		l.tail[l.left%tailLines] = event
	}
	l.left++
}

// write has an event written soon. The log is locked.
func (l *lineLog) write(event store.Event) {
	event.Text = l.attempt.masked.Replace(event.Text)
	l.waiting = append(l.waiting, event)
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

func (l *lineLog) flush() {
	l.mu.Lock()
	events := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(events) == 0 {
		return
	}
	if err := l.attempt.Store.Log(context.Background(), l.attempt.d.ID, events...); err != nil {
		l.attempt.logger.Error("write log", "kind", l.kind, "error", err)
	}
}

func (l *lineLog) close() {
	l.mu.Lock()
	if l.left > 0 {
		from := max(l.left-tailLines, 0)
		for i := from; i < l.left; i++ {
			l.write(l.tail[i%tailLines])
		}
	}
	close(l.arrived)
	l.arrived = nil
	l.mu.Unlock()
	l.done.Wait()
}
