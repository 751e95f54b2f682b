package github

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

func TestEveryVerdictIsToldOnceAfterPending(t *testing.T) {
	for verdict, want := range map[store.Verdict]struct{ state, description string }{
		store.Succeeded: {"success", "Live at https://hello.localhost in "},
		store.Failed:    {"failure", "health check failed"},
		store.Errored:   {"error", "health check failed"},
		store.Cancelled: {"error", "health check failed"},
	} {
		t.Run(string(verdict), func(t *testing.T) {
			o := newOffice(t, "")
			o.connectApp()
			o.start()
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.settled(d)
			o.decide("hello", verdict, "health check failed")
			o.settled(d)
			statuses := o.fake.Statuses(o.repo)
			if o.states() != "pending "+want.state {
				t.Fatalf("states: %s", o.states())
			}
			first, last := statuses[0], statuses[1]
			if !strings.HasPrefix(last.Description, want.description) || last.Context != "shipgate/hello" || last.SHA != o.sha {
				t.Errorf("told %+v", last)
			}
			if page := fmt.Sprintf("%s/deployments/%d", testBase, d.ID); first.Description != fmt.Sprintf("Deployment %d is under way", d.ID) ||
				first.TargetURL != page || last.TargetURL != page {
				t.Errorf("told %+v, then %+v", first, last)
			}
		})
	}
}

func TestSupersededIsAnError(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	first := o.enqueue("hello", store.TriggerWebhook, o.sha)
	second := o.enqueue("hello", store.TriggerWebhook, o.commit("Go on"))
	o.start()
	o.settled(first)
	o.settled(second)
	statuses := o.fake.Statuses(o.repo)
	if len(statuses) != 2 {
		t.Fatalf("told %+v", statuses)
	}
	for _, status := range statuses {
		if want := map[string]string{first.SHA: "error", second.SHA: "pending"}[status.SHA]; status.State != want {
			t.Errorf("told %+v, want %s", status, want)
		}
	}
}

func TestPublicLogsOpenThePage(t *testing.T) {
	o := newOffice(t, `,"public_logs":true`)
	o.connectApp()
	o.start()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.settled(d)
	if want := fmt.Sprintf("%s/deployments/%d?key=%s", testBase, d.ID, o.store.PageKey(d.ID)); o.fake.Statuses(o.repo)[0].TargetURL != want {
		t.Errorf("page %s, want %s", o.fake.Statuses(o.repo)[0].TargetURL, want)
	}
}

// what GitHub can do to a call, after which it is made again and succeeds.
func passingFaults(stranger string) map[string]githubtest.Fault {
	return map[string]githubtest.Fault{
		"500": githubtest.ServerError(500), "502": githubtest.ServerError(502), "503": githubtest.ServerError(503), "408": githubtest.Refusal(408, "Timeout"),
		"hanging": githubtest.Hanging(), "cut": githubtest.Cut(), "lost answer": githubtest.LostAnswer(),
		"429 and a time": githubtest.TooMany(1), "403 and a time": githubtest.SecondaryLimit(1),
		"rate limit": githubtest.RateLimit(time.Now().Add(2 * time.Second)),
	}
}

func TestStatusesOutlastFaults(t *testing.T) {
	for name, fault := range passingFaults("") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, "")
			o.connectApp()
			o.fake.FailNext("POST /repos/*/*/statuses/*", fault, fault)
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.start()
			o.settled(d)
			o.decide("hello", store.Failed, "no")
			o.fake.FailNext("POST /repos/*/*/statuses/*", fault)
			o.settled(d)
			if o.states() != "pending failure" {
				t.Errorf("states: %s", o.states())
			}
			if notes := o.notes(d); len(notes) != 0 {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

func TestDeploymentsOutlastFaults(t *testing.T) {
	for name, fault := range passingFaults("") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, `,"github_deployment":true,"environment":"staging"`)
			o.connectApp()
			o.fake.FailNext("POST /repos/*/*/deployments", fault, fault)
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.start()
			o.settled(d)
			o.decide("hello", store.Succeeded, "")
			o.settled(d)
			made := o.fake.Deployments(o.repo)
			if len(made) != 1 || made[0].Environment != "staging" || made[0].SHA != o.sha || made[0].Task != "deploy" || len(made[0].Statuses) != 2 {
				t.Fatalf("made %+v", made)
			}
			if id, err := o.store.ForgeDeployment(t.Context(), d.ID); err != nil || id != made[0].ID {
				t.Errorf("kept number %d, error %v, want %d", id, err, made[0].ID)
			}
			first, last := made[0].Statuses[0], made[0].Statuses[1]
			if first.State != "in_progress" || last.State != "success" || last.EnvironmentURL != "https://hello.localhost" || first.EnvironmentURL != "" ||
				last.LogURL != fmt.Sprintf("%s/deployments/%d", testBase, d.ID) {
				t.Errorf("told %+v, then %+v", first, last)
			}
		})
	}
}

