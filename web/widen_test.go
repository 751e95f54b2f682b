package web

import (
	"net/http"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// An admin of one app may lower its limits. To lift them, or to make a stack trusted, takes an admin of the server.
func TestAdminOfOneAppDoesNotWiden(t *testing.T) {
	l := newLab(t)
	for _, app := range []string{
		`{"name":"web","source":"dockerfile","config":{"resources":{"memory":"64m"}}}`, `{"name":"stack","source":"compose"}`,
	} {
		l.ask("POST", "/api/v1/apps", app).must(t, http.StatusCreated)
	}
	own := map[string]string{}
	for _, app := range []string{"web", "stack"} {
		own[app] = l.token(store.Token{Name: app, App: app, Rights: store.Rights{store.RightAdmin}})
	}
	for _, test := range []struct {
		app, config string
		want        int
	}{
		{"web", `{"resources":{"memory":"128m"}}`, 403},
		{"web", `{"resources":{"memory":null}}`, 403},
		{"web", `{"resources":{"memory":"32m","cpus":2}}`, 200},
		{"web", `{"resources":null,"port":8080}`, 403},
		{"web", `{"Resources":{"pids":10000}}`, 403},
		{"stack", `{"trusted":true}`, 403},
		{"stack", `{"TRUSTED":true}`, 403},
		{"stack", `{"service":"web"}`, 200},
		{"stack", `{"trusted":false}`, 200},
	} {
		request := l.request("PATCH", "/api/v1/apps/"+test.app, `{"config":`+test.config+`}`)
		request.Header.Set("Authorization", "Bearer "+own[test.app])
		if got := l.send(request); got.status != test.want {
			t.Errorf("%s %s: %d, want %d: %s", test.app, test.config, got.status, test.want, got.body)
		}
	}
	l.ask("PATCH", "/api/v1/apps/stack", `{"config":{"trusted":true}}`).must(t, http.StatusOK)
	l.ask("PATCH", "/api/v1/apps/web", `{"config":{"resources":null}}`).must(t, http.StatusOK)
}
