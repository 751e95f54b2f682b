package store

import (
	"database/sql"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func goodIdentity() Identity {
	return Identity{
		Issuer: GitHubIssuer, Number: "1", Repository: "acme/web", RepositoryID: "11", OwnerID: "22", Ref: "refs/heads/main",
		Environment: "production", Event: "push", Workflow: "acme/web/.github/workflows/deploy.yml@refs/heads/main", RunID: "7", ExpiresAt: time.Now().Add(5 * time.Minute),
	}
}

func TestTrustAllows(t *testing.T) {
	rule := Trust{Issuer: GitHubIssuer, RepositoryID: "11", OwnerID: "22", Ref: "refs/heads/main"}
	for name, test := range map[string]struct {
		rule   func(*Trust)
		is     func(*Identity)
		reason string
	}{
		"all fits":                       {},
		"another name of the repository": {is: func(i *Identity) { i.Repository = "acme/renamed" }},
		"another issuer":                 {is: func(i *Identity) { i.Issuer = "https://ghes.example.com/_services/token" }, reason: "another issuer"},
		"another repository":             {is: func(i *Identity) { i.Repository, i.RepositoryID = "evil/web", "12" }, reason: "another repository: evil/web"},
		"another owner":                  {is: func(i *Identity) { i.OwnerID = "23" }, reason: "another owner of the repository: acme/web"},
		"another branch":                 {is: func(i *Identity) { i.Ref = "refs/heads/feature" }, reason: "another ref: refs/heads/feature"},
		"a branch that begins alike":     {is: func(i *Identity) { i.Ref = "refs/heads/main2" }, reason: "another ref: refs/heads/main2"},
		"no ref":                         {is: func(i *Identity) { i.Ref = "" }, reason: "another ref: "},
		"a tag of a pattern":             {rule: func(r *Trust) { r.Ref = "refs/tags/v*" }, is: func(i *Identity) { i.Ref = "refs/tags/v1.2" }},
		"a tag below a pattern":          {rule: func(r *Trust) { r.Ref = "refs/tags/v*" }, is: func(i *Identity) { i.Ref = "refs/tags/v1/x" }, reason: "another ref: refs/tags/v1/x"},
		"any ref":                        {rule: func(r *Trust) { r.Ref = "*" }, is: func(i *Identity) { i.Ref = "refs/heads/a/b" }},
		"the environment":                {rule: func(r *Trust) { r.Ref, r.Environment = "", "production" }, is: func(i *Identity) { i.Ref = "refs/heads/x" }},
		"another environment":            {rule: func(r *Trust) { r.Environment = "production" }, is: func(i *Identity) { i.Environment = "staging" }, reason: "another environment: staging"},
		"no environment":                 {rule: func(r *Trust) { r.Environment = "production" }, is: func(i *Identity) { i.Environment = "" }, reason: "another environment: "},
		"environment and another ref":    {rule: func(r *Trust) { r.Environment = "production" }, is: func(i *Identity) { i.Ref = "refs/heads/x" }, reason: "another ref: refs/heads/x"},
		"another workflow":               {rule: func(r *Trust) { r.Workflow = "acme/web/.github/workflows/other.yml@refs/heads/main" }, reason: "another workflow: acme/web/.github/workflows/deploy.yml@refs/heads/main"},
		"a pull request":                 {is: func(i *Identity) { i.Event = "pull_request" }, reason: "another event: pull_request"},
		"a pull request's target":        {is: func(i *Identity) { i.Event = "pull_request_target" }, reason: "another event: pull_request_target"},
		"a pull request that is allowed": {rule: func(r *Trust) { r.Events = []string{"pull_request"} }, is: func(i *Identity) { i.Event = "pull_request" }},
		"an event that is not listed":    {rule: func(r *Trust) { r.Events = []string{"workflow_dispatch"} }, reason: "another event: push"},
		"by hand":                        {is: func(i *Identity) { i.Event = "workflow_dispatch" }},
		"no event":                       {is: func(i *Identity) { i.Event = "" }, reason: "another event: "},
	} {
		r, i := rule, goodIdentity()
		if test.rule != nil {
			test.rule(&r)
		}
		if test.is != nil {
			test.is(&i)
		}
		if got := r.Allows(i); got != test.reason {
			t.Errorf("%s: %q, want %q", name, got, test.reason)
		}
	}
}

func TestTrustRules(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	newApp(t, s, "other")
	good := Trust{App: "hello", Repository: "acme/web", RepositoryID: "11", OwnerID: "22", Ref: "refs/heads/main", Events: []string{"push"}}
	for words, spoil := range map[string]func(*Trust){
		"there is no app": func(r *Trust) { r.App = "nobody" },
		"the numbers of":  func(r *Trust) { r.RepositoryID = "" },
		"numbers of":      func(r *Trust) { r.OwnerID = "acme" },
		"every branch of": func(r *Trust) { r.Ref = "" },
		"no address":      func(r *Trust) { r.Issuer = "github" },
		"not a full name": func(r *Trust) { r.Ref = "main" },
		"not a pattern":   func(r *Trust) { r.Ref = "refs/heads/[" },
	} {
		rule := good
		spoil(&rule)
		_, err := s.AddTrust(t.Context(), rule)
		if CodeOf(err) != CodeUsage && CodeOf(err) != CodeNotFound {
			t.Errorf("%s: %v", words, err)
		}
	}
	first := must[Trust](t)(s.AddTrust(t.Context(), good))
	if first.Issuer != GitHubIssuer || first.ID == 0 {
		t.Errorf("added %+v", first)
	}
	second := good
	second.Ref, second.Environment, second.Events = "", "production", nil
	second = must[Trust](t)(s.AddTrust(t.Context(), second))
	rules := must[[]Trust](t)(s.Trusts(t.Context(), "hello"))
	if len(rules) != 2 || rules[0].Ref != "refs/heads/main" || len(rules[0].Events) != 1 || rules[1].Environment != "production" || rules[1].Events == nil {
		t.Errorf("rules %+v", rules)
	}
	if others := must[[]Trust](t)(s.Trusts(t.Context(), "other")); len(others) != 0 {
		t.Errorf("rules of another app %+v", others)
	}
	wantProblem(t, s.RemoveTrust(t.Context(), "other", first.ID), CodeNotFound, "has no trust")
	check(t, s.RemoveTrust(t.Context(), "hello", first.ID))
	if rules := must[[]Trust](t)(s.Trusts(t.Context(), "hello")); len(rules) != 1 || rules[0].ID != second.ID {
		t.Errorf("left are %+v", rules)
	}
	check(t, s.DestroyApp(t.Context(), "hello"))
}

// One token, however many ask with it at once and whatever restarts in between.
func TestIdentityIsExchangedOnce(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	newApp(t, s, "hello")
	var taken atomic.Int32
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			secret, token, fresh, err := s.Exchange(t.Context(), goodIdentity(), "hello", 15*time.Minute)
			check(t, err)
			if !fresh {
				return
			}
			taken.Add(1)
			if token.Rights.String() != "read,deploy" || token.App != "hello" || token.Name != "identity of acme/web run 7" || time.Until(token.ExpiresAt) > 15*time.Minute {
				t.Errorf("token %+v", token)
			}
			if found, err := s.Authenticate(t.Context(), secret); err != nil || found.ID != token.ID {
				t.Errorf("found %+v, %v", found, err)
			}
		})
	}
	asking.Wait()
	if taken.Load() != 1 {
		t.Errorf("it was exchanged %d times", taken.Load())
	}
	check(t, s.Close())
	s = openStore(t, dir)
	_, _, fresh, err := s.Exchange(t.Context(), goodIdentity(), "hello", time.Minute)
	if fresh || err != nil {
		t.Errorf("after a restart: fresh %t, %v", fresh, err)
	}
	another := goodIdentity()
	another.Number = "2"
	if _, _, fresh, err = s.Exchange(t.Context(), another, "hello", -time.Second); !fresh || err != nil {
		t.Errorf("another: fresh %t, %v", fresh, err)
	}
	third := goodIdentity()
	third.Number = "3"
	if _, _, _, err := s.Exchange(t.Context(), third, "hello", time.Minute); err != nil {
		t.Error(err)
	}
	tokens := must[[]Token](t)(s.Tokens(t.Context())) // the first and the third: the second is out of time
	if len(tokens) != 2 || time.Now().After(tokens[0].ExpiresAt) || time.Now().After(tokens[1].ExpiresAt) {
		t.Errorf("tokens %+v", tokens)
	}
	_, _, _, err = s.Exchange(t.Context(), Identity{Issuer: "x", Number: "4", ExpiresAt: time.Now()}, "nobody", time.Minute)
	wantProblem(t, err, CodeNotFound, "there is no app")
}

