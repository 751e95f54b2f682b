package github

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

// wants checks that exactly the findings that are no ok say these words, in order, each with a hint.
func (o *office) wants(words ...string) {
	o.Helper()
	var troubles []store.Finding
	all := o.hub.Findings(o.Context())
	for _, f := range all {
		if f.Level != store.LevelOK {
			troubles = append(troubles, f)
		}
	}
	if len(troubles) != len(words) || len(all) == 0 {
		o.Fatalf("found %s, want %q", o.asText(all), words)
	}
	for i, f := range troubles {
		if !strings.Contains(f.Level+" "+f.Text, words[i]) || f.Hint == "" {
			o.Errorf("found %s, want %q and a hint", o.asText(f), words[i])
		}
	}
}

// healthy is an office that the doctor finds nothing wrong with.
func healthy(t *testing.T, kind string) *office {
	o := newOffice(t, "")
	o.fake.SetHook(githubtest.Hook{URL: testBase + "/webhooks/github", Secret: "a secret of ours"})
	access := o.fake.TokenAccess("contents:read", "statuses:write", "repository_hooks:read")
	if kind == store.AccessApp {
		var err error
		access, err = o.fake.AppAccess()
		o.check(err)
	} else {
		o.fake.AddHook(o.repo, githubtest.Hook{URL: testBase + "/webhooks/github", ContentType: "json"}, true, 202, "push")
	}
	_, err := o.hub.Connect(t.Context(), access)
	o.check(err)
	_, err = o.store.ReceiveDelivery(t.Context(), store.Delivery{GUID: "1", Event: "ping", Body: []byte("{}"), Outcome: "pong"})
	o.check(err)
	o.wants()
	return o
}

func TestTheDoctorSaysWhichIsWrong(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		spoil      func(o *office)
		want       []string
	}{
		{"credentials of the App", store.AccessApp, func(o *office) {
			a, _ := o.hub.access(o.Context())
			a.AppID++
		}, []string{"fail GitHub does not take the credentials: 401"}},
		{"the token", store.AccessToken, func(o *office) {
			a, _ := o.hub.access(o.Context())
			a.Token = "revoked-at-github"
		}, []string{"fail GitHub does not take the credentials: 401"}},
		{"the network", store.AccessApp, func(o *office) { o.fake.Down() }, []string{"cannot be asked"}},
		{"a clock behind", store.AccessToken, func(o *office) { o.fake.SetClock(3*time.Minute + 30*time.Second) }, []string{"fail the clock of this server is 3m"}},
		{"a clock behind, so that the key looks wrong", store.AccessApp, func(o *office) { o.fake.SetClock(time.Hour) }, []string{"behind GitHub's"}},
		{"a clock ahead", store.AccessApp, func(o *office) { o.fake.SetClock(-time.Hour) }, []string{"ahead of GitHub's"}},
		{"a clock a little off", store.AccessApp, func(o *office) { o.fake.SetClock(20 * time.Second) }, nil},
		{"the installation", store.AccessApp, func(o *office) { o.fake.Install(o.repo) }, []string{"fail 404 the App is not installed in octocat/hello"}},
		{"a permission", store.AccessApp, func(o *office) { o.fake.Install(o.repo, "contents:read") }, []string{"fail the App lacks statuses:write in octocat/hello"}},
		{"a permission to write", store.AccessApp, func(o *office) { o.fake.Install(o.repo, "contents:read", "statuses:read") }, []string{"lacks statuses:write"}},
		{"a permission that no app wants", store.AccessApp, func(o *office) { o.fake.Install(o.repo, "contents:read", "statuses:write") }, nil},
		{"a permission that one app wants", store.AccessApp, func(o *office) {
			o.app("second", `,"github_deployment":true`)
			o.fake.Install(o.repo, "contents:write", "statuses:write")
		}, []string{"lacks deployments:write"}},
		{"the App's webhook", store.AccessApp, func(o *office) { o.fake.SetHook(githubtest.Hook{URL: "https://old.example.com/webhooks/github"}) },
			[]string{"fail the App's webhook goes to https://old.example.com/webhooks/github"}},
		{"a token that reads only", store.AccessToken, func(o *office) { o.connectToken("contents:read", "repository_hooks:read") },
			[]string{"fail the token may read octocat/hello, but not set"}},
		{"a token that may not list webhooks", store.AccessToken, func(o *office) { o.connectToken("statuses:write") },
			[]string{"warn the token may not list the webhooks of octocat/hello"}},
		{"a repository that is gone", store.AccessToken, func(o *office) { o.check(o.fake.Rename(o.repo, "octocat", "other")) },
			[]string{"fail the token cannot read octocat/hello: 404"}},
		{"our own address", store.AccessApp, func(o *office) {
			o.hub.base = "http://192.168.1.2:7420"
			o.fake.SetHook(githubtest.Hook{URL: o.hub.base + "/webhooks/github"})
		}, []string{"warn GitHub has no way to http://192.168.1.2:7420"}},
		{"a refused status", store.AccessApp, func(o *office) {
			o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.Refusal(403, "Resource protected by organization SAML enforcement"))
			o.start()
			o.settled(o.enqueue("hello", store.TriggerWebhook, o.sha))
		}, []string{"warn the commit status shipgate/hello of octocat/hello at"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := healthy(t, c.kind)
			c.spoil(o)
			o.wants(c.want...)
			if c.name == "a refused status" && !strings.Contains(o.asText(o.hub.Findings(t.Context())), "SAML") {
				t.Error("GitHub's reason is not said")
			}
		})
	}
}

