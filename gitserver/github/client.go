package github

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"
	"golang.org/x/sync/singleflight"

	"github.com/shipgate/shipgate/store"
)

const (
	callTimeout  = 20 * time.Second
	answerLimit  = 4 << 20 // bytes of one answer that are read
	longestPause = 24 * time.Hour
	usualPause   = time.Minute // what GitHub asks for where it does not say how long
)

// access is a ForgeAccess at work, with what was made of it and learned with it. A new one begins with nothing.
type access struct {
	store.ForgeAccess
	key  *rsa.PrivateKey // of an App
	http *http.Client
	hide func(secrets ...string)
	now  func() time.Time

	mints singleflight.Group

	mu            sync.Mutex
	clients       map[string]*gh.Client // one for each credential and purpose: each remembers the limits it ran into
	installations map[string]int64
	minted        map[string]minted
	pausedUntil   time.Time
}

func (g *GitHub) newAccess(kept store.ForgeAccess) *access {
	return &access{
		ForgeAccess: kept, http: newHTTPClient(g.Transport, g.timeout), hide: g.Store.HidePassing, now: g.now,
		clients: map[string]*gh.Client{}, installations: map[string]int64{}, minted: map[string]minted{},
	}
}

// client gives the go-github Client of a purpose.
func (a *access) client(key string) *gh.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	client := a.clients[key]
	if client == nil {
		client = newClient(a.http, a.APIURL)
		a.clients[key] = client
	}
	return client
}

// newClient has its address set by hand: WithEnterpriseURLs would guess at it.
func newClient(transport *http.Client, apiURL string) *gh.Client {
	client := gh.NewClient(transport)
	base, err := url.Parse(apiURL + "/")
	if err == nil { // as addresses has made sure
		client.BaseURL = base
	}
	client.UserAgent = "shipgate"
	return client
}

// pause keeps everything of this credential from being sent before then.
func (a *access) pause(until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until.After(a.pausedUntil) {
		a.pausedUntil = until
	}
}

func (a *access) paused() (until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pausedUntil
}

// whoAmI asks GitHub whether the credentials are good, by what any kind of them may ask. It gives the App's name in
// addresses, and the time at GitHub.
func (a *access) whoAmI(ctx context.Context) (slug string, date time.Time, err error) {
	path, token := "rate_limit", a.Token
	if a.Kind == store.AccessApp {
		path = "app"
		if token, err = a.appToken(); err != nil {
			return "", date, err
		}
	}
	client := a.client("app")
	request, err := client.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return "", date, fmt.Errorf("make request: %w", err)
	}
	var answer struct {
		Slug string `json:"slug"`
	}
	response, err := client.Do(withToken(ctx, token), request, &answer)
	if response != nil && response.Response != nil {
		date, _ = http.ParseTime(response.Header.Get("Date"))
	}
	if a.Kind != store.AccessApp && response != nil && response.Response != nil && response.StatusCode == http.StatusNotFound {
		err = nil // an Enterprise server without rate limits says so, to those whom it knows
	}
	return answer.Slug, date, a.classified(err)
}

// do makes one call. The answer may be nil.
func (a *access) do(ctx context.Context, client *gh.Client, method, path string, body, answer any) error {
	request, err := client.NewRequest(method, path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	_, err = client.Do(ctx, request, answer)
	return a.classified(err)
}

// classified takes 202 for an answer as good as any.
func (a *access) classified(err error) error {
	var accepted *gh.AcceptedError
	if err == nil || errors.As(err, &accepted) {
		return nil
	}
	return classify(err, a.now())
}

type tokenKeyType struct{}

// withToken has the calls made with this context carry a token.
func withToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKeyType{}, token)
}

var errRedirect = errors.New("GitHub sends us elsewhere")

func newHTTPClient(transport http.RoundTripper, timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: courier{transport}, CheckRedirect: checkRedirect}
}

// checkRedirect follows only to the same place with the same method: a token goes nowhere else, and a POST that became a
// GET would look as if it had been taken.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) >= 5 || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host || next.Method != first.Method {
		return fmt.Errorf("%w: %s %s://%s", errRedirect, next.Method, next.URL.Scheme, next.URL.Host)
	}
	return nil
}

// courier adds the token to a request and reads no more of the answer than makes sense.
type courier struct{ next http.RoundTripper }

