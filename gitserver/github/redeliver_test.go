package github

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
)

func attemptsOf(fake *githubtest.Fake) (n int) {
	for _, r := range fake.Requests() {
		if r.Method == "POST" && strings.HasSuffix(r.Path, "/attempts") {
			n++
		}
	}
	return n
}

// Asking can fail as well: for a while, which ends the round, or for one delivery for good.
func TestAFailedDeliveryThatCannotBeAskedFor(t *testing.T) {
	for status, want := range map[int]string{http.StatusBadGateway: "1 3 3", http.StatusNotFound: "2 2 2"} {
		o := newOffice(t, `,"branch":"main"`)
		o.hub.Repositories = newForge()
		access := o.connectApp()
		o.fake.SetHook(githubtest.Hook{URL: "http://127.0.0.1:1", Secret: access.WebhookSecret, ContentType: "json"})
		o.fake.Lose(true)
		for _, message := range []string{"x", "y"} {
			_, _, err := o.fake.Push(o.repo, "main", message, map[string]string{"a": message})
			o.check(err)
		}
		failed := false
		o.fake.FailBy(func(r *http.Request) *githubtest.Fault {
			if failed || !strings.HasSuffix(r.URL.Path, "/attempts") {
				return nil
			}
			failed = true
			return new(githubtest.Refusal(status, "no"))
		})
		c := newCatchUp(o.hub)
		var asked []string
		for range 3 {
			c.round(t.Context())
			asked = append(asked, fmt.Sprint(attemptsOf(o.fake)))
		}
		if got := strings.Join(asked, " "); got != want {
			t.Errorf("after %d: asked %s times, want %s", status, got, want)
		}
	}
}

// GitHub is asked for what it could not deliver: each delivery once, and nothing that is of no use.
func TestFailedDeliveriesAreAskedForAgain(t *testing.T) {
	o := newOffice(t, `,"branch":"main"`)
	o.hub.Repositories = newForge()
	access := o.connectApp()
	server := httptest.NewServer(o.hub)
	defer server.Close()
	o.fake.SetHook(githubtest.Hook{URL: server.URL, Secret: access.WebhookSecret, ContentType: "json"})
	attempts := func() (n int) { return attemptsOf(o.fake) }
	push := func() githubtest.Delivery {
		o.Helper()
		_, d, err := o.fake.Push(o.repo, "main", "x", map[string]string{"a": fmt.Sprint(time.Now())})
		o.check(err)
		return d
	}
	o.fake.Lose(true)
	o.fake.SetClock(-redeliverySpan - time.Hour)
	old := push()
	o.fake.SetClock(0)
	o.fake.Lose(false)
	taken := push()
	o.fake.Lose(true)
	first, second := push(), push()
	_, err := o.fake.Deliver("star", []byte(`{}`))
	o.check(err)
	o.fake.Lose(false)
	known := func(d githubtest.Delivery) bool {
		found, err := o.store.HasDelivery(t.Context(), d.GUID)
		o.check(err)
		return found
	}
	if !known(taken) || known(first) || known(second) {
		t.Fatal("the fake loses the wrong ones")
	}
	c := newCatchUp(o.hub)
	c.round(t.Context())
	patience, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	o.check(o.fake.WaitFor(patience, func() bool { return known(first) && known(second) }))
	c.round(t.Context())
	if attempts() != 2 || known(old) {
		t.Errorf("%d were asked for; the old one: %v", attempts(), known(old))
	}
	o.fake.Lose(true)
	push()
	o.fake.Down()
	c.round(t.Context()) // which can ask for nothing
	o.check(o.fake.Up())
	for range 3 { // it is lost again
		c.round(t.Context())
	}
	if attempts() != 3 {
		t.Errorf("%d were asked for in the end", attempts())
	}
}