// A pending post whose answer was lost and that the verdict overtook has made the GitHub Deployment already.
func TestAVerdictFindsTheDeploymentOfALostPendingPost(t *testing.T) {
	o := newOffice(t, `,"github_deployment":true`)
	o.connectApp()
	o.hub.backoff = func(int) time.Duration { return time.Hour }
	o.fake.FailNext("POST /repos/*/*/deployments", githubtest.LostAnswer())
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.wait("the lost answer", func() bool { return len(o.fake.Deployments(o.repo)) == 1 })
	o.decide("hello", store.Errored, "disk full")
	o.settled(d)
	made := o.fake.Deployments(o.repo)
	if len(made) != 1 || len(made[0].Statuses) != 1 || made[0].Statuses[0].State != "error" || made[0].Statuses[0].Description != "disk full" {
		t.Errorf("made %+v", made)
	}
}

func TestRefusalsEndInOneNote(t *testing.T) {
	stranger := func(o *office) string {
		address, err := o.fake.Stranger()
		o.check(err)
		return address
	}
	for name, fault := range map[string]func(o *office) githubtest.Fault{
		"404": func(*office) githubtest.Fault { return githubtest.Refusal(404, "Not Found") },
		"403": func(*office) githubtest.Fault {
			return githubtest.Refusal(403, "Resource not accessible by integration")
		},
		"410":                  func(*office) githubtest.Fault { return githubtest.Refusal(410, "Gone") },
		"422":                  func(*office) githubtest.Fault { return githubtest.Refusal(422, "Validation Failed") },
		"307 to another host":  func(o *office) githubtest.Fault { return githubtest.Redirect(307, stranger(o)+"/x") },
		"302 to another host":  func(o *office) githubtest.Fault { return githubtest.Redirect(302, stranger(o)+"/x") },
		"301 to the same host": func(o *office) githubtest.Fault { return githubtest.Redirect(301, o.fake.APIURL()+"/rate_limit") },
		"302 to the same host": func(o *office) githubtest.Fault { return githubtest.Redirect(302, o.fake.APIURL()+"/rate_limit") },
		"301 to the very same URL": func(o *office) githubtest.Fault {
			return githubtest.Redirect(301, o.fake.APIURL()+"/repos/octocat/hello/statuses/"+o.sha)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, "")
			o.connectApp()
			f := fault(o)
			o.fake.FailNext("POST /repos/*/*/statuses/*", f, f)
			d := o.enqueue("hello", store.TriggerWebhook, o.sha)
			o.start()
			posts := o.settled(d)
			if posts[0].Outcome != store.Refused || posts[0].Attempts != 1 || posts[0].Answer == "" {
				t.Errorf("ended %s after %d attempts: %s", posts[0].Outcome, posts[0].Attempts, posts[0].Answer)
			}
			o.decide("hello", store.Failed, "no")
			posts = o.settled(d)
			if posts[1].Outcome != store.Refused {
				t.Errorf("ended %s: %s", posts[1].Outcome, posts[1].Answer)
			}
			notes := o.notes(d)
			if len(notes) != 1 || !strings.Contains(notes[0], "shipgate/hello") || !strings.Contains(notes[0], "shipgate doctor") || !strings.Contains(notes[0], posts[0].Answer) {
				t.Errorf("notes %q", notes)
			}
			if went := o.fake.Elsewhere(); len(went) != 0 {
				t.Errorf("another host got %+v", went)
			}
			if o.states() != "" {
				t.Errorf("states: %s", o.states())
			}
		})
	}
}

// 307 keeps the method, so the same host may ask for it.
func TestARedirectToTheSameHostIsFollowed(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.Redirect(307, o.fake.APIURL()+"/repos/octocat/hello/statuses/"+o.sha))
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	if posts := o.settled(d); posts[0].Outcome != store.Posted || o.states() != "pending" {
		t.Errorf("ended %s: %s; states %s", posts[0].Outcome, posts[0].Answer, o.states())
	}
}

