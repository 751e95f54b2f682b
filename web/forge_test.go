package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestGitHubConnection(t *testing.T) {
	l := newLab(t)
	if problem := l.problem("GET", "/api/v1/github", "", 404); problem.Hint != "shipgate github connect" {
		t.Errorf("%+v", problem)
	}
	got := l.ask("PUT", "/api/v1/github", `{"kind":"token","token":"ghp_not-to-be-seen","webhook_secret":"nor-this-one","app_slug":"x","connected_at":"2020-01-01T00:00:00Z"}`).must(t, 200)
	if strings.Contains(got.body, "not-to-be-seen") || l.github.given.Token != "ghp_not-to-be-seen" || l.github.given.AppSlug != "" || !l.github.given.ConnectedAt.IsZero() {
		t.Errorf("%s, given %+v", got.body, l.github.given)
	}
	if l.store.Masked("a ghp_not-to-be-seen b") != "a **** b" {
		t.Error("the token is not masked from then on")
	}
	l.ask("GET", "/api/v1/github", "").must(t, 200)
	l.ask("DELETE", "/api/v1/github", "").must(t, 204)
	l.ask("GET", "/api/v1/github", "").must(t, 404)
	l.problem("PUT", "/api/v1/github", `{"kind":"cookie"}`, 400)
}

func TestDeliveries(t *testing.T) {
	l := newLab(t)
	for i := range 3 {
		if _, err := l.store.ReceiveDelivery(t.Context(), store.Delivery{GUID: fmt.Sprint(i), Event: "push", Body: []byte("{}"), Outcome: "ignored"}); err != nil {
			t.Fatal(err)
		}
	}
	var deliveries []store.Delivery
	l.ask("GET", "/api/v1/github/deliveries?limit=2", "").must(t, 200).into(t, &deliveries)
	if len(deliveries) != 2 || deliveries[0].GUID != "2" {
		t.Errorf("%+v", deliveries)
	}
	l.ask("GET", "/api/v1/github/deliveries?limit=201", "").must(t, 400)
}

// A delivery is larger than what the API takes, and comes from elsewhere.
func TestWebhookIsHandedOn(t *testing.T) {
	l := newLab(t)
	body := `{"filler":"` + strings.Repeat("x", 3<<20) + `"}`
	request := l.request("POST", "/webhooks/github", body)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	l.send(request).must(t, http.StatusAccepted)
	if l.github.received != int64(len(body)) {
		t.Errorf("it got %d bytes", l.github.received)
	}
}

func TestSetupPage(t *testing.T) {
	l := newLab(t)
	l.base = "https://shipgate.example.com"
	var setup struct{ URL string }
	l.ask("POST", "/api/v1/github/setup", `{"account":"octo","api_url":"https://ghe.example.com/api/v3"}`).must(t, 200).into(t, &setup)
	address, found := strings.CutPrefix(setup.URL, l.base)
	if !found {
		t.Fatalf("it is at %s", setup.URL)
	}
	b := l.browser("")
	got := b.get(address).must(t, 200)
	if !strings.Contains(got.body, `action="https://github.com/settings/apps/new?state=`) || strings.Contains(got.body, "<b>") || !strings.Contains(got.body, " octo;") {
		t.Errorf("the form: %s", got.body)
	}
	if policy := got.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action https://github.com;") {
		t.Errorf("the policy: %s", policy)
	}
	b.get(address+"&code=wrong").must(t, 404)
	done := b.get(address+"&code=right").must(t, 200)
	if !strings.Contains(done.body, "https://github.com/apps/shipgate-test/installations/new") || l.github.given.APIURL != "https://ghe.example.com/api/v3" {
		t.Errorf("%s, %+v", done.body, l.github.given)
	}
	b.get(address+"&code=right").must(t, 404)
	l.problem("POST", "/api/v1/github/setup", `{"account":"a/b"}`, 400)
}