func (c courier) RoundTrip(request *http.Request) (*http.Response, error) {
	if token, ok := request.Context().Value(tokenKeyType{}).(string); ok {
		request = request.Clone(request.Context())
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = bounded{io.LimitReader(response.Body, answerLimit), response.Body}
	return response, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

type troubleKind int

const (
	transient troubleKind = iota // worth another try
	limited                      // worth another try at a time that GitHub says
	refused                      // the same again would be refused again
)

// trouble is why a call did not do what it should.
type trouble struct {
	kind    troubleKind
	status  int       // 0: there was no answer
	until   time.Time // before then another try makes no sense; zero: not said
	message string    // GitHub's own words; see said
	cause   error
}

func (t *trouble) Error() string {
	if t.status == 0 {
		return t.message
	}
	return fmt.Sprintf("%d %s", t.status, t.message)
}

func (t *trouble) Unwrap() error { return t.cause }

// classify tells apart what go-github gives: it does not know 429, nor every secondary limit.
func classify(err error, now time.Time) *trouble {
	var known *trouble
	if errors.As(err, &known) {
		return known
	}
	response, message, counted := answerOf(err)
	t := &trouble{message: message, cause: err}
	if response != nil {
		t.status = response.StatusCode
	}
	switch {
	case errors.Is(err, errRedirect) || isProblem(err):
		t.kind = refused
	case response == nil:
		t.kind = transient
	case counted || isLimit(response, message):
		t.kind, t.until = limited, pauseOf(err, response, now)
	case t.status >= 500 || t.status == http.StatusRequestTimeout || t.status < 300:
		t.until = retryAfter(response.Header, now)
	default:
		t.kind = refused
	}
	return t
}

func isProblem(err error) bool {
	_, is := store.AsProblem(err)
	return is
}

// answerOf takes an error of go-github apart; counted says that it saw a rate limit itself.
func answerOf(err error) (response *http.Response, message string, counted bool) {
	var rate *gh.RateLimitError
	var abuse *gh.AbuseRateLimitError
	var twoFactor *gh.TwoFactorAuthError
	var answer *gh.ErrorResponse
	switch {
	case errors.As(err, &rate):
		return rate.Response, rate.Message, true
	case errors.As(err, &abuse):
		return abuse.Response, abuse.Message, true
	case errors.As(err, &twoFactor):
		return twoFactor.Response, twoFactor.Message, false
	case errors.As(err, &answer):
		return answer.Response, fullMessage(answer), false
	}
	return nil, err.Error(), false
}

func fullMessage(answer *gh.ErrorResponse) string {
	parts := []string{answer.Message}
	for _, detail := range answer.Errors {
		if detail.Message != "" {
			parts = append(parts, detail.Message)
		}
	}
	if parts[0] == "" {
		parts[0] = http.StatusText(answer.Response.StatusCode)
	}
	return strings.Join(parts, ": ")
}

func isLimit(response *http.Response, message string) bool {
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden:
		return response.Header.Get("Retry-After") != "" || response.Header.Get("X-RateLimit-Remaining") == "0" ||
			strings.Contains(strings.ToLower(message), "secondary rate")
	}
	return false
}

// pauseOf says until when GitHub wants to be left alone: what it says itself, or a minute; a day at most.
func pauseOf(err error, response *http.Response, now time.Time) time.Time {
	until := retryAfter(response.Header, now)
	if until.IsZero() && response.Header.Get("X-RateLimit-Remaining") == "0" {
		until = resetOf(response.Header, now)
	}
	var rate *gh.RateLimitError
	var abuse *gh.AbuseRateLimitError
	if until.IsZero() && errors.As(err, &rate) {
		until = rate.Rate.Reset.Time
	}
	if until.IsZero() && errors.As(err, &abuse) && abuse.RetryAfter != nil {
		until = now.Add(*abuse.RetryAfter)
	}
	if until.IsZero() {
		until = now.Add(usualPause)
	}
	if until.Before(now.Add(time.Second)) {
		return now.Add(time.Second)
	}
	if until.After(now.Add(longestPause)) {
		return now.Add(longestPause)
	}
	return until
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds or a date.
func retryAfter(header http.Header, now time.Time) time.Time {
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil && seconds >= 0 {
		return now.Add(time.Duration(seconds) * time.Second)
	}
	if date, err := http.ParseTime(value); err == nil {
		return now.Add(date.Sub(dateOf(header, now)))
	}
	return time.Time{}
}

// resetOf reads GitHub's time of the reset against GitHub's clock, should ours be another.
func resetOf(header http.Header, now time.Time) time.Time {
	seconds, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return now.Add(time.Unix(seconds, 0).Sub(dateOf(header, now)))
}

func dateOf(header http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		return date
	}
	return now
}
