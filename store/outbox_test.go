package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const anySHA = "3f9c2ab03f9c2ab03f9c2ab03f9c2ab03f9c2ab0"

// followingApp follows a repository.
func followingApp(t *testing.T, s *Store, name string, more ...string) {
	t.Helper()
	config := blobOf(SourceDockerfile, append([]string{`"repo_owner":"octo"`, `"repo_name":"Site"`}, more...)...)
	must[App](t)(s.CreateApp(t.Context(), App{Name: name, Source: SourceDockerfile, Hosts: []string{name + ".localhost"}, Config: []byte(config)}))
}

func enqueueSHA(t *testing.T, s *Store, app, sha string) Deployment {
	t.Helper()
	return must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: app, Trigger: TriggerWebhook, SHA: sha, Ref: "refs/heads/main"}))
}

// told are the posts of a deployment, as "kind verdict outcome".
func told(t *testing.T, s *Store, deployment int64) (lines []string) {
	t.Helper()
	for _, post := range must[[]Post](t)(s.Posts(t.Context(), deployment)) {
		verdict := string(post.Verdict)
		if verdict == "" {
			verdict = "pending"
		}
		lines = append(lines, strings.TrimSpace(string(post.Kind)+" "+verdict+" "+string(post.Outcome)))
	}
	return lines
}

func wantTold(t *testing.T, s *Store, deployment int64, want ...string) {
	t.Helper()
	if got := told(t, s, deployment); !slices.Equal(got, want) {
		t.Errorf("of deployment %d is told %q, want %q", deployment, got, want)
	}
}

func due(t *testing.T, s *Store) []Post {
	t.Helper()
	return must[[]Post](t)(s.DuePosts(t.Context(), time.Now(), 100))
}

func TestEveryDeploymentIsAnnounced(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web", `"public_logs":true`)
	changed, stop := s.Watch(OutboxTopic)
	defer stop()
	d := enqueueSHA(t, s, "web", anySHA)
	woken(t, changed, "the outbox")
	wantTold(t, s, d.ID, "status pending")
	post := due(t, s)[0]
	if post.Repository != (Repository{"octo", "Site"}) || post.SHA != anySHA || post.Context() != "shipgate/web" || post.Host != "web.localhost" ||
		!post.PublicLogs || post.App != "web" || post.Deployment != d.ID || post.Trigger != TriggerWebhook || post.CreatedAt.IsZero() || post.Took != 0 {
		t.Errorf("the post is %+v", post)
	}
	d, _, err := s.Claim(t.Context(), "web")
	check(t, err)
	d = advanceTo(t, s, d, StepLive)
	woken(t, changed, "the outbox")
	wantTold(t, s, d.ID, "status pending coalesced", "status succeeded")
	if post := due(t, s)[0]; post.Verdict != Succeeded || post.Took != d.FinishedAt.Sub(d.CreatedAt) || post.Took <= 0 {
		t.Errorf("the verdict's post is %+v", post)
	}
	advanceTo(t, s, d, StepDone)
	wantTold(t, s, d.ID, "status pending coalesced", "status succeeded")
}

func TestEveryEndIsAnnounced(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	superseded, cancelled := enqueueSHA(t, s, "web", anySHA), enqueueSHA(t, s, "web", anySHA)
	wantTold(t, s, superseded.ID, "status pending coalesced", "status superseded")
	must[Deployment](t)(s.AskCancel(t.Context(), cancelled.ID))
	wantTold(t, s, cancelled.ID, "status pending coalesced", "status cancelled")

	enqueueSHA(t, s, "web", anySHA)
	d, _, err := s.Claim(t.Context(), "web")
	check(t, err)
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed, Reason: "it does not build"}))
	wantTold(t, s, d.ID, "status pending")
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndone, Change{Verdict: Failed, Reason: "it does not build"}))
	wantTold(t, s, d.ID, "status pending coalesced", "status failed")
	if posts := must[[]Post](t)(s.Posts(t.Context(), d.ID)); posts[1].Reason != "it does not build" {
		t.Errorf("the reason told is %q", posts[1].Reason)
	}

	refused := enqueueSHA(t, s, "web", anySHA)
	_, err = s.write.Exec(`UPDATE apps SET config = json_set(config, '$.port', 99999)`)
	check(t, err)
	if _, found, err := s.Claim(t.Context(), "web"); found || err != nil {
		t.Fatalf("an app that cannot be understood was claimed: %v", err)
	}
	wantTold(t, s, refused.ID, "status pending coalesced", "status failed")
}

