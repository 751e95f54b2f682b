package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// deployment is one as the server's API gives it.
type deployment struct {
	ID              int64      `json:"id"`
	App             string     `json:"app"`
	SHA             string     `json:"sha"`
	Subject         string     `json:"subject"`
	Strategy        string     `json:"strategy"`
	StrategyReason  string     `json:"strategy_reason"`
	Verdict         string     `json:"verdict"`
	Reason          string     `json:"reason"`
	Hint            string     `json:"hint"`
	Release         int64      `json:"release"`
	Previous        int64      `json:"previous"`
	URL             string     `json:"url"`
	LogURL          string     `json:"log_url"`
	ImageDigest     string     `json:"image_digest"`
	PreviousRelease int64      `json:"previous_release"`
	DurationMS      int64      `json:"duration_ms"`
	CutoverMS       int64      `json:"cutover_ms"`
	Steps           []stepTime `json:"steps"`
}

// stepTime is what a deployment did, and how long that took.
type stepTime struct {
	Name   string `json:"name"`
	TookMS int64  `json:"took_ms"`
}

// protocol is the major version of the API that this client speaks; a server says its own in each answer.
const protocol = "1"

// server is the shipgate that deploys.
type server struct {
	http   *http.Client
	inputs inputs
	place  place
	out    *commands
	token  string
	asked  func(ctx context.Context) (string, error) // for a new token; nil: there is only the one
}

const (
	callPatience = 2 * time.Minute // for one call with all its repetitions; the deployment goes on without us
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

func newServer(client *http.Client, in inputs, p place, out *commands) *server {
	if client == nil {
		client = &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute, ForceAttemptHTTP2: true,
			},
			// A redirect would make a GET of a POST, or take the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &server{http: client, inputs: in, place: p, out: out}
}

// page is where people read about a deployment.
func (s *server) page(d deployment) string {
	if d.LogURL != "" {
		return d.LogURL
	}
	return s.inputs.server + "/deployments/" + strconv.FormatInt(d.ID, 10)
}

// call makes a request until it is answered: again after a pause when the server cannot be reached or asks for patience.
// What is called this way can be repeated: a deployment by its key, and what cancels or reads by nature.
func (s *server) call(ctx context.Context, method, path string, header http.Header, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	return patiently(ctx, func() (again bool, err error) {
		return s.callOnce(ctx, method, path, header, content, into)
	})
}

// patiently tries something until it goes well, or is not worth another try.
func patiently(ctx context.Context, try func() (again bool, err error)) error {
	limit := time.Now().Add(callPatience)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		again, err := try()
		if err == nil || !again || time.Now().After(limit) {
			return err
		}
		if err := wait(ctx, pause/2+rand.N(pause/2)); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (s *server) callOnce(ctx context.Context, method, path string, header http.Header, content []byte, into any) (again bool, err error) {
	response, again, err := s.send(ctx, method, path, header, bytes.NewReader(content))
	if err != nil {
		return again, err
	}
	defer response.Body.Close()
	if into == nil || response.StatusCode == http.StatusNoContent {
		return false, nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return true, s.unreachable(err)
	}
	return false, nil
}

// send gives an answer that is no refusal. Again says that the same request may fare better later.
func (s *server) send(ctx context.Context, method, path string, header http.Header, body io.Reader) (_ *http.Response, again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, method, s.inputs.server+path, body)
	if err != nil {
		return nil, false, usage("server: https://deploy.example.com", "input server: %v", err)
	}
	request.Header.Set("Content-Type", "application/json")
	for name := range header {
		request.Header.Set(name, header.Get(name))
	}
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	request.Header.Set("User-Agent", "shipgate-action")
	began := time.Now()
	response, err := s.http.Do(request)
	s.out.debug(method, path, response, err, time.Since(began))
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		return nil, true, s.unreachable(err)
	}
	mismatch := checkProtocol(s.inputs.server, response)
	if response.StatusCode < 300 && mismatch == nil {
		return response, false, nil
	}
	defer response.Body.Close()
	if mismatch != nil {
		return nil, false, mismatch
	}
	return nil, response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusBadGateway, refusalOf(response)
}

// checkProtocol refuses a server that speaks another version. What stands in front of one may refuse in its place.
func checkProtocol(address string, response *http.Response) error {
	switch said := response.Header.Get("Shipgate-Protocol"); {
	case said == protocol, said == "" && response.StatusCode >= 300:
		return nil
	case said == "":
		return usage("server: https://deploy.example.com", "what answers at %s is no shipgate server", address)
	default:
		return usage("use a version of the action that is as new as the server", "the server speaks protocol %s, and this client speaks %s", said, protocol)
	}
}

func refusalOf(response *http.Response) error {
	if target := response.Header.Get("Location"); response.StatusCode < 400 && target != "" {
		return usage("give the input server the address where it is", "the server sends on to %.200s", target)
	}
	ours := response.Header.Get("Shipgate-Protocol") != ""
	foreign := !ours || response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	refused := &problem{}
	if err == nil && json.Unmarshal(text, refused) == nil && refused.Code != "" {
		refused.foreign = foreign
		return refused
	}
	code := "errored"
	if response.StatusCode >= http.StatusBadGateway {
		code = "unreachable"
	}
	return &problem{Code: code, Message: fmt.Sprintf("the server answered %s: %.200s", response.Status, text), Hint: "look at the server's log", foreign: foreign}
}

func (s *server) unreachable(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err // without the address, which is said already
	}
	return &problem{Code: "unreachable", Message: fmt.Sprintf("the server at %s does not answer: %v", s.inputs.server, err), Hint: "shipgate doctor, on the server's machine"}
}