func TestACommitThatNeverCameFromGitHubIsSilent(t *testing.T) {
	elsewhere := strings.Repeat("1", 40)
	for trigger, silent := range map[store.Trigger]bool{
		store.TriggerPush: true, store.TriggerAPI: true, store.TriggerRollback: true, store.TriggerWebhook: false, store.TriggerCaughtUp: false,
	} {
		t.Run(string(trigger), func(t *testing.T) {
			o := newOffice(t, `,"github_deployment":true`)
			o.connectApp()
			d := o.enqueue("hello", trigger, elsewhere)
			o.start()
			want := map[bool]store.PostOutcome{true: store.Unknown, false: store.Refused}[silent]
			for _, post := range o.settled(d) {
				if post.Outcome != want {
					t.Errorf("%s ended %s: %s", post.Kind, post.Outcome, post.Answer)
				}
			}
			if notes := o.notes(d); (len(notes) == 0) != silent {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

func TestALimitStopsAllLanes(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.app("other", "")
	begun := time.Now()
	o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.TooMany(2))
	first := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.wait("the limit", func() bool { a, _ := o.hub.access(t.Context()); return !a.paused().IsZero() })
	second := o.enqueue("other", store.TriggerWebhook, o.sha)
	o.settled(first)
	o.settled(second)
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("sent again after %s", took)
	}
	calls := 0
	for _, request := range o.fake.Requests() {
		if request.Method == "POST" && strings.Contains(request.Path, "/statuses/") {
			calls++
		}
	}
	if calls != 3 {
		t.Errorf("%d calls, want 3: the limited one and two good ones", calls)
	}
}

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
	for name, fault := range map[string]githubtest.Fault{"arrived": {AfterWork: true, Hang: true}, "did not arrive": githubtest.Hanging()} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, `,"github_deployment":true`)
			o.connectApp()
			o.hub.Close()
			o.hub = o.open()
			o.hub.timeout = time.Minute
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

func TestDescriptionsFitOneLineOf140Characters(t *testing.T) {
	o := newOffice(t, "")
	o.store.Hide("s3cret-of-ours")
	for _, c := range []struct{ reason, want string }{
		{"build failed\nline 2\ttab\x00nul", "build failed line 2 tab nul"},
		{strings.Repeat("ä", 140), strings.Repeat("ä", 140)},
		{strings.Repeat("ä", 141), strings.Repeat("ä", 139) + "…"},
		{strings.Repeat("😀", 500), strings.Repeat("😀", 139) + "…"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{"", "failed"},
		{"token s3cret-of-ours", "token ****"},
		{strings.Repeat("x", 130) + "s3cret-of-ours", strings.Repeat("x", 130) + "****"},
	} {
		got := o.hub.describe(store.Post{Verdict: store.Failed, Reason: c.reason})
		if got != c.want || utf8.RuneCountInString(got) > longestDescription {
			t.Errorf("%.40q became %q, want %q", c.reason, got, c.want)
		}
	}
	for _, c := range []struct {
		post store.Post
		want string
	}{
		{store.Post{Deployment: 42}, "Deployment 42 is under way"},
		{store.Post{Verdict: store.Succeeded, Host: "a.example.com", Took: 6700 * time.Millisecond}, "Live at https://a.example.com in 6.7 s"},
		{store.Post{Verdict: store.Succeeded, Took: 410 * time.Millisecond}, "Live in 0.41 s"},
		{store.Post{Verdict: store.Succeeded, Host: "*.example.com", Took: time.Minute}, "Live in 60.0 s"},
		{store.Post{Verdict: store.Superseded, Reason: "superseded by deployment 43"}, "superseded by deployment 43"},
	} {
		if got := o.hub.describe(c.post); got != c.want {
			t.Errorf("%+v: %q, want %q", c.post, got, c.want)
		}
	}
}

func TestBackoffDoublesToAQuarterOfAnHour(t *testing.T) {
	for attempts, longest := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 9: 512 * time.Second,
		10: 15 * time.Minute, 1000: 15 * time.Minute} {
		seen := map[time.Duration]bool{}
		for range 100 {
			wait := backoff(attempts)
			seen[wait] = true
			if wait < longest/2 || wait > longest {
				t.Fatalf("attempt %d waits %s, want between %s and %s", attempts, wait, longest/2, longest)
			}
		}
		if len(seen) < 50 {
			t.Errorf("attempt %d: only %d different waits of 100", attempts, len(seen))
		}
	}
}