func TestVerdictFollowsItsPendingStatus(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web", `"github_deployment":true`)
	d := enqueueSHA(t, s, "web", anySHA)
	must[App](t)(s.UpdateApp(t.Context(), App{Name: "web", Source: SourceDockerfile, Config: []byte(`{"repo_owner":"mona","repo_name":"page"}`)}))
	must[Deployment](t)(s.AskCancel(t.Context(), d.ID))
	wantTold(t, s, d.ID, "status pending coalesced", "deployment pending coalesced", "status cancelled", "deployment cancelled")
	for _, post := range must[[]Post](t)(s.Posts(t.Context(), d.ID)) {
		if post.Repository.Owner != "octo" || post.Host != "web.localhost" {
			t.Errorf("the verdict is told to %s, host %q", post.Repository, post.Host)
		}
	}
}

// Without a commit there is nothing at the forge to put a status on, also when the app follows a repository.
func TestADeploymentWithoutACommitIsNotAnnounced(t *testing.T) {
	s := newStore(t)
	must[App](t)(s.CreateApp(t.Context(), App{Name: "web", Source: SourceImage,
		Config: []byte(blobOf(SourceImage, `"repo_owner":"octo","repo_name":"site","github_deployment":true`))}))
	none := enqueueSHA(t, s, "web", "")
	wantTold(t, s, none.ID)
	d, _, err := s.Claim(t.Context(), "web")
	check(t, err)
	advanceTo(t, s, d, StepDone)
	wantTold(t, s, none.ID)
	cancelled := enqueueSHA(t, s, "web", "")
	must[Deployment](t)(s.AskCancel(t.Context(), cancelled.ID))
	check(t, s.Announce(t.Context(), cancelled.ID))
	wantTold(t, s, cancelled.ID)
	if posts := due(t, s); len(posts) != 0 {
		t.Errorf("to be told: %+v", posts)
	}
	wantTold(t, s, enqueueSHA(t, s, "web", anySHA).ID, "status pending", "deployment pending") // one that was told its commit
}

func TestWhatIsNotAtTheForgeIsNotAnnounced(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "alone")
	followingApp(t, s, "web")
	wantTold(t, s, enqueueSHA(t, s, "alone", anySHA).ID)
	wantTold(t, s, enqueueSHA(t, s, "web", "../../x").ID)
}

func TestGitHubDeploymentsHaveALaneOfTheirOwn(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web", `"github_deployment":true`)
	followingApp(t, s, "api", `"github_deployment":true`, `"environment":"staging"`)
	d := enqueueSHA(t, s, "web", anySHA)
	enqueueSHA(t, s, "api", anySHA)
	wantTold(t, s, d.ID, "status pending", "deployment pending")
	var lanes, environments []string
	for _, post := range due(t, s) {
		lanes = append(lanes, post.Lane)
		environments = append(environments, post.Environment)
	}
	slices.Sort(lanes)
	if len(slices.Compact(lanes)) != 4 || !slices.Equal(environments, []string{"production", "production", "staging", "staging"}) {
		t.Errorf("lanes %q, environments %q", lanes, environments)
	}
	if id := must[int64](t)(s.ForgeDeployment(t.Context(), d.ID)); id != 0 {
		t.Errorf("the forge's number is %d before there is one", id)
	}
	check(t, s.SetForgeDeployment(t.Context(), d.ID, 77))
	if id := must[int64](t)(s.ForgeDeployment(t.Context(), d.ID)); id != 77 {
		t.Errorf("the forge's number is %d", id)
	}
}

