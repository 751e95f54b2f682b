package githubtest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/shipgate/shipgate/store"
)

func open(t *testing.T) *Fake {
	t.Helper()
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func repositoryOf(t *testing.T, f *Fake) *Repository {
	t.Helper()
	r, err := f.Repository("octocat", "hello")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask makes a request and gives the status and body of the answer.
func ask(t *testing.T, f *Fake, token, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, f.APIURL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "shipgate")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestWhatLiveGitHubRefusesIsRefused(t *testing.T) {
	f := open(t)
	r := repositoryOf(t, f)
	sha, err := r.Commit("main", "Begin", map[string]string{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	token := f.TokenAccess("statuses:write", "deployments:write").Token
	reader := f.TokenAccess("contents:read").Token
	statuses, deployments := "/repos/octocat/hello/statuses/"+sha, "/repos/octocat/hello/deployments"
	pending := `{"state":"pending","context":"shipgate/hello"}`
	for _, c := range []struct {
		name, token, path, body string
		status                  int
		violates                bool
	}{
		{"a good one", token, statuses, pending, 201, false},
		{"unknown state", token, statuses, `{"state":"in_progress"}`, 422, true},
		{"140 characters", token, statuses, `{"state":"success","description":"` + strings.Repeat("ä", 140) + `"}`, 201, false},
		{"141 characters", token, statuses, `{"state":"success","description":"` + strings.Repeat("ä", 141) + `"}`, 422, true},
		{"unknown commit", token, "/repos/octocat/hello/statuses/" + strings.Repeat("1", 40), pending, 422, false},
		{"short commit", token, statuses[:len(statuses)-1], pending, 422, true},
		{"unknown field", token, statuses, `{"state":"success","colour":"green"}`, 422, true},
		{"no rights", reader, statuses, pending, 404, false},
		{"wrong token", "nonsense", statuses, pending, 401, false},
		{"unknown path", token, "/user/keys", `{}`, 422, true},
		{"deployment that waits for our own status", token, deployments, `{"ref":"main","auto_merge":false}`, 409, true},
		{"deployment that merges", token, deployments, `{"ref":"main","required_contexts":[]}`, 409, true},
		{"deployment of no commit", token, deployments, `{"ref":"nope","required_contexts":[],"auto_merge":false}`, 422, false},
		{"a good deployment", token, deployments, `{"ref":"main","required_contexts":[],"auto_merge":false}`, 201, false},
	} {
		before := len(f.Violations())
		status, text := ask(t, f, c.token, "POST", c.path, c.body)
		if violated := len(f.Violations()) > before; status != c.status || violated != c.violates {
			t.Errorf("%s: answered %d (violation %t), want %d (%t): %s", c.name, status, violated, c.status, c.violates, text)
		}
	}
}

func TestContextsCompareWithoutCaseUpToAThousand(t *testing.T) {
	f := open(t)
	r := repositoryOf(t, f)
	sha, err := r.Commit("main", "Begin", map[string]string{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	token := f.TokenAccess("statuses:write").Token
	for i := range mostStatuses + 1 {
		body := `{"state":"pending","context":"Shipgate/hello"}`
		if i%2 == 0 {
			body = strings.ToLower(body)
		}
		status, text := ask(t, f, token, "POST", "/repos/octocat/hello/statuses/"+sha, body)
		if want := map[bool]int{true: 201, false: 422}[i < mostStatuses]; status != want {
			t.Fatalf("status %d: answered %d %s", i, status, text)
		}
	}
}

func TestGitIsServedToThoseWhoMayRead(t *testing.T) {
	f := open(t)
	r := repositoryOf(t, f)
	if _, err := r.Commit("main", "Begin", map[string]string{"dir/a.txt": "one\n"}); err != nil {
		t.Fatal(err)
	}
	fetch := func(user string) error {
		address := strings.Replace(f.URL(), "http://", "http://"+user, 1) + "/octocat/hello.git"
		clone := exec.Command("git", "-c", "credential.helper=", "clone", "-q", address, t.TempDir())
		clone.Env = append(clone.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false")
		return clone.Run()
	}
	if err := fetch(""); err != nil {
		t.Errorf("a public repository: %v", err)
	}
	f.SetPrivate(r)
	good, other := f.TokenAccess("contents:read"), f.TokenAccess("statuses:write")
	for user, may := range map[string]bool{"": false, "x:" + good.Token + "@": true, "x:" + other.Token + "@": false, "x:wrong@": false} {
		if err := fetch(user); (err == nil) != may {
			t.Errorf("as %q: %v, want allowed %t", user, err, may)
		}
	}
}

func TestPushDeliversSigned(t *testing.T) {
	f := open(t)
	r := repositoryOf(t, f)
	var got []*http.Request
	var bodies [][]byte
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		got, bodies = append(got, request), append(bodies, body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer hook.Close()
	f.SetHook(Hook{URL: hook.URL, Secret: "a secret of ours"})
	first, _, err := f.Push(r, "main", "Begin\n\nSlowly", map[string]string{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	second, delivery, err := f.Push(r, "main", "Go on", map[string]string{"a": Gone, "b": "2"})
	if err != nil {
		t.Fatal(err)
	}
	var push struct {
		Before, After            string
		Created, Deleted, Forced bool
		Commits                  []struct{ ID, Message string }
		HeadCommit               struct{ ID string } `json:"head_commit"`
	}
	if err := json.Unmarshal(bodies[1], &push); err != nil {
		t.Fatal(err)
	}
	if push.Before != first || push.After != second || push.Created || push.Forced || len(push.Commits) != 1 || push.HeadCommit.ID != second {
		t.Errorf("second push says %+v", push)
	}
	if got[1].Header.Get("X-Hub-Signature-256") != Signature("a secret of ours", bodies[1]) || delivery.Status != 202 {
		t.Errorf("headers %v, answered %d", got[1].Header, delivery.Status)
	}
	again, err := f.Redeliver(delivery.GUID)
	if err != nil || again.GUID != delivery.GUID || len(got) != 3 || got[2].Header.Get("X-GitHub-Delivery") != delivery.GUID {
		t.Errorf("redelivery %+v, %v", again, err)
	}
	for _, c := range []struct {
		ref, before, after       string
		created, deleted, forced bool
		commits                  int
	}{
		{"refs/heads/new", "", second, true, false, false, 0},
		{"refs/heads/main", second, first, false, false, true, 0},
		{"refs/heads/main", first, "", false, true, false, 0},
	} {
		payload, err := f.PushPayload(r, c.ref, c.before, c.after)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(payload, &push); err != nil {
			t.Fatal(err)
		}
		if push.Created != c.created || push.Deleted != c.deleted || push.Forced != c.forced || len(push.Commits) != c.commits {
			t.Errorf("%+v became %+v", c, push)
		}
	}
}

func TestConnectionsAreRefusedWhileDown(t *testing.T) {
	f := open(t)
	address := f.APIURL()
	f.Down()
	if response, err := http.Get(address + "/rate_limit"); err == nil {
		response.Body.Close()
		t.Error("answered while down")
	}
	if err := f.Up(); err != nil {
		t.Fatal(err)
	}
	if f.APIURL() != address {
		t.Errorf("moved from %s to %s", address, f.APIURL())
	}
	if status, text := ask(t, f, f.TokenAccess().Token, "GET", "/rate_limit", ""); status != 200 {
		t.Errorf("answered %d %s", status, text)
	}
}

func TestTokensOfAnInstallationAllowOnlyWhatWasAsked(t *testing.T) {
	f := open(t)
	r := repositoryOf(t, f)
	access, err := f.AppAccess()
	if err != nil {
		t.Fatal(err)
	}
	if access.Kind != store.AccessApp {
		t.Errorf("access of kind %q", access.Kind)
	}
	f.grants["ghs_read"] = grant{installation: true, permissions: permissionsOf([]string{"contents:read"}), repositories: []string{r.Name}, expires: f.now().Add(1e12)}
	f.grants["ghs_other"] = grant{installation: true, permissions: permissionsOf([]string{"statuses:write"}), repositories: []string{"other"}, expires: f.now().Add(1e12)}
	f.grants["ghs_old"] = grant{installation: true, permissions: permissionsOf([]string{"statuses:write"}), repositories: []string{r.Name}, expires: f.now()}
	for token, want := range map[string]int{"ghs_read": 403, "ghs_other": 404, "ghs_old": 401} {
		status, _ := ask(t, f, token, "POST", "/repos/octocat/hello/statuses/"+strings.Repeat("1", 40), `{"state":"pending"}`)
		if status != want {
			t.Errorf("%s: answered %d, want %d", token, status, want)
		}
	}
}
