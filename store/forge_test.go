package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRepositoryNames(t *testing.T) {
	for name, good := range map[string]bool{
		"octocat/hello-world": true, "a/b.c_d": true, "A/.github": true, "../x": false, "a/..": false, "./a": false, "a/": false, "/a": false,
		"a/b c": false, "a/b/c": false, "a/b?c": false, "a/b#": false, "a/b%2f": false, "a/\n": false, "": false,
	} {
		owner, rest, _ := strings.Cut(name, "/")
		if err := ValidateRepository(Repository{owner, rest}); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	for sha, good := range map[string]bool{
		anySHA: true, strings.ToUpper(anySHA): false, anySHA[:39]: false, anySHA + "0": false, anySHA + "\n": false, "": false, "../" + anySHA[3:]: false,
	} {
		if err := ValidateCommitID(sha); (err == nil) != good {
			t.Errorf("%q: %v", sha, err)
		}
	}
}

func TestAppsOfARepository(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	followingApp(t, s, "api")
	newApp(t, s, "alone")
	names := func(repository Repository) (names []string) {
		for _, app := range must[[]App](t)(s.AppsOf(t.Context(), repository)) {
			names = append(names, app.Name)
		}
		return names
	}
	if got := names(Repository{"OCTO", "site"}); !slices.Equal(got, []string{"api", "web"}) {
		t.Errorf("they are followed by %q", got)
	}
	if got := names(Repository{"octo", "other"}); got != nil {
		t.Errorf("another one is followed by %q", got)
	}
	for _, heard := range []struct {
		name   string
		second int64
		now    string
		moved  string
	}{
		{"Site", 100, "Site", "[]"},
		{"page", 99, "Site", "[]"}, // told late: it had that name before
		{"page", 101, "page", "[api web]"},
		{"Site", 100, "page", "[]"},
		{"page", 50, "page", "[]"},
		{"Site", 102, "Site", "[api web]"}, // it can get its old name back
		{"page", 102, "page", "[api web]"},
	} {
		now, moved, err := s.NoteRepository(t.Context(), 7, Repository{"octo", heard.name}, time.Unix(heard.second, 0))
		if got := fmt.Sprint(now, moved, err); got != "octo/"+heard.now+" "+heard.moved+" <nil>" {
			t.Errorf("%s at %d: %s", heard.name, heard.second, got)
		}
	}
	if _, moved, err := s.NoteRepository(t.Context(), 7, Repository{"mona", "page"}, time.Unix(103, 0)); err != nil || !slices.Equal(moved, []string{"api", "web"}) {
		t.Errorf("renamed: %q, %v", moved, err)
	}
	if got := names(Repository{"mona", "page"}); !slices.Equal(got, []string{"api", "web"}) {
		t.Errorf("then it is followed by %q", got)
	}
	if got := names(Repository{"octo", "site"}); got != nil {
		t.Errorf("its old name is still followed by %q", got)
	}
	_, _, err := s.NoteRepository(t.Context(), 7, Repository{"..", "x"}, time.Unix(104, 0))
	wantProblem(t, err, CodeUsage)
}

func TestHeads(t *testing.T) {
	s := newStore(t)
	followingApp(t, s, "web")
	if _, found, err := s.Head(t.Context(), "web", "refs/heads/main"); found || err != nil {
		t.Fatalf("found %v, %v", found, err)
	}
	for _, head := range []Head{
		{"web", "refs/heads/main", anySHA, time.Time{}},
		{"web", "refs/heads/main", strings.Repeat("1", 40), time.Unix(1700000000, 0).UTC()},
	} {
		check(t, s.SetHead(t.Context(), head))
		got, found, err := s.Head(t.Context(), "web", "refs/heads/main")
		if got != head || !found || err != nil {
			t.Errorf("got %+v, %v, %v; want %+v", got, found, err, head)
		}
	}
	if _, found, _ := s.Head(t.Context(), "web", "refs/heads/other"); found {
		t.Error("another branch has a head")
	}
	wantProblem(t, s.SetHead(t.Context(), Head{App: "none"}), CodeNotFound, "none")
}

// What was received of one branch or repository is no news of another one.
func TestHeadsOfWhatIsNotFollowedAreForgotten(t *testing.T) {
	for more, kept := range map[string]bool{
		`"repo_owner":"OCTO","repo_name":"site"`:                    true,
		`"repo_owner":"octo","repo_name":"site","branch":"main"`:    false,
		`"repo_owner":"octo","repo_name":"other"`:                   false,
		`"repo_owner":"octo","repo_name":"site","public_logs":true`: true,
	} {
		s := newStore(t)
		followingApp(t, s, "web")
		app := must[App](t)(s.App(t.Context(), "web"))
		check(t, s.SetHead(t.Context(), Head{App: "web", Branch: "refs/heads/main", SHA: anySHA}))
		changed, stop := s.Watch(AppsTopic)
		defer stop()
		app.Config = []byte(`{"port":80,` + more + `}`)
		must[App](t)(s.UpdateApp(t.Context(), app))
		woken(t, changed, "an update")
		if _, known, err := s.Head(t.Context(), "web", "refs/heads/main"); known != kept || err != nil {
			t.Errorf("%s: known %v, %v", more, known, err)
		}
		newApp(t, s, "another")
		woken(t, changed, "a creation")
	}
}

func TestDeliveries(t *testing.T) {
	s := newStore(t)
	changed, stop := s.Watch(DeliveryTopic)
	defer stop()
	delivery := Delivery{GUID: "g1", Event: "push", ContentType: "application/json", Body: []byte(`{"a":1}`)}
	if fresh := must[bool](t)(s.ReceiveDelivery(t.Context(), delivery)); !fresh {
		t.Error("the first is not new")
	}
	woken(t, changed, "the deliveries")
	if fresh := must[bool](t)(s.ReceiveDelivery(t.Context(), delivery)); fresh {
		t.Error("the same one is new again")
	}
	if fresh := must[bool](t)(s.ReceiveDelivery(t.Context(), Delivery{GUID: "g2", Event: "star", Body: []byte("x"), Outcome: "ignored"})); !fresh {
		t.Error("the second is not new")
	}
	waiting := must[[]Delivery](t)(s.DueDeliveries(t.Context(), time.Now(), 10))
	if len(waiting) != 1 || waiting[0].GUID != "g1" || len(waiting[0].Body) != 0 || waiting[0].Event != "push" ||
		waiting[0].ContentType != "application/json" || waiting[0].ReceivedAt.IsZero() || !waiting[0].EndedAt.IsZero() {
		t.Fatalf("waiting: %+v", waiting)
	}
	if body := must[[]byte](t)(s.DeliveryBody(t.Context(), waiting[0].ID)); !bytes.Equal(body, delivery.Body) {
		t.Errorf("its body: %q", body)
	}
	if _, err := s.DeliveryBody(t.Context(), 99); err == nil {
		t.Error("there is a body of none")
	}
	later := time.Now().Add(time.Hour)
	s.Hide("ghp_hidden_value")
	check(t, s.PutOffDelivery(t.Context(), waiting[0].ID, later, "no answer with ghp_hidden_value"))
	if got := must[[]Delivery](t)(s.DueDeliveries(t.Context(), time.Now(), 10)); len(got) != 0 {
		t.Errorf("due although put off: %+v", got)
	}
	if got := must[[]Delivery](t)(s.DueDeliveries(t.Context(), later.Add(time.Second), 10)); len(got) != 1 || got[0].Attempts != 1 || got[0].Outcome != "no answer with ****" {
		t.Errorf("later: %+v", got)
	}
	if next, waits, err := s.NextDelivery(t.Context()); err != nil || !waits || next.Sub(later).Abs() > time.Second {
		t.Errorf("next at %s, %v, %v", next, waits, err)
	}
	check(t, s.EndDelivery(t.Context(), waiting[0].ID, "web: deployment 1"))
	if _, waits, err := s.NextDelivery(t.Context()); waits || err != nil {
		t.Errorf("one still waits: %v", err)
	}
	all := must[[]Delivery](t)(s.Deliveries(t.Context(), 10))
	if len(all) != 2 || all[0].GUID != "g2" || all[0].Outcome != "ignored" || all[0].EndedAt.IsZero() || all[1].Outcome != "web: deployment 1" || len(all[1].Body) != 0 {
		t.Errorf("all: %+v", all)
	}
	if !must[bool](t)(s.HasDelivery(t.Context(), "g1")) || must[bool](t)(s.HasDelivery(t.Context(), "g3")) {
		t.Error("which deliveries are there is wrong")
	}
	must[bool](t)(s.ReceiveDelivery(t.Context(), Delivery{GUID: "g4", Event: "push", Body: []byte("waits")}))
	if fresh := must[bool](t)(s.ReceiveDelivery(t.Context(), Delivery{GUID: "g5", Event: "push", Outcome: "pong"})); !fresh {
		t.Error("one without a body is not kept")
	}
	future := time.Now().Add(time.Hour)
	check(t, s.PruneDeliveries(t.Context(), future, time.Now().Add(-time.Hour)))
	if got := must[string](t)(query(t, s.read, `SELECT sum(length(body)) || ' in ' || count(*) FROM deliveries`), nil); got != "5 in 4" {
		t.Errorf("after forgetting the bodies: %s", got)
	}
	check(t, s.PruneDeliveries(t.Context(), future, future))
	if got := must[[]Delivery](t)(s.Deliveries(t.Context(), 10)); len(got) != 1 || got[0].GUID != "g4" {
		t.Errorf("after forgetting all: %+v", got)
	}
}

func TestSecretsOfTheServer(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	type access struct{ Token string }
	var got access
	if found, err := s.Secret(t.Context(), "github", &got); found || err != nil {
		t.Fatalf("found %v, %v", found, err)
	}
	check(t, s.SetSecret(t.Context(), "github", access{"a very secret token"}))
	if found, err := s.Secret(t.Context(), "github", &got); !found || err != nil || got.Token != "a very secret token" {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
	if inAnyFile(t, dir, []byte("very secret")) {
		t.Error("the secret is readable in the data directory")
	}
	_, err := s.write.Exec(`UPDATE secrets SET name = 'other'`)
	check(t, err)
	if _, err := s.Secret(t.Context(), "other", &got); err == nil {
		t.Error("a secret opens under another name")
	}
	check(t, s.RemoveSecret(t.Context(), "other"))
	if found, _ := s.Secret(t.Context(), "other", &got); found {
		t.Error("a removed secret is there")
	}
}

func TestHiddenSecretsAreMasked(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	if got := s.Masked("nothing to hide"); got != "nothing to hide" {
		t.Errorf("got %q", got)
	}
	s.Hide("first-secret", "-----BEGIN KEY-----\nline-of-a-key\n-----END KEY-----", "", "short")
	s.Hide("second-secret", "first-secret-and-more")
	for text, want := range map[string]string{
		"a first-secret b": "a **** b", "line-of-a-key": "****", "first-secret-and-more": "****", "second-secret": "****", "short": "short",
	} {
		if got := s.Masked(text); got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
	d := claimed(t, s, "hello")
	check(t, s.Log(t.Context(), d.ID, Event{Kind: "build", Text: "echo second-secret"}))
	d = must[Deployment](t)(s.Advance(t.Context(), d, StepUndoing, Change{Verdict: Failed, Reason: "bad first-secret", Events: []Event{{Kind: "note", Text: "first-secret"}}}))
	if d.Reason != "bad ****" {
		t.Errorf("the reason is %q", d.Reason)
	}
	if history := strings.Join(texts(t, s, d.ID), "\n"); strings.Contains(history, "secret") || strings.Count(history, "****") != 2 {
		t.Errorf("the history is %q", history)
	}
	for n := range mostPassing + 10 {
		s.HidePassing("token-number-" + itoa(int64(n)))
	}
	if len(s.hidden.passing) != mostPassing || s.Masked("token-number-1009") != "****" || s.Masked("first-secret") != "****" {
		t.Errorf("%d are hidden, and what lasts is shown as %q", len(s.hidden.passing), s.Masked("first-secret"))
	}
}

func TestSigning(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	key := s.PageKey(7)
	if key != s.Sign("page", "7") || !s.Signed("page", "7", key) {
		t.Error("a page's own key is refused")
	}
	for _, wrong := range []string{"", key[1:], key + "A", s.PageKey(8), s.Sign("session", "7")} {
		if s.Signed("page", "7", wrong) {
			t.Errorf("%q opens the page", wrong)
		}
	}
	check(t, s.Close())
	if again := openStore(t, dir); again.PageKey(7) != key {
		t.Error("the key does not outlive the process")
	}
	if newStore(t).PageKey(7) == key {
		t.Error("two servers have the same key")
	}
}

func TestTokenByID(t *testing.T) {
	s := newStore(t)
	_, token, err := s.CreateToken(t.Context(), Token{Name: "me", Rights: Rights{RightRead}})
	check(t, err)
	if got := must[Token](t)(s.TokenByID(t.Context(), token.ID)); got.Name != "me" {
		t.Errorf("got %+v", got)
	}
	check(t, s.RevokeToken(t.Context(), token.ID))
	_, err = s.TokenByID(t.Context(), token.ID)
	wantProblem(t, err, CodeUnauthorised)
	_, old, err := s.CreateToken(t.Context(), Token{Name: "old", Rights: Rights{RightRead}, ExpiresAt: time.Now().Add(-time.Minute)})
	check(t, err)
	_, err = s.TokenByID(t.Context(), old.ID)
	wantProblem(t, err, CodeUnauthorised)
}