func TestSetupStates(t *testing.T) {
	l := newLab(t)
	s := &server{Options{Store: l.store}}
	old, err := s.signedState(setupState{Expires: time.Now().Add(-time.Second).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.signedState(setupState{Expires: time.Now().Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]string{
		"none": "", "old": old, "changed": "e30" + good, "unmarked": strings.Split(good, ".")[0], "other mark": "e30." + l.store.Sign("page", "e30"),
	} {
		for _, code := range []string{"", "&code=right"} {
			got := l.browser("").get("/setup/github?state=" + url.QueryEscape(state) + code)
			if got.status != 400 || !strings.Contains(got.body, "shipgate github connect") {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
	}
	if l.github.connection != nil {
		t.Error("it is connected")
	}
}

func TestContainerLogIsMasked(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.advance(l.enqueue("hello"), store.StepDone)
	l.ask("PATCH", "/api/v1/apps/hello/env", `{"set":{"KEY":"secret-of-the-app"}}`).must(t, 200)
	l.store.Hide("secret-of-the-server")
	l.logs = writeLines("a secret-of-the-app b env-of-the-release c secret-of-the-server d")
	if got := l.ask("GET", "/api/v1/apps/hello/logs", "").must(t, 200); got.body != "a **** b **** c **** d\n" {
		t.Errorf("%q", got.body)
	}
}

// What others write stays text.
func TestPagesEscape(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	if _, err := l.store.Enqueue(t.Context(), store.NewDeployment{App: "hello", Trigger: store.TriggerPush, SHA: firstCommit, Subject: `<script>alert(1)</script>`}); err != nil {
		t.Fatal(err)
	}
	d, _, err := l.store.Claim(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	l.line(d, "\x1b[31m<img src=x onerror=alert(2)>\x1b[0m\x1b]8;;http://evil.example\x07 10 percent\r\x1b[2K20 percent \u202egpj")
	b := l.browser(l.session(l.admin, time.Hour))
	got := b.get(fmt.Sprintf("/deployments/%d", d.ID)).must(t, 200)
	for _, raw := range []string{"<script>alert", "<img", "\x1b", "evil.example", "\u202e", "10 percent"} {
		if strings.Contains(got.body, raw) {
			t.Errorf("%q is on the page", raw)
		}
	}
	for _, text := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", "20 percent gpj"} {
		if !strings.Contains(got.body, text) {
			t.Errorf("%q is not on the page", text)
		}
	}
}

// The buttons do what they say, and lead to the page of what they began.
func TestButtons(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	first := l.advance(l.enqueue("hello"), store.StepDone)
	second := l.advance(l.enqueue("hello"), store.StepDone)
	b := l.browser(l.session(l.token(store.Token{Rights: store.Rights{store.RightDeploy}, App: "hello"}), time.Hour))
	page := func(d store.Deployment) string { return fmt.Sprintf("/deployments/%d", d.ID) }
	if got := b.get(page(first)); !strings.Contains(got.body, "Go back to this version") || !strings.Contains(got.body, "replaced by") {
		t.Errorf("a version from before: %s", got.body)
	}
	if got := b.get(page(second)); !strings.Contains(got.body, fmt.Sprintf("Roll back to %d", first.ID)) || !strings.Contains(got.body, "serves now") {
		t.Errorf("the live version: %s", got.body)
	}
	b.post(page(second)+"/rollback", "to", "99").must(t, 400)
	b.post(page(second)+"/rollback", "to", "0").must(t, 400)
	back := b.post(page(second)+"/rollback", "to", fmt.Sprint(first.ID)).must(t, 303)
	if back.header.Get("Location") != fmt.Sprintf("/deployments/%d", second.ID+1) {
		t.Errorf("it leads to %s", back.header.Get("Location"))
	}
	waiting := back.header.Get("Location")
	if got := b.get(waiting); !strings.Contains(got.body, "Cancel deployment") {
		t.Errorf("it waits: %s", got.body)
	}
	b.post(waiting+"/cancel").must(t, 303)
	if got := b.get(waiting); !strings.Contains(got.body, "cancelled before it started") || strings.Contains(got.body, "Cancel deployment") {
		t.Errorf("cancelled: %s", got.body)
	}
	b.post(waiting+"/cancel").must(t, 409)
	var overview []overviewRow
	if got := b.get("/").must(t, 200); !strings.Contains(got.body, "hello") || json.Unmarshal([]byte(got.body), &overview) == nil {
		t.Errorf("overview: %s", got.body)
	}
}
