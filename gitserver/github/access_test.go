package github

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

func TestAddressesOfGitHub(t *testing.T) {
	for _, c := range []struct{ api, web, wantAPI, wantWeb string }{
		{"", "", "https://api.github.com", "https://github.com"},
		{"https://api.github.com/", "", "https://api.github.com", "https://github.com"},
		{"https://api.acme.ghe.com", "", "https://api.acme.ghe.com", "https://acme.ghe.com"},
		{"https://git.example.com/api/v3", "", "https://git.example.com/api/v3", "https://git.example.com"},
		{" https://git.example.com:8443/api/v3/ ", "", "https://git.example.com:8443/api/v3", "https://git.example.com:8443"},
		{"https://git.example.com/api/v3", "https://www.example.com/git/", "https://git.example.com/api/v3", "https://www.example.com/git"},
		{"http://127.0.0.1:99/api/v3", "", "http://127.0.0.1:99/api/v3", "http://127.0.0.1:99"},
		{"http://[::1]:99/api/v3", "", "http://[::1]:99/api/v3", "http://[::1]:99"},
	} {
		api, web, err := addresses(c.api, c.web)
		if err != nil || api != c.wantAPI || web != c.wantWeb {
			t.Errorf("%q, %q: %s, %s, %v", c.api, c.web, api, web, err)
		}
	}
	for _, bad := range []string{
		"http://git.example.com/api/v3", "http://127.0.0.1.example.com", "ftp://git.example.com", "git.example.com", "https://", "https://user:pass@git.example.com",
		"https://git.example.com?x=1", "https://git.example.com#x", "https://git.example.com/%zz",
	} {
		if _, _, err := addresses(bad, ""); store.CodeOf(err) != store.CodeUsage {
			t.Errorf("%q as API: %v", bad, err)
		}
		if _, _, err := addresses("", bad); store.CodeOf(err) != store.CodeUsage {
			t.Errorf("%q as pages: %v", bad, err)
		}
	}
}

