package store

import (
	"slices"
	"strings"
	"testing"
)

func TestAppNames(t *testing.T) {
	for _, name := range []string{"a", "9", "hello", "my-app", "a--b", strings.Repeat("a", 40)} {
		if err := ValidateAppName(name); err != nil {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "a\n", "ä", strings.Repeat("a", 41)} {
		wantProblem(t, ValidateAppName(name), CodeUsage, "a-z, 0-9 and -", "shipgate app create")
	}
}

func TestHosts(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	good := map[string]string{
		"app.example.com": "app.example.com", "App.Example.COM": "app.example.com", "app.example.com.": "app.example.com",
		"localhost": "localhost", "*.example.com": "*.example.com", "xn--bcher-kva.example": "xn--bcher-kva.example",
		label63 + ".example": label63 + ".example", "10.0.0.1": "10.0.0.1",
	}
	for host, want := range good {
		if got, err := NormaliseHost(host); err != nil || got != want {
			t.Errorf("%q gives %q and %v, want %q", host, got, err, want)
		}
	}
	bad := []string{"", ".", "..", "*", "*.", "*.com", "*.*.com", "a.*.com", "http://a.example", "a.example:80", "a.example/x", "a b", "-a.example", "a-.example",
		"api.internal", "API.Internal.", "*.api.internal", "internal", "a..example", ".example", "a_b.example", "a.example..", "a\n", "bücher.example", label63 + "a.example", strings.Repeat(label63+".", 4) + "example"}
	for _, host := range bad {
		got, err := NormaliseHost(host)
		if err == nil {
			t.Errorf("%q is taken as %q", host, got)
			continue
		}
		wantProblem(t, err, CodeUsage, "--host")
	}
}

func TestCreateAppNormalisesWithoutTouchingWhatItWasGiven(t *testing.T) {
	s := newStore(t)
	given := []string{"B.localhost.", "a.localhost"}
	created := must[App](t)(s.CreateApp(t.Context(), App{Name: "hello", Source: SourceStatic, Hosts: given, Config: []byte(` {"spa" : true} `)}))
	if given[0] != "B.localhost." {
		t.Error("the caller's hosts were changed")
	}
	stored := must[App](t)(s.App(t.Context(), "hello"))
	if want := []string{"b.localhost", "a.localhost"}; !slices.Equal(created.Hosts, want) || !slices.Equal(stored.Hosts, want) {
		t.Errorf("created %q, stored %q, want %q in this order", created.Hosts, stored.Hosts, want)
	}
	if string(created.Config) != `{"spa":true}` || string(stored.Config) != `{"spa":true}` {
		t.Errorf("created %s, stored %s", created.Config, stored.Config)
	}
	if !created.CreatedAt.Equal(stored.CreatedAt) || stored.CreatedAt.IsZero() {
		t.Errorf("created at %s, stored %s", created.CreatedAt, stored.CreatedAt)
	}
	bare := must[App](t)(s.CreateApp(t.Context(), App{Name: "bare", Source: SourceStatic}))
	if bare.Hosts == nil {
		t.Error("an app without hosts has no list of them")
	}
}

func TestAppsThatAreRefused(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "hello")
	for name, c := range map[string]struct {
		app  App
		code Code
		says string
	}{
		"name taken":         {App{Name: "hello", Source: SourceStatic}, CodeConflict, "hello"},
		"bad name":           {App{Name: "Hello", Source: SourceStatic}, CodeUsage, "Hello"},
		"bad source":         {App{Name: "x", Source: "zip"}, CodeUsage, "dockerfile, static, image or compose"},
		"bad config":         {App{Name: "x", Source: SourceStatic, Config: []byte(`{"prot":1}`)}, CodeUsage, "prot"},
		"bad host":           {App{Name: "x", Source: SourceStatic, Hosts: []string{"x:80"}}, CodeUsage, "x:80"},
		"host of another":    {App{Name: "x", Source: SourceStatic, Hosts: []string{"x.localhost", "HELLO.localhost"}}, CodeConflict, `"hello"`},
		"the same one twice": {App{Name: "x", Source: SourceStatic, Hosts: []string{"x.localhost", "X.localhost."}}, CodeUsage, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.CreateApp(t.Context(), c.app)
			wantProblem(t, err, c.code, c.says)
			if got.Name != "" {
				t.Errorf("a refused app was given: %+v", got)
			}
		})
	}
	if apps := must[[]App](t)(s.Apps(t.Context())); len(apps) != 1 {
		t.Errorf("a refused app was kept: %+v", apps)
	}
}

