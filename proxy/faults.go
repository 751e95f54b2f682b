package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/textproto"
	"strings"
	"sync"
)

// maxInterim is how many 1xx answers may come before the answer of an app.
const maxInterim = 16

var errInterim = fmt.Errorf("more than %d interim answers", maxInterim)

// limitInterim bounds the 1xx answers to one request. The limit of the header's size counts all of them together.
func limitInterim() func(int, textproto.MIMEHeader) error {
	seen := 0
	return func(_ int, header textproto.MIMEHeader) error {
		if seen++; seen > maxInterim {
			return errInterim
		}
		return nil
	}
}

// faultOf names what an app did wrong that gave no answer.
func faultOf(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, errInterim):
		return fmt.Sprintf("sent more than %d interim answers", maxInterim)
	case strings.Contains(text, "headers exceeded"), strings.Contains(text, "header list"):
		return fmt.Sprintf("sent a header of more than %d KiB", answerHeaderLimit>>10)
	case strings.Contains(text, "malformed"), strings.Contains(text, "invalid"), strings.Contains(text, "too many transfer encodings"), strings.Contains(text, "unsupported transfer encoding"):
		return "did not answer in valid HTTP/1.1"
	}
	return "ended the connection without an answer"
}

// faultLog says each kind of fault of a deployment once: every request may meet it.
type faultLog struct {
	logger *slog.Logger
	said   sync.Map // by kind
}

func (l *faultLog) note(kind string, err error) {
	if _, before := l.said.LoadOrStore(kind, true); !before {
		l.logger.Warn("requests fail: the app "+kind, "error", err)
	}
}
