package github

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	gh "github.com/google/go-github/v60/github"
)

// answered is what go-github makes of an answer.
func answered(status int, body string, header ...string) error {
	response := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: &http.Request{Method: "GET", URL: &url.URL{}}}
	for i := 0; i < len(header); i += 2 {
		response.Header.Set(header[i], header[i+1])
	}
	return gh.CheckResponse(response)
}

func TestClassify(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	reset := fmt.Sprint(now.Add(10 * time.Minute).Unix())
	date := now.Add(time.Hour).Format(http.TimeFormat) // GitHub's clock, an hour ahead of ours
	said := `{"message":"Sorry"}`
	for _, c := range []struct {
		name  string
		err   error
		kind  troubleKind
		pause time.Duration
	}{
		{"no connection", &url.Error{Op: "Post", Err: errors.New("connection refused")}, transient, 0},
		{"refused redirect", &url.Error{Op: "Post", Err: fmt.Errorf("%w: GET https://evil.example.com", errRedirect)}, refused, 0},
		{"500", answered(500, said), transient, 0},
		{"503 and a time", answered(503, said, "Retry-After", "7"), transient, 7 * time.Second},
		{"408", answered(408, said), transient, 0},
		{"401", answered(401, said), refused, 0},
		{"401 with two factors", answered(401, said, "X-GitHub-OTP", "required; app"), refused, 0},
		{"403", answered(403, said), refused, 0},
		{"404", answered(404, said), refused, 0},
		{"409", answered(409, said), refused, 0},
		{"410", answered(410, said), refused, 0},
		{"422", answered(422, said), refused, 0},
		{"451", answered(451, said), refused, 0},
		{"301", answered(301, said), refused, 0},
		{"429", answered(429, said), limited, time.Minute},
		{"429 and a time", answered(429, said, "Retry-After", "30"), limited, 30 * time.Second},
		{"429 and no time", answered(429, said, "Retry-After", "soon"), limited, time.Minute},
		{"429 and no wait", answered(429, said, "Retry-After", "0"), limited, time.Second},
		{"429 and a year", answered(429, said, "Retry-After", "31536000"), limited, 24 * time.Hour},
		{"429 and a date", answered(429, said, "Retry-After", now.Add(time.Minute+time.Hour).Format(http.TimeFormat), "Date", date), limited, time.Minute},
		{"429 and a reset", answered(429, said, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", reset), limited, 10 * time.Minute},
		{"403 and a time", answered(403, said, "Retry-After", "30"), limited, 30 * time.Second},
		{"403, nothing left", answered(403, said, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", reset), limited, 10 * time.Minute},
		{"403, nothing left, other clock", answered(403, said, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(now.Add(70*time.Minute).Unix()),
			"Date", date), limited, 10 * time.Minute},
		{"403, nothing left, long ago", answered(403, said, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "5"), limited, time.Second},
		{"403 that says so", answered(403, `{"message":"You have exceeded a Secondary Rate limit"}`), limited, time.Minute},
		{"403 by its address", answered(403, `{"message":"x","documentation_url":"https://docs.github.com/x#secondary-rate-limits"}`), limited, time.Minute},
		{"go-github's own memory", &gh.RateLimitError{Rate: gh.Rate{Reset: gh.Timestamp{Time: now.Add(5 * time.Minute)}},
			Response: &http.Response{StatusCode: 403, Header: http.Header{}}}, limited, 5 * time.Minute},
		{"its other memory", &gh.AbuseRateLimitError{RetryAfter: new(3 * time.Minute), Response: &http.Response{StatusCode: 403, Header: http.Header{}}},
			limited, 3 * time.Minute},
		{"no JSON", answered(422, `<html>`), refused, 0},
	} {
		got := classify(c.err, now)
		pause := time.Duration(0)
		if !got.until.IsZero() {
			pause = got.until.Sub(now)
		}
		if got.kind != c.kind || pause != c.pause {
			t.Errorf("%s: kind %d, pause %s; want %d, %s", c.name, got.kind, pause, c.kind, c.pause)
		}
		if got.Error() == "" {
			t.Errorf("%s: nothing is said", c.name)
		}
	}
	detailed := classify(answered(422, `{"message":"Validation Failed","errors":[{"message":"No commit found for SHA: 1"}]}`), now)
	if detailed.Error() != "422 Validation Failed: No commit found for SHA: 1" {
		t.Errorf("says %q", detailed)
	}
}

func TestRedirects(t *testing.T) {
	request := func(method, address string) *http.Request {
		r, err := http.NewRequest(method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	from := request("POST", "https://api.github.com/repos/a/b")
	for address, follows := range map[string]bool{
		"POST https://api.github.com/repositories/7": true, "GET https://api.github.com/repositories/7": false, "POST http://api.github.com/repositories/7": false,
		"POST https://api.github.com.evil.example.com/": false, "POST https://api.github.com:8443/": false, "POST https://github.com/": false,
	} {
		method, to, _ := strings.Cut(address, " ")
		err := checkRedirect(request(method, to), []*http.Request{from})
		if (err == nil) != follows || (err != nil && !errors.Is(err, errRedirect)) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if checkRedirect(from, []*http.Request{from, from, from, from, from}) == nil {
		t.Error("goes round in circles")
	}
}

type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) { e.read += len(p); return len(p), nil }
func (e *endless) Close() error               { return nil }

type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func TestAnswersAreBounded(t *testing.T) {
	body := &endless{}
	client := newHTTPClient(answering(func(r *http.Request) *http.Response {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body, Request: r}
	}), time.Minute)
	response, err := client.Get("https://api.github.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != answerLimit {
		t.Errorf("read %d bytes, error %v", n, err)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\r\nb\u2028c\x1b[31md": "a b c [31md", "  a  b ": "a b", "": "", "12345": "12345", "abcdefghijk": "abcdefghi…", "äöüäöüäöüäö": "äöüäöüäöü…",
	} {
		limit := 10
		if strings.Contains(text, "\x1b") {
			limit = 100
		}
		if got := oneLine(text, limit); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
