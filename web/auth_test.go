package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/shipgate/shipgate/store"
)

// bearers are the kinds of tokens there are, beside none at all: one for each right on all apps, on the app asked about ("hello:") and
// on another ("other:").
var bearers = []string{
	"read", "deploy", "env", "run", "admin", "hello:read", "hello:deploy", "hello:env", "hello:run", "hello:admin",
	"other:read", "other:deploy", "other:env", "other:run", "other:admin",
}

// The sets of bearers that may ask for something.
const (
	everybody  = "everybody"
	anyToken   = "read deploy env run admin hello:read hello:deploy hello:env hello:run hello:admin other:read other:deploy other:env other:run other:admin"
	allReaders = "read deploy env run admin"
	readers    = "read deploy env run admin hello:read hello:deploy hello:env hello:run hello:admin"
	deployers  = "deploy admin hello:deploy hello:admin"
	envEditors = "env admin hello:env hello:admin"
	appAdmins  = "admin hello:admin"
	operators  = "admin"
)

// mayAsk says who may ask for what. Nobody else may, and every operation of the document has its line.
var mayAsk = map[string]string{
	"alive":            everybody,
	"ready":            everybody,
	"describe":         everybody,
	"metrics":          allReaders,
	"listApps":         anyToken,
	"createApp":        operators,
	"showApp":          readers,
	"updateApp":        appAdmins,
	"destroyApp":       appAdmins,
	"planApp":          readers,
	"listEnv":          envEditors,
	"changeEnv":        envEditors,
	"followLogs":       readers,
	"listDeployments":  readers,
	"createDeployment": deployers,
	"showDeployment":   readers,
	"followEvents":     readers,
	"cancelDeployment": deployers,
	"listTokens":       operators,
	"createToken":      operators,
	"revokeToken":      operators,
	"diagnose":         operators,
	"listRegistries":   operators,
	"setRegistry":      operators,
	"removeRegistry":   operators,
	"collect":          operators,
	"repoFileSchema":   everybody,
	"showGitHub":       operators,
	"connectGitHub":    operators,
	"disconnectGitHub": operators,
	"beginSetup":       operators,
	"listDeliveries":   operators,
	"receiveWebhook":   everybody,
	"createUpload":     deployers,
	"listTrust":        appAdmins,
	"addTrust":         appAdmins,
	"removeTrust":      appAdmins,
	"showAudit":        operators,
	"startApp":         deployers,
	"restartApp":       deployers,
	"listStatus":       anyToken,
	"stopApp":          deployers,
	"purgeSite":        deployers,
}

func TestAuthorisation(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	done := l.advance(l.enqueue("hello"), store.StepDone)
	l.logs = writeLines("listening")
	secrets := map[string]string{}
	for _, bearer := range bearers {
		app, right, limited := strings.Cut(bearer, ":")
		if !limited {
			app, right = "", bearer
		}
		secrets[bearer] = l.token(store.Token{Name: bearer, App: app, Rights: store.Rights{store.Right(right)}})
	}
	document, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.OperationID == "exchange" {
				continue // it takes identities, not tokens
			}
			allowed, listed := mayAsk[operation.OperationID]
			if !listed {
				t.Errorf("nothing says who may %s", operation.OperationID)
			}
			target := strings.NewReplacer("{app}", "hello", "{deployment}", fmt.Sprint(done.ID), "{token}", "987654").Replace(path)
			for _, bearer := range bearers {
				l.github.connection = &store.ForgeConnection{Kind: store.AccessToken}
				l.runner.refuseNext = store.Problemf(store.CodeConflict, "kept for the next one")
				request := l.request(method, target, bodyOf(operation))
				request.Header.Set("Authorization", "Bearer "+secrets[bearer])
				got := l.send(request).status
				taken := got != http.StatusForbidden && got != http.StatusUnauthorized && !(operation.OperationID != "revokeToken" && got == http.StatusNotFound)
				if want := allowed == everybody || slices.Contains(strings.Fields(allowed), bearer); taken != want {
					t.Errorf("%s by %s: status %d; may: %v", operation.OperationID, bearer, got, want)
				}
			}
			for _, header := range []string{"", "Bearer wrong", "Bearer ", "Basic eDo=", "Digest " + l.admin} {
				request := l.request(method, target, bodyOf(operation))
				request.Header.Set("Authorization", header)
				got := l.send(request)
				refused := got.status == http.StatusUnauthorized || got.status == http.StatusTooManyRequests // so many wrong ones
				if refused == (allowed == everybody) {
					t.Errorf("%s with %q: status %d", operation.OperationID, header, got.status)
				}
				if got.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s with %q: no challenge", operation.OperationID, header)
				}
			}
		}
	}
}

