package github

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

func TestWhatIsADayOldIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		name      string
		connected string
		notes     int
	}{{"connected, and GitHub is down", "yes", 1}, {"disconnected", "once", 1}, {"never connected", "never", 0}} {
		t.Run(c.name, func(t *testing.T) {
			o := newOffice(t, "")
			if c.connected != "never" {
				o.connectApp()
			}
			if c.connected == "once" {
				o.check(o.hub.Disconnect(t.Context()))
			}
			o.fake.Down()
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.start()
			if c.connected == "yes" {
				o.wait("an attempt", func() bool { posts, _ := o.store.Posts(t.Context(), d.ID); return posts[0].Answer != "" })
			}
			o.hub.Close()
			o.hub = o.open()
			o.hub.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
			o.start()
			if posts := o.settled(d); posts[0].Outcome != store.Expired {
				t.Errorf("ended %s", posts[0].Outcome)
			}
			if notes := o.notes(d); len(notes) != c.notes {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

// A verdict that waited for our own process alone is sent, however old it is.
func TestVerdictOfYesterdayIsSentAtBoot(t *testing.T) {
	o := newOffice(t, "")
	o.connectToken("contents:read", "statuses:write")
	o.fake.Down()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.wait("an attempt", func() bool { posts, _ := o.store.Posts(t.Context(), d.ID); return posts[0].Answer != "" })
	o.hub.Close()
	o.check(o.fake.Up())
	o.hub = o.open()
	o.hub.now = func() time.Time { return time.Now().Add(30 * time.Hour) }
	o.start()
	if posts := o.settled(d); posts[0].Outcome != store.Posted {
		t.Errorf("ended %s: %s", posts[0].Outcome, posts[0].Answer)
	}
}

func TestNothingIsSentBeforeConnecting(t *testing.T) {
	o := newOffice(t, "")
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.decide("hello", store.Failed, "no")
	if len(o.fake.Requests()) != 0 {
		t.Error("GitHub was asked")
	}
	o.connectApp()
	o.settled(d)
	if o.states() != "failure" {
		t.Errorf("states: %s", o.states())
	}
}

// An outage from before the first post until after the verdict: only the verdict is left to be told.
func TestAnOutageEndsInTheVerdict(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.fake.Down()
	o.start()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.wait("an attempt", func() bool { posts, _ := o.store.Posts(t.Context(), d.ID); return posts[0].Attempts > 1 })
	o.decide("hello", store.Succeeded, "")
	o.wait("an attempt at the verdict", func() bool { posts, _ := o.store.Posts(t.Context(), d.ID); return posts[1].Attempts > 1 })
	o.check(o.fake.Up())
	posts := o.settled(d)
	if o.states() != "success" || posts[0].Outcome != store.Coalesced || posts[1].Outcome != store.Posted {
		t.Errorf("states: %s; outcomes %s, %s", o.states(), posts[0].Outcome, posts[1].Outcome)
	}
}

// The process ends between sending and recording, and another one takes over on the same store.
func TestACrashBetweenSendingAndRecordingIsMadeGood(t *testing.T) {
	for name, fault := range map[string]githubtest.Fault{
		"arrived": {AfterWork: true, Hang: true}, "did not arrive": githubtest.Hanging(), "was worked on after the crash": {AfterWork: true, Late: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, `,"github_deployment":true`)
			o.connectApp()
			o.hub.Close()
			o.hub = o.open()
			o.hub.timeout, o.hub.doubt = time.Minute, 3*time.Second
			o.fake.FailNext("POST /repos/*/*/statuses/*", fault)
			o.fake.FailNext("POST /repos/*/*/deployments", fault)
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.start()
			o.wait("both to be under way", func() bool {
				posts := 0
				for _, request := range o.fake.Requests() {
					if request.Method == "POST" && strings.HasPrefix(request.Path, "/repos/") {
						posts++
					}
				}
				return posts == 2
			})
			o.hub.Close()
			o.hub = o.open()
			o.start()
			o.settled(d)
			o.fake.WaitLate()
			if made := o.fake.Deployments(o.repo); o.states() != "pending" || len(made) != 1 || len(made[0].Statuses) != 1 {
				t.Errorf("states: %s; deployments %+v", o.states(), made)
			}
		})
	}
}

// Whatever happens to a thousand posts: those of a lane arrive in order, and the last of each is its verdict, once.
func TestLanesKeepTheirOrderUnderRandomFaults(t *testing.T) {
	const apps, rounds = 20, 25 // two posts each
	o := newOffice(t, "")
	o.connectApp()
	random := rand.New(rand.NewPCG(3, 7))
	faults := []githubtest.Fault{githubtest.ServerError(500), githubtest.ServerError(503), githubtest.Cut(), githubtest.LostAnswer(), githubtest.LostAnswer()}
	limits := 2
	o.fake.FailBy(func(r *http.Request) *githubtest.Fault { // called under the fake's lock
		if !strings.Contains(r.URL.Path, "/statuses") || random.IntN(100) >= 30 {
			return nil
		}
		if limits > 0 && random.IntN(100) == 0 {
			limits--
			return new(githubtest.TooMany(1))
		}
		return new(faults[random.IntN(len(faults))])
	})
	o.start()
	var all []store.Deployment
	for round := range rounds {
		sha := o.commit(fmt.Sprint("Round ", round))
		for i := range apps {
			name := fmt.Sprintf("app-%d", i)
			if round == 0 {
				o.app(name, "")
			}
			all = append(all, o.enqueue(name, store.TriggerWebhook, sha))
			o.decide(name, store.Failed, fmt.Sprintf("reason %d", round))
		}
	}
	told := map[string][]string{}
	for _, d := range all {
		o.settled(d)
	}
	for _, status := range o.fake.Statuses(o.repo) {
		told[status.SHA+" "+status.Context] = append(told[status.SHA+" "+status.Context], status.State)
	}
	if len(told) != apps*rounds {
		t.Errorf("%d lanes were told, want %d", len(told), apps*rounds)
	}
	for lane, states := range told {
		if line := strings.Join(states, " "); line != "failure" && line != "pending failure" {
			t.Errorf("%s: %s", lane, line)
		}
	}
}