func TestPostsOfOneLaneGoOutInOrder(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	first := enqueueSHA(t, s, "web", anySHA)
	pending := due(t, s)[0]
	check(t, s.BeginPost(t.Context(), pending.ID, time.Now()))
	enqueueSHA(t, s, "web", strings.ToUpper(anySHA)[:0]+anySHA) // the same commit again: the first is superseded
	posts := due(t, s)
	if len(posts) != 1 || posts[0].Deployment != first.ID || posts[0].Verdict != Superseded {
		t.Fatalf("due are %+v", posts)
	}
	soon := time.Now().Add(time.Hour)
	check(t, s.PutOffPost(t.Context(), posts[0].ID, soon, "503", true))
	if got := due(t, s); len(got) != 0 {
		t.Errorf("due behind one that waits: %+v", got)
	}
	next, waits, err := s.NextPost(t.Context())
	check(t, err)
	if !waits || next.Sub(soon).Abs() > time.Second {
		t.Errorf("the next is due at %s, %v", next, waits)
	}
	check(t, s.EndPost(t.Context(), posts[0], Posted, ""))
	if got := due(t, s); len(got) != 1 || got[0].Deployment == first.ID || got[0].Verdict != "" {
		t.Errorf("then due: %+v", got)
	}
	another := "1111111111111111111111111111111111111111"
	enqueueSHA(t, s, "web", another)
	shas := map[string]bool{}
	for _, post := range due(t, s) {
		shas[post.SHA] = true
	}
	if !shas[anySHA] || !shas[another] {
		t.Errorf("two lanes are not due side by side: %v", shas)
	}
}

func TestEndedPostSaysSoInTheHistory(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	d := enqueueSHA(t, s, "web", anySHA)
	post := due(t, s)[0]
	s.Hide("ghs_secret_token")
	check(t, s.EndPost(t.Context(), post, Refused, "401 for ghs_secret_token", Event{Kind: "note", Text: "GitHub refused ghs_secret_token"}))
	if got := texts(t, s, d.ID); !slices.Contains(got, "note GitHub refused ****") {
		t.Errorf("the history is %q", got)
	}
	undelivered := must[[]Post](t)(s.UndeliveredPosts(t.Context(), time.Now().Add(-time.Hour), 10))
	if len(undelivered) != 1 || undelivered[0].Answer != "401 for ****" {
		t.Errorf("undelivered: %+v", undelivered)
	}
	check(t, s.RetryRefusedPosts(t.Context(), time.Now().Add(-time.Hour)))
	if got := due(t, s); len(got) != 1 || got[0].ID != post.ID {
		t.Errorf("with new credentials, due: %+v", got)
	}
	check(t, s.EndPost(t.Context(), post, Expired, "no answer"))
	check(t, s.RetryRefusedPosts(t.Context(), time.Now().Add(-time.Hour)))
	if got := due(t, s); len(got) != 0 {
		t.Errorf("what has expired is due again: %+v", got)
	}
	must[Deployment](t)(s.AskCancel(t.Context(), d.ID))
	if got := must[[]Post](t)(s.UndeliveredPosts(t.Context(), time.Now().Add(-time.Hour), 10)); len(got) != 0 {
		t.Errorf("undelivered although a later one waits: %+v", got)
	}
}

func TestVerdictOfADestroyedAppIsStillTold(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	d := enqueueSHA(t, s, "web", anySHA)
	must[Deployment](t)(s.AskCancel(t.Context(), d.ID))
	check(t, s.DestroyApp(t.Context(), "web"))
	posts := due(t, s)
	if len(posts) != 1 || posts[0].Verdict != Cancelled {
		t.Fatalf("due: %+v", posts)
	}
	check(t, s.EndPost(t.Context(), posts[0], Refused, "404", Event{Kind: "note", Text: "nobody reads this"}))
	check(t, s.PrunePosts(t.Context(), time.Now().Add(time.Second)))
	wantTold(t, s, d.ID)
}

// What is asked for while an app is being taken down gets a verdict, too, though nobody cancelled it.
func TestVerdictOfWhatCameWhileTheAppWasDestroyed(t *testing.T) {
	for name, get := range map[string]func(*testing.T, *Store) Deployment{
		"waits": func(t *testing.T, s *Store) Deployment { return enqueueSHA(t, s, "web", anySHA) },
		"at work": func(t *testing.T, s *Store) Deployment {
			enqueueSHA(t, s, "web", anySHA)
			d, _, err := s.Claim(t.Context(), "web")
			check(t, err)
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			followingApp(t, s, "web")
			d := get(t, s)
			check(t, s.DestroyApp(t.Context(), "web"))
			posts := due(t, s)
			if len(posts) != 1 || posts[0].Verdict != Cancelled || posts[0].Deployment != d.ID {
				t.Fatalf("due: %+v", posts)
			}
		})
	}
}

// The status is written in the transaction of what it tells: with one, there is the other.
func TestAnnouncementsAreAtomic(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	_, err := s.write.Exec(`CREATE TRIGGER broken BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk'); END`)
	check(t, err)
	if _, err := s.Enqueue(t.Context(), NewDeployment{App: "web", SHA: anySHA}); err == nil {
		t.Error("a deployment was enqueued that nobody will hear of")
	}
	if all := must[[]Deployment](t)(s.Deployments(t.Context(), "web", 10)); len(all) != 0 {
		t.Errorf("there are %d deployments", len(all))
	}
}

