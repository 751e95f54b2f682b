package github

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func TestTheDocumentedSignature(t *testing.T) {
	d := newDepot(t)
	const documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	for body, want := range map[string]int{"Hello, World!": http.StatusAccepted, "Hello, World": http.StatusUnauthorized} {
		if answer := d.post("g-1", "ping", []byte(body), header("X-Hub-Signature-256", documented)); answer.Code != want {
			t.Errorf("%q: answered %d %s", body, answer.Code, answer.Body)
		}
	}
}

func TestWebhookRefuses(t *testing.T) {
	const body = `{"zen":"a telltale of the payload"}`
	good := githubtest.Signature(vectorSecret, []byte(body))
	signature := func(values ...string) func(*http.Request) { return header("X-Hub-Signature-256", values...) }
	for name, test := range map[string]struct {
		status int
		change func(*http.Request)
	}{
		"by GET":                {405, func(r *http.Request) { r.Method = http.MethodGet }},
		"by PUT":                {405, func(r *http.Request) { r.Method = http.MethodPut }},
		"unsigned":              {401, signature()},
		"empty signature":       {401, signature("")},
		"two signatures":        {401, signature(good, good)},
		"SHA-1 only":            {401, func(r *http.Request) { signature()(r); header("X-Hub-Signature", "sha1="+good[7:47])(r) }},
		"SHA-1 in its place":    {401, signature("sha1=" + good[7:47])},
		"SHA-1 of full length":  {401, signature("sha1=" + good[7:])},
		"SHA-512":               {401, signature("sha512=" + good[7:])},
		"bare digits":           {401, signature(good[7:])},
		"too short":             {401, signature(good[:len(good)-2])},
		"too long":              {401, signature(good + "00")},
		"no digits":             {401, signature("sha256=" + strings.Repeat("z", 64))},
		"wrong":                 {401, signature("sha256=" + strings.Repeat("0", 64))},
		"of another secret":     {401, signature(githubtest.Signature("another secret", []byte(body)))},
		"of the empty secret":   {401, signature(githubtest.Signature("", []byte(body)))},
		"of another body":       {401, signature(githubtest.Signature(vectorSecret, []byte(body+" ")))},
		"no content type":       {415, header("Content-Type")},
		"a content type of XML": {415, header("Content-Type", "text/xml")},
		"a broken content type": {415, header("Content-Type", "application/json; =")},
		"no GUID":               {400, header("X-GitHub-Delivery")},
		"a strange GUID":        {400, header("X-GitHub-Delivery", "a b")},
		"a GUID with a line":    {400, header("X-GitHub-Delivery", "a\n")},
		"a long GUID":           {400, header("X-GitHub-Delivery", strings.Repeat("a", 101))},
		"no event":              {400, header("X-GitHub-Event")},
		"a strange event":       {400, header("X-GitHub-Event", "Push<")},
		"a long event":          {400, header("X-GitHub-Event", strings.Repeat("a", 101))},
		"a body cut short":      {400, func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), broken{})) }},
		"said to be too large":  {413, func(r *http.Request) { r.ContentLength = largestDelivery + 1 }},
		"found to be too large": {413, func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(io.LimitReader(zeros{}, largestDelivery+1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepot(t)
			answer := d.post("g-1", "push", []byte(body), test.change)
			if answer.Code != test.status {
				t.Errorf("answered %d %s, want %d", answer.Code, answer.Body, test.status)
			}
			var problem store.Problem
			if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil || problem.Code == "" || problem.Message == "" {
				t.Errorf("answered %q: %v", answer.Body, err)
			}
			if strings.Contains(answer.Body.String(), "telltale") || strings.Contains(answer.Body.String(), vectorSecret) {
				t.Errorf("the answer gives away %q", answer.Body)
			}
			if all, err := d.store.Deliveries(t.Context(), 10); err != nil || len(all) != 0 {
				t.Errorf("kept all the same: %+v, %v", all, err)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cut") }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTheLargestDeliveryIsTaken(t *testing.T) {
	d := newDepot(t)
	body := bytes.Repeat([]byte(" "), largestDelivery)
	if answer := d.post("g-1", "star", body); answer.Code != http.StatusAccepted {
		t.Errorf("answered %d %s", answer.Code, answer.Body)
	}
}

// stalled is a body that stops after its first part, until it is let go.
type stalled struct {
	first io.Reader
	read  chan<- struct{}
	gate  <-chan struct{}
}

func (s *stalled) Read(p []byte) (int, error) {
	n, err := s.first.Read(p)
	if err == io.EOF {
		s.read <- struct{}{}
		<-s.gate
	}
	return n, err
}

// Strangers can fill the memory with a few large bodies only, and hold up nobody whose delivery is of the usual size.
func TestLargeBodiesAreFew(t *testing.T) {
	d := newDepot(t)
	const stalling = 3
	d.hub.large = make(chan struct{}, stalling)
	gate, read := make(chan struct{}), make(chan struct{}, 2*stalling)
	large := bytes.Repeat([]byte("x"), usualDelivery+1)
	var senders sync.WaitGroup
	for range stalling {
		senders.Go(func() {
			answer := d.post("g-stranger", "push", nil, func(r *http.Request) {
				r.Body = io.NopCloser(&stalled{bytes.NewReader(large), read, gate})
			})
			if answer.Code != http.StatusUnauthorized {
				t.Errorf("a stranger is answered %d %s", answer.Code, answer.Body)
			}
		})
	}
	for range stalling {
		<-read
	}
	if answer := d.post("g-usual", "push", large[:usualDelivery-1]); answer.Code != http.StatusAccepted {
		t.Errorf("a usual one: %d %s", answer.Code, answer.Body)
	}
	d.hub.readWithin = 20 * time.Millisecond
	if answer := d.post("g-large", "push", large); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d %s", answer.Code, answer.Body)
	}
	d.hub.readWithin = readWithin
	senders.Go(func() {
		if answer := d.post("g-waits", "push", large); answer.Code != http.StatusAccepted {
			t.Errorf("one that waits: %d %s", answer.Code, answer.Body)
		}
	})
	close(gate)
	senders.Wait()
	if len(d.hub.large) != 0 {
		t.Errorf("%d slots are not given back", len(d.hub.large))
	}
}

func TestWebhookWithoutSecret(t *testing.T) {
	d := newDepot(t)
	d.check(d.hub.Disconnect(t.Context()))
	for _, secret := range []string{"", vectorSecret} {
		answer := d.post("g-1", "push", []byte("{}"), header("X-Hub-Signature-256", githubtest.Signature(secret, []byte("{}"))))
		if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), "shipgate github connect") {
			t.Errorf("answered %d %s", answer.Code, answer.Body)
		}
	}
	d.hub.held.set(d.hub.newAccess(store.ForgeAccess{Kind: store.AccessToken}))
	answer := d.post("g-1", "push", []byte("{}"), header("X-Hub-Signature-256", githubtest.Signature("", []byte("{}"))))
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("with an empty secret: %d %s", answer.Code, answer.Body)
	}
}