func (o *office) connectToken(permissions ...string) {
	o.Helper()
	_, err := o.hub.Connect(o.Context(), o.fake.TokenAccess(permissions...))
	o.check(err)
}

// An Enterprise server has no rate limits by default, and says 404 to who asks for them.
func TestATokenOfAServerWithoutRateLimits(t *testing.T) {
	o := newOffice(t, "")
	o.fake.SetUnlimited()
	o.connectToken("contents:read", "statuses:write", "repository_hooks:read")
	for _, finding := range o.hub.Findings(t.Context()) {
		if strings.Contains(o.asText(finding), "credentials") && strings.Contains(o.asText(finding), "fail") {
			t.Errorf("the doctor says %s", o.asText(finding))
		}
	}
	wrong := o.fake.TokenAccess("contents:read")
	wrong.Token = "not-one-of-ours"
	if _, err := o.hub.Connect(t.Context(), wrong); err == nil {
		t.Error("a wrong token was taken")
	}
}

func TestTheDoctorLooksAtTheHooksOfARepository(t *testing.T) {
	here := testBase + "/webhooks/github"
	for _, c := range []struct {
		name   string
		url    string
		active bool
		last   int
		event  string
		want   []string
	}{
		{"never used", here, true, 0, "push", nil},
		{"everything", here, true, 200, "*", nil},
		{"elsewhere", "https://old.example.com/webhooks/github", true, 200, "push", []string{"fail octocat/hello has no webhook that comes here"}},
		{"inactive", here, false, 200, "push", []string{"is not active"}},
		{"no pushes", here, true, 200, "issues", []string{"does not tell of pushes"}},
		{"refused by us", here, true, 401, "push", []string{"was last answered 401"}},
	} {
		o := newOffice(t, "")
		_, err := o.store.ReceiveDelivery(t.Context(), store.Delivery{GUID: "1", Event: "ping", Body: []byte("{}"), Outcome: "pong"})
		o.check(err)
		o.connectToken("contents:read", "statuses:write", "repository_hooks:read")
		o.fake.AddHook(o.repo, githubtest.Hook{URL: c.url, ContentType: "form"}, c.active, c.last, c.event)
		t.Log(c.name)
		o.wants(c.want...)
	}
}

func TestTheDoctorWithoutConnection(t *testing.T) {
	o := newOffice(t, "")
	o.wants("warn GitHub is not connected, and apps follow 1 of its repositories")
	o.check(o.store.DestroyApp(t.Context(), "hello"))
	o.wants()
	o.connectToken()
	o.wants("warn no webhook delivery has come yet")
}

func TestSetupByManifest(t *testing.T) {
	o := newOffice(t, "")
	setup, err := o.hub.Manifest(t.Context(), "", "", "a state&b=c")
	o.check(err)
	if setup.Action != "https://github.com/settings/apps/new?state=a+state%26b%3Dc" {
		t.Errorf("form goes to %s", setup.Action)
	}
	var asked struct {
		Name string
		URL  string
		Hook struct {
			URL    string
			Active bool
		} `json:"hook_attributes"`
		Redirect    string            `json:"redirect_url"`
		Public      bool              `json:"public"`
		Permissions map[string]string `json:"default_permissions"`
		Events      []string          `json:"default_events"`
	}
	o.check(json.Unmarshal([]byte(setup.Manifest), &asked))
	if asked.URL != testBase || asked.Hook.URL != testBase+"/webhooks/github" || !asked.Hook.Active || asked.Redirect != testBase+"/setup/github" || asked.Public ||
		len([]rune(asked.Name)) > 34 || !strings.HasPrefix(asked.Name, "shipgate-") || strings.Join(asked.Events, " ") != "push repository" ||
		o.asText(asked.Permissions) != `{"contents":"read","deployments":"write","metadata":"read","statuses":"write"}` {
		t.Errorf("manifest %s", setup.Manifest)
	}
	setup, err = o.hub.Manifest(t.Context(), "acme", o.fake.APIURL(), "s")
	if err != nil || setup.Action != o.fake.URL()+"/organizations/acme/settings/apps/new?state=s" {
		t.Errorf("form goes to %s, error %v", setup.Action, err)
	}
	if _, err := o.hub.Manifest(t.Context(), "acme/../x", "", ""); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("a hostile organization: %v", err)
	}
	for _, code := range []string{"", "a/b", "..", strings.Repeat("a", 101), url.QueryEscape("a b")} {
		if _, err := o.hub.CompleteSetup(t.Context(), o.fake.APIURL(), code); store.CodeOf(err) != store.CodeUsage {
			t.Errorf("code %q: %v", code, err)
		}
	}
	if _, err := o.hub.CompleteSetup(t.Context(), o.fake.APIURL(), "unknown"); store.CodeOf(err) != store.CodeErrored {
		t.Errorf("an unknown code: %v", err)
	}
	code := o.fake.ManifestCode()
	connection, err := o.hub.CompleteSetup(t.Context(), o.fake.APIURL(), code)
	if err != nil || connection.AppID != 4711 || connection.AppSlug != "shipgate-test" || connection.WebhookSecret != "" {
		t.Errorf("connected as %+v, error %v", connection, err)
	}
	if _, err := o.hub.CompleteSetup(t.Context(), o.fake.APIURL(), code); err == nil || strings.Contains(err.Error(), code) {
		t.Errorf("the same code again: %v", err)
	}
}
