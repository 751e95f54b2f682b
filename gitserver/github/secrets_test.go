package github

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

// GitHub, or something that stands in its place, says our own secrets back to us, also where the text is cut.
func TestWhatGitHubSaysBackIsMasked(t *testing.T) {
	for _, padding := range []int{0, 280, 290} {
		o := newOffice(t, "")
		access := o.connectApp()
		var token string
		o.fake.FailBy(func(r *http.Request) *githubtest.Fault {
			if !strings.Contains(r.URL.Path, "/statuses/") {
				return nil
			}
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			return new(githubtest.Refusal(403, strings.Repeat("x", padding)+token+" "+access.WebhookSecret))
		})
		d := o.enqueue("hello", store.TriggerWebhook, o.sha)
		o.start()
		posts := o.settled(d)
		everything := o.asText(o.notes(d)) + o.asText(posts) + o.asText(o.hub.Findings(t.Context())) + o.log.String()
		if token == "" || !strings.Contains(everything, "****") {
			t.Errorf("nothing was masked in %s", everything)
		}
		for _, secret := range []string{token[:10], access.WebhookSecret} {
			if strings.Contains(everything, secret) {
				t.Errorf("padding %d: %.12s… is in %s", padding, secret, everything)
			}
		}
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	o := newOffice(t, "")
	access, err := o.fake.AppAccess()
	o.check(err)
	before := runtime.NumGoroutine()
	for range 5 {
		hub := o.open()
		hub.timeout = 300 * time.Millisecond // a first attempt counts when it has ended
		o.check(hub.Start(testBase))
		_, err := hub.Connect(t.Context(), access)
		o.check(err)
		o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.Hanging())
		d := o.enqueue("hello", store.TriggerWebhook, o.sha)
		o.wait("a post under way", func() bool {
			posts, err := o.store.Posts(t.Context(), d.ID)
			o.check(err)
			return posts[0].Attempts > 0
		})
		o.check(hub.Close())
	}
	o.fake.FailBy(nil)
	o.fake.Down()
	o.wait("the goroutines to end", func() bool {
		runtime.GC()
		return runtime.NumGoroutine() <= before+2 // the fake's own come and go
	})
}

// While one lane hangs the others go on.
func TestAHangingLaneHoldsUpNoOther(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.hub.Close()
	o.hub = o.open()
	o.hub.timeout = time.Minute
	o.app("other", "")
	o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.Hanging())
	o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.wait("the hanging call", func() bool { return strings.Contains(o.asText(o.fake.Requests()), "/statuses/") })
	o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.ServerError(500)) // it has to come back by a timer meanwhile
	o.settled(o.enqueue("other", store.TriggerWebhook, o.sha))
	o.decide("hello", store.Failed, "no") // overtakes the one that hangs, and must not go out beside it
	if o.states() != "pending" {
		t.Errorf("states: %s", o.states())
	}
}
