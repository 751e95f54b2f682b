package github

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// what GitHub can do to a call, after which it is made again and succeeds.
func passingFaults() map[string]githubtest.Fault {
	return map[string]githubtest.Fault{
		"500": githubtest.ServerError(500), "502": githubtest.ServerError(502), "503": githubtest.ServerError(503), "408": githubtest.Refusal(408, "Timeout"),
		"hanging": githubtest.Hanging(), "cut": githubtest.Cut(), "lost answer": githubtest.LostAnswer(),
		"429 and a time": githubtest.TooMany(1), "403 and a time": githubtest.SecondaryLimit(1),
		"rate limit": githubtest.RateLimit(time.Now().Add(2 * time.Second)),
	}
}

// giveUpOn waits for an answer that never comes only as long as a busy machine may need for the others.
func (o *office) giveUpOn(fault githubtest.Fault) {
	if fault.Hang {
		o.hub.timeout = 2 * time.Second
	}
}

func TestStatusesOutlastFaults(t *testing.T) {
	for name, fault := range passingFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, "")
			o.giveUpOn(fault)
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
	for name, fault := range passingFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, `,"github_deployment":true,"environment":"staging"`)
			o.giveUpOn(fault)
			o.connectApp()
			o.fake.FailNext("POST /repos/*/*/deployments", fault, fault)
			if !fault.AfterWork { // a status that got through is told once more
				o.fake.FailNext("POST /repos/*/*/deployments/*/statuses", fault)
			}
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

// finalFaults are what GitHub can say once and for all.
func finalFaults() map[string]func(o *office) githubtest.Fault {
	stranger := func(o *office) string {
		address, err := o.fake.Stranger()
		o.check(err)
		return address
	}
	return map[string]func(o *office) githubtest.Fault{
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
	}
}

func TestRefusalsEndInOneNote(t *testing.T) {
	for name, fault := range finalFaults() {
		for _, c := range []struct{ config, pattern, noun string }{
			{"", "POST /repos/*/*/statuses/*", "commit status shipgate/hello"},
			{`,"github_deployment":true`, "POST /repos/*/*/deployments", "GitHub Deployment"},
			{`,"github_deployment":true`, "POST /repos/*/*/deployments/*/statuses", "GitHub Deployment"},
		} {
			t.Run(name+" "+c.pattern, func(t *testing.T) {
				t.Parallel()
				o := newOffice(t, c.config)
				o.connectApp()
				f := fault(o)
				o.fake.FailNext(c.pattern, f, f)
				d := o.enqueue("hello", store.TriggerWebhook, o.sha)
				o.start()
				o.settled(d)
				o.decide("hello", store.Failed, "no")
				o.settled(d)
				o.refusedTwice(d, c.noun)
			})
		}
	}
}

// refusedTwice checks that both posts of one kind ended at their first attempt, and in one note.
func (o *office) refusedTwice(d store.Deployment, what string) {
	o.Helper()
	for _, post := range o.settled(d) {
		fits := strings.HasPrefix(noun(post), what)
		if want := map[bool]store.PostOutcome{true: store.Refused, false: store.Posted}[fits]; post.Outcome != want || (fits && (post.Attempts != 1 || post.Answer == "")) {
			o.Errorf("%s ended %s after %d attempts: %s", post.Kind, post.Outcome, post.Attempts, post.Answer)
		}
	}
	notes := o.notes(d)
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "GitHub refuses the "+what+": ") || !strings.HasSuffix(notes[0], "next: shipgate doctor") {
		o.Errorf("notes %q", notes)
	}
	if went := o.fake.Elsewhere(); len(went) != 0 {
		o.Errorf("another host got %+v", went)
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