// bodyOf gives an operation something that it can read.
func bodyOf(operation *openapi3.Operation) string {
	return map[string]string{
		"createApp":   `{"name":"hello","source":"dockerfile"}`,
		"updateApp":   `{"hosts":["hello.localhost"]}`,
		"changeEnv":   `{"set":{"A":"b"}}`,
		"createToken": `{"rights":["read"]}`,

		"connectGitHub": `{"kind":"token","token":"of-the-server"}`,
		"beginSetup":    `{}`,
	}[operation.OperationID]
}

func TestTokensInTheirForms(t *testing.T) {
	l := newLab(t)
	expired := l.token(store.Token{Name: "old", Rights: store.Rights{store.RightAdmin}, ExpiresAt: time.Now().Add(-time.Minute)})
	for name, test := range map[string]struct {
		set    func(*http.Request)
		status int
	}{
		"bearer":              {func(r *http.Request) { r.Header.Set("Authorization", "bearer "+l.admin) }, 200},
		"basic password":      {func(r *http.Request) { r.SetBasicAuth("x", l.admin) }, 200},
		"basic user name":     {func(r *http.Request) { r.SetBasicAuth(l.admin, "") }, 200},
		"password before it":  {func(r *http.Request) { r.SetBasicAuth(l.admin, "wrong") }, 401},
		"expired":             {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+expired) }, 401},
		"in the query":        {func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "token=" + l.admin }, 401},
		"a page of elsewhere": {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site"); r.Method = "POST" }, 403},
		"a page of our own":   {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 200},
	} {
		request := l.request("GET", "/api/v1/apps", "")
		test.set(request)
		if got := l.send(request); got.status != test.status {
			t.Errorf("%s: status %d, want %d: %s", name, got.status, test.status, got.body)
		}
	}
}

// A token of one app learns nothing of the others.
func TestTokenSeesItsOwnAppOnly(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.createApp("other")
	d := l.enqueue("other")
	mine := l.token(store.Token{Name: "mine", Rights: store.Rights{store.RightRead}, App: "hello"})
	ask := func(path string) answer {
		request := l.request("GET", path, "")
		request.Header.Set("Authorization", "Bearer "+mine)
		return l.send(request)
	}
	var apps []appJSON
	ask("/api/v1/apps").must(t, http.StatusOK).into(t, &apps)
	if len(apps) != 1 || apps[0].Name != "hello" {
		t.Errorf("it sees %+v", apps)
	}
	var statuses []store.AppStatus
	ask("/api/v1/status").must(t, http.StatusOK).into(t, &statuses)
	if len(statuses) != 1 || statuses[0].App != "hello" {
		t.Errorf("it sees the states of %+v", statuses)
	}
	there, missing := ask("/api/v1/apps/other"), ask("/api/v1/apps/nothing")
	if there.status != http.StatusForbidden || there.body != missing.body {
		t.Errorf("an app of others and none: %q and %q", there.body, missing.body)
	}
	theirs, none := ask(fmt.Sprintf("/api/v1/deployments/%d", d.ID)), ask("/api/v1/deployments/99")
	if theirs.status != http.StatusNotFound || strings.ReplaceAll(none.body, "99", fmt.Sprint(d.ID)) != theirs.body {
		t.Errorf("a deployment of others and none: %q and %q", theirs.body, none.body)
	}
}