func TestUpdateApp(t *testing.T) {
	s := newStore(t)
	first := newApp(t, s, "first")
	newApp(t, s, "second")
	_, err := s.UpdateApp(t.Context(), App{Name: "first", Source: SourceDockerfile, Hosts: []string{"new.localhost", "second.localhost"}})
	wantProblem(t, err, CodeConflict, "second")
	if got := must[App](t)(s.App(t.Context(), "first")); !slices.Equal(got.Hosts, first.Hosts) || string(got.Config) != string(first.Config) {
		t.Errorf("a refused update changed %+v to %+v", first, got)
	}
	_, err = s.UpdateApp(t.Context(), App{Name: "first", Source: SourceStatic})
	wantProblem(t, err, CodeUsage, "dockerfile")
	_, err = s.UpdateApp(t.Context(), App{Name: "third", Source: SourceStatic})
	wantProblem(t, err, CodeNotFound, "third")

	updated := must[App](t)(s.UpdateApp(t.Context(), App{Name: "first", Source: SourceDockerfile, Hosts: []string{"new.localhost"}, Config: []byte(`{"port":9}`)}))
	stored := must[App](t)(s.App(t.Context(), "first"))
	for _, got := range []App{updated, stored} {
		if !slices.Equal(got.Hosts, []string{"new.localhost"}) || string(got.Config) != `{"port":9}` || !got.CreatedAt.Equal(first.CreatedAt) {
			t.Errorf("after the update: %+v", got)
		}
	}
	must[App](t)(s.CreateApp(t.Context(), App{Name: "third", Source: SourceStatic, Hosts: first.Hosts})) // the old host is free
}

func TestGenerationsGrowForEachAppAlone(t *testing.T) {
	s := newStore(t)
	newApp(t, s, "a")
	newApp(t, s, "b")
	for _, want := range []int64{1, 2, 3} {
		if got := must[int64](t)(s.NextGeneration(t.Context(), "a")); got != want {
			t.Errorf("generation %d, want %d", got, want)
		}
	}
	if got := must[int64](t)(s.NextGeneration(t.Context(), "b")); got != 1 {
		t.Errorf("b starts at %d", got)
	}
	_, err := s.NextGeneration(t.Context(), "c")
	wantProblem(t, err, CodeNotFound)
}

func TestDestroyTakesAllOfTheAppAndNothingOfOthers(t *testing.T) {
	s := newStore(t)
	tables := map[string]string{
		"apps": "name = ?1", "hosts": "host = ?1 || '.localhost'", "tokens": "app = ?1",
		"releases": "app = (SELECT id FROM apps WHERE name = ?1)", "deployments": "app = (SELECT id FROM apps WHERE name = ?1)",
		"live": "app = (SELECT id FROM apps WHERE name = ?1)", "env": "app = (SELECT id FROM apps WHERE name = ?1)",
		"events":    "deployment IN (SELECT d.id FROM deployments d JOIN apps a ON a.id = d.app WHERE a.name = ?1)",
		"addresses": "deployment IN (SELECT d.id FROM deployments d JOIN apps a ON a.id = d.app WHERE a.name = ?1)",
	}
	count := func(table, where string, args ...any) (n int) {
		check(t, s.read.QueryRow(`SELECT count(*) FROM `+table+` WHERE `+where, args...).Scan(&n))
		return n
	}
	tokens := map[string]string{}
	for _, app := range []string{"doomed", "kept"} {
		newApp(t, s, app)
		check(t, s.SetEnv(t.Context(), app, map[string]string{"KEY": "value"}))
		d := advanceTo(t, s, claimed(t, s, app), StepBuilt)
		d = must[Deployment](t)(s.PlaceContainer(t.Context(), d, subnet(t, "10.214.0.0/29"), 8080))
		advanceTo(t, s, d, StepDone)
		enqueue(t, s, app)
		tokens[app], _, _ = s.CreateToken(t.Context(), Token{Name: app, Rights: Rights{RightDeploy}, App: app})
	}
	tokens[""], _, _ = s.CreateToken(t.Context(), Token{Name: "all", Rights: Rights{RightAdmin}})
	before := map[string]int{}
	for table, where := range tables {
		before[table] = count(table, where, "kept")
		if before[table] == 0 || count(table, where, "doomed") == 0 {
			t.Fatalf("the test put nothing into %s", table)
		}
	}
	check(t, s.DestroyApp(t.Context(), "doomed"))
	for table, where := range tables {
		if got := count(table, where, "kept"); got != before[table] {
			t.Errorf("%s: %d rows of the other app became %d", table, before[table], got)
		}
		if all, kept := count(table, "true"), before[table]; table != "tokens" && all != kept {
			t.Errorf("%s: %d rows remain of the destroyed app", table, all-kept)
		}
	}
	_, err := s.Authenticate(t.Context(), tokens["doomed"])
	wantProblem(t, err, CodeUnauthorised)
	for _, app := range []string{"kept", ""} {
		if _, err := s.Authenticate(t.Context(), tokens[app]); err != nil {
			t.Errorf("the token of %q: %v", app, err)
		}
	}
	wantProblem(t, s.DestroyApp(t.Context(), "doomed"), CodeNotFound, "doomed")
	newApp(t, s, "doomed")
}