func TestWebhookAnswers(t *testing.T) {
	d := newDepot(t)
	body := []byte(`{"a":1}`)
	for _, test := range []struct{ guid, event, status, outcome string }{
		{"g-1", "ping", "pong", "pong"},
		{"g-1", "ping", "pong", "pong"},
		{"g-2", "star", "ignored", "ignored: nothing here depends on star events"},
		{"g-3", "push", "accepted", ""},
		{"g-3", "push", "duplicate", ""},
		{"g-4", "repository", "accepted", ""},
		{"g-5", "never_heard_of", "ignored", "ignored: nothing here depends on never_heard_of events"},
	} {
		answer := d.post(test.guid, test.event, body, header("Content-Type", "application/json; charset=utf-8"))
		want := `{"status":"` + test.status + `"}`
		if got := strings.TrimSpace(answer.Body.String()); answer.Code != http.StatusAccepted || got != want {
			t.Errorf("%s: answered %d %s, want %s", test.event, answer.Code, got, want)
		}
		if kept := d.delivery(test.guid); kept.Outcome != test.outcome || kept.EndedAt.IsZero() != (test.outcome == "") {
			t.Errorf("%s: kept %+v", test.event, kept)
		}
	}
	due := d.due()
	if len(due) != 2 || !bytes.Equal(due[0].Body, body) || due[0].ContentType != jsonType {
		t.Errorf("due: %+v", due)
	}
}

func TestAFormIsKeptAsItCame(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	form := []byte(url.Values{"payload": {string(pushed(mainRef, shaA, shaB, 100, "Add search & <more>"))}}.Encode())
	if answer := d.post("g-1", "push", form, header("Content-Type", formType)); answer.Code != http.StatusAccepted {
		t.Fatalf("answered %d %s", answer.Code, answer.Body)
	}
	due := d.due()
	if len(due) != 1 || !bytes.Equal(due[0].Body, form) {
		t.Fatalf("due: %+v", due)
	}
	d.start()
	d.wants("the outcome", d.ended("g-1").Outcome, "web: deployment 1")
	d.wants("the subject", d.deployments("web")[0].Subject, "Add search & <more>")
}

func TestTheStoreFails(t *testing.T) {
	d := newDepot(t)
	if _, err := d.hub.access(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.check(d.store.Close())
	if answer := d.post("g-1", "push", []byte("{}")); answer.Code != http.StatusInternalServerError {
		t.Errorf("answered %d %s", answer.Code, answer.Body)
	}
}

// FuzzWebhook sends what anyone can send. Only what is signed is kept, and nobody sees us fail.
func FuzzWebhook(f *testing.F) {
	d := newDepot(f)
	f.Add([]byte(`{"ref":"refs/heads/main"}`), "push", "g-1", jsonType, "sha256=00", true)
	f.Add([]byte(`payload=%7B%7D`), "push", "g-2", formType, "sha1=00", false)
	f.Add([]byte(nil), "ping", "", "", "", false)
	f.Fuzz(func(t *testing.T, body []byte, event, guid, contentType, signature string, genuine bool) {
		d.TB = t
		r := httptest.NewRequest(http.MethodPost, webhookPath, bytes.NewReader(body))
		if genuine {
			signature = githubtest.Signature(vectorSecret, body)
		}
		for name, value := range map[string]string{"Content-Type": contentType, "X-GitHub-Event": event, "X-GitHub-Delivery": guid, "X-Hub-Signature-256": signature} {
			r.Header.Set(name, value)
		}
		before, err := d.store.HasDelivery(t.Context(), guid)
		d.check(err)
		answer := httptest.NewRecorder()
		d.hub.ServeHTTP(answer, r)
		genuine = signature == githubtest.Signature(vectorSecret, body)
		after, err := d.store.HasDelivery(t.Context(), guid)
		d.check(err)
		switch {
		case answer.Code >= 500:
			t.Errorf("answered %d %s", answer.Code, answer.Body)
		case !genuine && answer.Code != http.StatusUnauthorized && !strings.EqualFold(signature, githubtest.Signature(vectorSecret, body)):
			t.Errorf("without a signature: answered %d %s", answer.Code, answer.Body)
		case (answer.Code == http.StatusAccepted) != after && !before:
			t.Errorf("answered %d, kept %v", answer.Code, after)
		}
	})
}