func TestAuditTrail(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "other")
	s.Hide("a-secret-value")
	done := AuditEntry{Token: 3, Who: "ci", Action: "deploy", App: "hello", Deployment: 7, Outcome: AuditDone, Remote: "10.0.0.1"}
	check(t, s.Audit(t.Context(), done))
	check(t, s.Audit(t.Context(), done)) // what changes something counts each time
	refused := AuditEntry{Action: "sign in", App: "other", Outcome: AuditRefused, Reason: "it says a-secret-value", Remote: "10.0.0.2"}
	for range 3 {
		check(t, s.AuditQuietly(t.Context(), refused))
	}
	refused.Remote = "10.0.0.3"
	check(t, s.AuditQuietly(t.Context(), refused))
	all := must[[]AuditEntry](t)(s.AuditTrail(t.Context(), "", 10))
	if len(all) != 4 || all[0].Remote != "10.0.0.3" || all[1].Reason != "it says ****" || all[3].Deployment != 7 || all[3].Who != "ci" || time.Since(all[3].At) > time.Minute {
		t.Errorf("trail %+v", all)
	}
	if one := must[[]AuditEntry](t)(s.AuditTrail(t.Context(), "hello", 1)); len(one) != 1 || one[0].ID != all[2].ID {
		t.Errorf("of one app %+v", one)
	}
}