func TestConnectRefusesWhatCannotBeRight(t *testing.T) {
	o := newOffice(t, "")
	good, err := o.fake.AppAccess()
	o.check(err)
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.check(err)
	der, err := x509.MarshalPKCS8PrivateKey(elliptical)
	o.check(err)
	before := len(o.fake.Requests())
	for name, spoil := range map[string]func(*store.ForgeAccess){
		"no kind":     func(a *store.ForgeAccess) { a.Kind = "" },
		"no id":       func(a *store.ForgeAccess) { a.AppID = 0 },
		"negative id": func(a *store.ForgeAccess) { a.AppID = -1 },
		"no key":      func(a *store.ForgeAccess) { a.PrivateKey = "" },
		"no PEM":      func(a *store.ForgeAccess) { a.PrivateKey = "secret" },
		"key of no RSA": func(a *store.ForgeAccess) {
			a.PrivateKey = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		},
		"cut key":          func(a *store.ForgeAccess) { a.PrivateKey = strings.Replace(a.PrivateKey, "A", "", 5) },
		"no token":         func(a *store.ForgeAccess) { a.Kind, a.Token = store.AccessToken, "  \n" },
		"two tokens":       func(a *store.ForgeAccess) { a.Kind, a.Token = store.AccessToken, "one\ntwo" },
		"short secret":     func(a *store.ForgeAccess) { a.WebhookSecret = "1234567" },
		"unsafe address":   func(a *store.ForgeAccess) { a.APIURL = "http://git.example.com/api/v3" },
		"unsafe web pages": func(a *store.ForgeAccess) { a.WebURL = "http://git.example.com" },
	} {
		asked := good
		spoil(&asked)
		_, err := o.hub.Connect(t.Context(), asked)
		if problem, is := store.AsProblem(err); !is || problem.Code != store.CodeUsage || problem.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := o.fake.Requests()[before:]; len(asked) != 0 {
		t.Errorf("GitHub was asked %+v", asked)
	}
	if _, connected, err := o.hub.Connection(t.Context()); connected || err != nil {
		t.Errorf("connected %t, error %v", connected, err)
	}
}

func TestConnectKeepsOnlyWhatGitHubTakes(t *testing.T) {
	o := newOffice(t, "")
	good, err := o.fake.AppAccess()
	o.check(err)
	other := good
	other.AppID++
	if _, err := o.hub.Connect(t.Context(), other); store.CodeOf(err) != store.CodeErrored || !strings.Contains(err.Error(), "401") {
		t.Errorf("another App's id: %v", err)
	}
	wrong := o.fake.TokenAccess()
	wrong.Token = "ghp_wrong_but_long_enough"
	if _, err := o.hub.Connect(t.Context(), wrong); store.CodeOf(err) != store.CodeErrored {
		t.Errorf("a wrong token: %v", err)
	}
	o.fake.Down()
	if _, err := o.hub.Connect(t.Context(), good); store.CodeOf(err) != store.CodeUnreachable {
		t.Errorf("while GitHub is down: %v", err)
	}
	o.check(o.fake.Up())
	if _, connected, _ := o.hub.Connection(t.Context()); connected {
		t.Fatal("connected all the same")
	}
	connection, err := o.hub.Connect(t.Context(), good)
	o.check(err)
	if connection.AppSlug != "shipgate-test" || connection.WebhookSecret != "" || connection.WebhookURL != testBase+"/webhooks/github" ||
		connection.InstallURL != o.fake.URL()+"/github-apps/shipgate-test/installations/new" {
		t.Errorf("connection %+v", connection)
	}
	again := o.open()
	kept, connected, err := again.Connection(t.Context())
	if err != nil || !connected || !kept.ConnectedAt.Equal(connection.ConnectedAt) || kept.AppID != good.AppID {
		t.Errorf("another process sees %+v, %t, %v", kept, connected, err)
	}
	if masked := o.store.Masked(good.WebhookSecret + strings.Split(good.PrivateKey, "\n")[2]); masked != "********" {
		t.Errorf("shown: %s", masked)
	}
	o.check(again.Disconnect(t.Context()))
	if _, connected, err := o.open().Connection(t.Context()); connected || err != nil {
		t.Errorf("connected %t after disconnecting, error %v", connected, err)
	}
}

func TestSecretsAreHiddenFromTheStart(t *testing.T) {
	o := newOffice(t, "")
	access := o.connectApp()
	o.check(o.hub.Close())
	o.check(o.store.Close())
	var err error
	o.store, err = store.Open(t.Context(), o.dir)
	o.check(err)
	o.hub = o.open()
	if o.store.Masked(access.WebhookSecret) != access.WebhookSecret {
		t.Fatal("hidden before it was read")
	}
	o.check(o.hub.Start(testBase + "/"))
	if masked := o.store.Masked("the secret is " + access.WebhookSecret); masked != "the secret is ****" {
		t.Errorf("shown: %s", masked)
	}
	if o.hub.base != testBase {
		t.Errorf("base is %s", o.hub.base)
	}
}

func TestASecretIsMadeUpOnce(t *testing.T) {
	o := newOffice(t, "")
	asked := o.fake.TokenAccess("statuses:write")
	asked.WebhookSecret = ""
	first, err := o.hub.Connect(t.Context(), asked)
	o.check(err)
	second, err := o.hub.Connect(t.Context(), asked)
	o.check(err)
	if len(first.WebhookSecret) != 64 || first.WebhookSecret == second.WebhookSecret {
		t.Errorf("made up %q, then %q", first.WebhookSecret, second.WebhookSecret)
	}
	if kept, _, _ := o.hub.Connection(t.Context()); kept.WebhookSecret != "" {
		t.Error("it can be had again")
	}
	if a, _ := o.hub.access(t.Context()); a.WebhookSecret != second.WebhookSecret {
		t.Error("another one is used")
	}
}

func TestNewCredentialsRepeatWhatWasRefused(t *testing.T) {
	o := newOffice(t, "")
	weak := o.fake.TokenAccess("contents:read")
	_, err := o.hub.Connect(t.Context(), weak)
	o.check(err)
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	if posts := o.settled(d); posts[0].Outcome != store.Refused {
		t.Fatalf("ended %s", posts[0].Outcome)
	}
	o.connectApp()
	o.wait("the status", func() bool { return o.states() == "pending" })
	if posts := o.settled(d); posts[0].Outcome != store.Posted {
		t.Errorf("ended %s", posts[0].Outcome)
	}
	select {
	case <-o.hub.connected:
	default:
		t.Error("nobody is told of the connection")
	}
}

// permissionsAsked gives what the tokens could do that requests of one kind came with.
func (o *office) permissionsAsked(method, part string) []string {
	var asked []string
	for _, request := range o.fake.Requests() {
		if request.Method == method && strings.Contains(request.Path, part) && request.Permissions != nil {
			asked = append(asked, o.asText(request.Permissions)+" "+strings.Join(request.Repositories, " "))
		}
	}
	slices.Sort(asked)
	return slices.Compact(asked)
}

func TestTokensAllowNoMoreThanTheyMust(t *testing.T) {
	o := newOffice(t, `,"github_deployment":true`)
	o.connectApp()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.start()
	o.settled(d)
	if asked := o.permissionsAsked("POST", "/statuses/"+o.sha); !slices.Equal(asked, []string{`{"statuses":"write"} hello`}) {
		t.Errorf("statuses were set by tokens for %q", asked)
	}
	if asked := o.permissionsAsked("POST", "/deployments"); !slices.Equal(asked, []string{`{"deployments":"write"} hello`}) {
		t.Errorf("deployments were made by tokens for %q", asked)
	}
	o.fake.SetPrivate(o.repo)
	remote := o.remote()
	if remote.URL != o.fake.URL()+"/octocat/hello.git" || remote.Username != "x-access-token" {
		t.Errorf("remote %s as %s", remote.URL, remote.Username)
	}
	if o.readable(remote) != http.StatusOK {
		t.Error("the token does not read the repository")
	}
	request, err := http.NewRequest(http.MethodPost, o.fake.APIURL()+"/repos/octocat/hello/statuses/"+o.sha, strings.NewReader(`{"state":"success"}`))
	o.check(err)
	request.Header = http.Header{"Authorization": {"Bearer " + remote.Password}, "User-Agent": {"shipgate"}, "Content-Type": {"application/json"}}
	response, err := http.DefaultClient.Do(request)
	o.check(err)
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a token to read with sets a status: %d", response.StatusCode)
	}
}