func TestAnnounceAgain(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	d := enqueueSHA(t, s, "web", anySHA)
	must[Deployment](t)(s.AskCancel(t.Context(), d.ID))
	for _, post := range must[[]Post](t)(s.Posts(t.Context(), d.ID)) {
		if post.EndedAt.IsZero() {
			check(t, s.EndPost(t.Context(), post, Unknown, "404"))
		}
	}
	check(t, s.Announce(t.Context(), d.ID))
	wantTold(t, s, d.ID, "status pending coalesced", "status cancelled unknown", "status cancelled")
	check(t, s.Announce(t.Context(), d.ID)) // it is on its way
	check(t, s.EndPost(t.Context(), due(t, s)[0], Posted, ""))
	check(t, s.Announce(t.Context(), d.ID)) // it has arrived
	wantTold(t, s, d.ID, "status pending coalesced", "status cancelled unknown", "status cancelled posted")
	wantProblem(t, s.Announce(t.Context(), 99), CodeNotFound, "99")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Announce(ended, d.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("on an ended context: %v", err)
	}
}

// Whatever puts something into the outbox, or lets the next of a lane go, wakes who sends it.
func TestOutboxWakes(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	enqueueSHA(t, s, "web", anySHA)
	running, _, err := s.Claim(t.Context(), "web")
	check(t, err)
	waiting := enqueueSHA(t, s, "web", anySHA)
	for _, one := range []struct {
		what string
		do   func() error
	}{
		{"a cancellation", func() error { _, err := s.AskCancel(t.Context(), waiting.ID); return err }},
		{"a verdict", func() error {
			undoing, err := s.Advance(t.Context(), running, StepUndoing, Change{Verdict: Failed})
			check(t, err)
			_, err = s.Advance(t.Context(), undoing, StepUndone, Change{Verdict: Failed})
			return err
		}},
		{"the end of a post", func() error { return s.EndPost(t.Context(), due(t, s)[0], Refused, "") }},
		{"a new announcement", func() error { return s.Announce(t.Context(), running.ID) }},
		{"new credentials", func() error { return s.RetryRefusedPosts(t.Context(), time.Time{}) }},
		{"another deployment", func() error { enqueueSHA(t, s, "web", anySHA); return nil }},
		{"one that is no use", func() error {
			broken := enqueueSHA(t, s, "web", anySHA)
			_, err := s.write.Exec(`UPDATE apps SET config = json_set(config, '$.port', 99999)`)
			check(t, err)
			changed, stop := s.Watch(OutboxTopic)
			defer stop()
			_, _, err = s.Claim(t.Context(), "web")
			check(t, err)
			woken(t, changed, "the outbox by the claim of "+itoa(broken.ID))
			_, err = s.write.Exec(`UPDATE apps SET config = json_remove(config, '$.port')`)
			return err
		}},
	} {
		changed, stop := s.Watch(OutboxTopic)
		check(t, one.do())
		woken(t, changed, "the outbox by "+one.what)
		stop()
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	enqueueSHA(t, s, "web", anySHA)
	for n := range 2 {
		post := due(t, s)[0]
		if post.Attempts != n {
			t.Errorf("%d attempts, want %d", post.Attempts, n)
		}
		check(t, s.BeginPost(t.Context(), post.ID, time.Now()))
	}
}

// The verdict of uploaded files is told to the commit that they were built from.
func TestUploadsAreToldToTheirCommit(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	upload := strings.Repeat("b", 40)
	d := must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "web", Trigger: TriggerAPI, SHA: upload, BuiltFrom: anySHA}))
	post := due(t, s)[0]
	if post.SHA != anySHA || !strings.Contains(post.Lane, anySHA) || d.SHA != upload || d.ForgeSHA() != anySHA {
		t.Errorf("told to %s in lane %q", post.SHA, post.Lane)
	}
}

// The forge has a deployment of its own already, or is not to have one.
func TestStatusOnly(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web", `"github_deployment":true`)
	d := must[Deployment](t)(s.Enqueue(t.Context(), NewDeployment{App: "web", Trigger: TriggerAPI, SHA: anySHA, StatusOnly: true}))
	wantTold(t, s, d.ID, "status pending")
}
