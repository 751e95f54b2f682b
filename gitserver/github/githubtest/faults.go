package githubtest

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is an answer that is not what was hoped for.
type Fault struct {
	Status    int // 0: none at all
	Header    map[string]string
	Message   string
	AfterWork bool          // the request was done all the same
	Hang      bool          // until the client gives up
	Late      time.Duration // with AfterWork: the request is done this long after the client gave up
}

// ServerError is an answer of 500 and up.
func ServerError(status int) Fault { return Fault{Status: status, Message: "Server Error"} }

// Hanging does not answer until the client gives up.
func Hanging() Fault { return Fault{Hang: true} }

// Cut closes the connection instead of an answer.
func Cut() Fault { return Fault{} }

// LostAnswer does what it is asked, and closes the connection instead of an answer.
func LostAnswer() Fault { return Fault{AfterWork: true} }

// TooMany is 429, with the seconds to wait unless they are negative.
func TooMany(seconds int) Fault {
	return Fault{Status: 429, Message: "Too many requests", Header: retryAfter(seconds)}
}

// SecondaryLimit is 403, with the seconds to wait unless they are negative.
func SecondaryLimit(seconds int) Fault {
	return Fault{Status: 403, Message: "You have exceeded a secondary rate limit.", Header: retryAfter(seconds)}
}

func retryAfter(seconds int) map[string]string {
	if seconds < 0 {
		return nil
	}
	return map[string]string{"Retry-After": strconv.Itoa(seconds)}
}

// RateLimit is 403 with nothing left until the reset.
func RateLimit(reset time.Time) Fault {
	return Fault{Status: 403, Message: "API rate limit exceeded for installation.", Header: map[string]string{
		"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": strconv.FormatInt(reset.Unix(), 10)}}
}

// Redirect sends the client to another address.
func Redirect(status int, location string) Fault {
	return Fault{Status: status, Message: "Moved", Header: map[string]string{"Location": location}}
}

// Refusal is an answer of 400 and up.
func Refusal(status int, message string) Fault { return Fault{Status: status, Message: message} }

type waiting struct {
	pattern string
	fault   Fault
}

// FailNext has the next requests that match fail, each by the next fault. The pattern is "METHOD /path" as path.Match
// takes it: below the address of the API, or that of git, such as "GET /OWNER/NAME.git/info/refs".
func (f *Fake) FailNext(pattern string, faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		f.faults = append(f.faults, waiting{pattern, fault})
	}
}

// FailBy asks for the fault of each request, one at a time; nil ends that. The schedule must not ask the Fake anything.
func (f *Fake) FailBy(schedule func(*http.Request) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scheduled = schedule
}

func (f *Fake) faultFor(r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := r.Method + " " + strings.TrimPrefix(r.URL.Path, apiPath)
	for i, next := range f.faults {
		if match, _ := path.Match(next.pattern, asked); match {
			f.faults = slices.Delete(f.faults, i, i+1)
			return &next.fault
		}
	}
	if f.scheduled != nil {
		return f.scheduled(r)
	}
	return nil
}

func (fault Fault) answer(w http.ResponseWriter, r *http.Request) {
	if fault.Hang {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	}
	if fault.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for name, value := range fault.Header {
		w.Header().Set(name, value)
	}
	say(w, fault.Status, fault.Message)
}

// say answers as GitHub does when it is not content.
func say(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q,"documentation_url":"https://docs.github.com/rest"}`, message)
}