func (o *office) remote() store.Remote {
	o.Helper()
	app, err := o.store.App(o.Context(), "hello")
	o.check(err)
	remote, found, err := o.hub.Remote(o.Context(), app)
	if err != nil || !found {
		o.Fatalf("remote: found %t, error %v", found, err)
	}
	return remote
}

// readable gives what git would be answered.
func (o *office) readable(remote store.Remote) int {
	o.Helper()
	request, err := http.NewRequest(http.MethodGet, remote.URL+"/info/refs?service=git-upload-pack", nil)
	o.check(err)
	request.SetBasicAuth(remote.Username, remote.Password)
	response, err := http.DefaultClient.Do(request)
	o.check(err)
	response.Body.Close()
	return response.StatusCode
}

func TestRemoteOfAppsWithoutConnectionOrRepository(t *testing.T) {
	o := newOffice(t, "")
	if remote := o.remote(); remote != (store.Remote{URL: "https://github.com/octocat/hello.git"}) {
		t.Errorf("unconnected: %+v", remote)
	}
	plain := store.App{Name: "plain", Source: store.SourceDockerfile, Config: []byte(`{"deploy_strategy":"blue-green","port":8080}`)}
	if _, found, err := o.hub.Remote(t.Context(), plain); found || err != nil {
		t.Errorf("no repository: found %t, error %v", found, err)
	}
	o.connectApp()
	o.fake.Install(o.repo)
	app, err := o.store.App(t.Context(), "hello")
	o.check(err)
	if _, _, err := o.hub.Remote(t.Context(), app); store.CodeOf(err) != store.CodeErrored || !strings.Contains(err.Error(), "not installed in octocat/hello") {
		t.Errorf("not installed: %v", err)
	}
	o.fake.Down()
	if _, _, err := o.hub.Remote(t.Context(), app); store.CodeOf(err) != store.CodeUnreachable {
		t.Errorf("down: %v", err)
	}
}