// Strangers cannot drive out what was done, make up apps, or write to a terminal.
func TestAuditTrailOfStrangers(t *testing.T) {
	s := newStore(t)
	done := AuditEntry{Token: 3, Who: "ci", Action: "deploy", App: "hello", Outcome: AuditDone, Remote: "10.0.0.1"}
	check(t, s.Audit(t.Context(), done))
	check(t, s.transact(t.Context(), s.relaxed, func(tx *sql.Tx) error {
		for n := range auditStrangers + 2*auditSweep {
			if _, err := tx.Exec(`INSERT INTO audit (at, token, who, action, app, deployment, outcome, reason, remote)
				VALUES (1, 0, '', 'GET', '', 0, 'refused', ?, '10.0.0.2')`, n); err != nil {
				return err
			}
		}
		return nil
	}))
	stranger := AuditEntry{Who: "x\n2 s ago  admin\x1b[2J\u202e", Action: "GET", App: "made-up", Outcome: AuditRefused, Reason: strings.Repeat("é", auditText+1)}
	for range auditSweep {
		check(t, s.Audit(t.Context(), stranger))
	}
	all := must[[]AuditEntry](t)(s.AuditTrail(t.Context(), "", 2*auditStrangers))
	if newest := all[0]; newest.Who != "x 2 s ago  admin [2J " || newest.App != "" || len([]rune(newest.Reason)) != auditText {
		t.Errorf("newest %+v", newest)
	}
	if strangers := len(all) - 1; strangers < auditStrangers || strangers >= auditStrangers+auditSweep {
		t.Errorf("%d entries of strangers", strangers)
	}
	if oldest := all[len(all)-1]; oldest.Who != "ci" {
		t.Errorf("oldest %+v", oldest)
	}
}

// Of what was done, the oldest goes at last.
func TestAuditTrailIsBounded(t *testing.T) {
	s := newStore(t)
	check(t, s.transact(t.Context(), s.relaxed, func(tx *sql.Tx) error {
		for range auditKept + auditSweep {
			if _, err := tx.Exec(`INSERT INTO audit (at, token, who, action, app, deployment, outcome, reason, remote)
				VALUES (1, 3, 'ci', 'deploy', 'hello', 7, 'done', '', '10.0.0.1')`); err != nil {
				return err
			}
		}
		return nil
	}))
	for range auditSweep {
		check(t, s.Audit(t.Context(), AuditEntry{Token: 3, Action: "deploy", Outcome: AuditDone}))
	}
	all := must[[]AuditEntry](t)(s.AuditTrail(t.Context(), "", 2*auditKept))
	if len(all) < auditKept || len(all) >= auditKept+auditSweep {
		t.Errorf("%d entries", len(all))
	}
}