func (o *office) mints() (n int) {
	for _, request := range o.fake.Requests() {
		if strings.HasSuffix(request.Path, "/access_tokens") {
			n++
		}
	}
	return n
}

func TestTokensAreSharedAndRenewed(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { o.remote() })
	}
	all.Wait()
	if o.mints() != 1 {
		t.Errorf("20 callers had %d tokens made", o.mints())
	}
	a, err := o.hub.access(t.Context())
	o.check(err)
	a.now = func() time.Time { return time.Now().Add(58 * time.Minute) }
	o.remote()
	if o.mints() != 1 {
		t.Error("a token with two minutes to go was not used")
	}
	a.now = func() time.Time { return time.Now().Add(59*time.Minute + time.Second) }
	if _, fresh := a.cached(tokenKey(store.Repository{Owner: "octocat", Name: "hello"}, forFetch)); fresh {
		t.Error("a token with less than a minute to go is used")
	}
}

func TestARevokedTokenIsReplacedOnce(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.start()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.settled(d)
	o.fake.RevokeTokens()
	o.fake.Install(o.repo, "contents:read", "statuses:write") // another installation: the number that is known is of no use
	o.decide("hello", store.Failed, "no")
	posts := o.settled(d)
	if o.states() != "pending failure" || posts[1].Attempts != 1 {
		t.Errorf("states: %s after %d attempts: %s", o.states(), posts[1].Attempts, posts[1].Answer)
	}
	before := o.mints()
	o.fake.FailNext("POST /repos/*/*/statuses/*", githubtest.Refusal(401, "Bad credentials"), githubtest.Refusal(401, "Bad credentials"))
	next := o.enqueue("hello", store.TriggerWebhook, o.commit("Next"))
	if posts := o.settled(next); posts[0].Outcome != store.Refused || o.mints() != before+1 {
		t.Errorf("ended %s with %d new tokens", posts[0].Outcome, o.mints()-before)
	}
}

func TestOneCallersEndIsNotThatOfOthers(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	a, err := o.hub.access(t.Context())
	o.check(err)
	o.hub.timeout = time.Minute
	a.http.Timeout = time.Minute
	repository := store.Repository{Owner: "octocat", Name: "hello"}
	o.fake.FailNext("GET /repos/octocat/hello/installation", githubtest.Hanging())
	impatient, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var first, second error
	all.Go(func() { _, first = a.tokenFor(impatient, repository, forFetch) })
	before := len(o.fake.Requests())
	o.wait("the first to ask", func() bool {
		return len(o.fake.Requests()) >= before && strings.Contains(o.asText(o.fake.Requests()), "hello/installation")
	})
	all.Go(func() { _, second = a.tokenFor(t.Context(), repository, forFetch) })
	leave()
	all.Wait()
	if first == nil || second != nil {
		t.Errorf("the one who left: %v; the one who stayed: %v", first, second)
	}
}

func TestRepositoriesAreCheckedBeforeAnyCall(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	before := len(o.fake.Requests())
	a, err := o.hub.access(t.Context())
	o.check(err)
	for _, post := range []store.Post{
		{Kind: store.PostStatus, Repository: store.Repository{Owner: "..", Name: "user"}, SHA: o.sha},
		{Kind: store.PostStatus, Repository: store.Repository{Owner: "octocat", Name: "../../user/keys?x="}, SHA: o.sha},
		{Kind: store.PostStatus, Repository: store.Repository{Owner: "octocat", Name: "hello"}, SHA: "main"},
		{Kind: store.PostDeployment, Repository: store.Repository{Owner: "octocat", Name: "hello"}, SHA: o.sha + "/../.."},
		{Kind: store.PostDeployment, Repository: store.Repository{Owner: "octo/cat", Name: "hello"}, SHA: o.sha},
	} {
		if err := o.hub.deliver(t.Context(), a, post); classify(err, time.Now()).kind != refused {
			t.Errorf("%+v: %v", post, err)
		}
	}
	if asked := o.fake.Requests()[before:]; len(asked) != 0 {
		t.Errorf("GitHub was asked %+v", asked)
	}
}
