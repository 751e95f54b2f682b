package web

import (
	"bufio"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestPicture(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(second int) time.Time { return begun.Add(time.Duration(second) * time.Second) }
	reached := func(steps ...store.Step) map[store.Step]time.Time {
		times := map[store.Step]time.Time{}
		for i, step := range steps {
			times[step] = at(i + 2)
		}
		return times
	}
	blue, gap := store.BlueGreen, store.Recreate
	for name, test := range map[string]struct {
		strategy store.Strategy
		started  bool
		verdict  store.Verdict
		times    map[store.Step]time.Time
		want     string
	}{
		"waiting":          {blue, false, "", nil, "wait:current"},
		"superseded":       {blue, false, store.Superseded, nil, "wait:stopped"},
		"building":         {blue, true, "", nil, "wait:done build:current start:pending gate:pending route:pending live:pending drain:pending"},
		"starting":         {blue, true, "", reached(store.StepBuilt), "wait:done build:done start:current gate:pending route:pending live:pending drain:pending"},
		"draining":         {blue, true, store.Succeeded, reached(store.StepBuilt, store.StepStarted, store.StepHealthy, store.StepRouted, store.StepLive), "wait:done build:done start:done gate:done route:done live:done drain:current"},
		"done":             {blue, true, store.Succeeded, reached(store.StepBuilt, store.StepStarted, store.StepHealthy, store.StepRouted, store.StepLive, store.StepDone), "wait:done build:done start:done gate:done route:done live:done drain:done"},
		"build failed":     {blue, true, store.Failed, reached(store.StepUndone), "wait:done build:broken start:pending gate:pending route:pending live:pending drain:pending"},
		"start is undone":  {blue, true, store.Failed, reached(store.StepBuilt, store.StepUndoing), "wait:done build:done start:broken gate:pending route:pending live:pending drain:pending undo:current"},
		"gate cancelled":   {blue, true, store.Cancelled, reached(store.StepBuilt, store.StepStarted, store.StepUndoing, store.StepUndone), "wait:done build:done start:done gate:stopped route:pending live:pending drain:pending undo:done"},
		"gate was undone":  {blue, true, store.Failed, reached(store.StepBuilt, store.StepStarted, store.StepUndoing, store.StepUndone), "wait:done build:done start:done gate:broken route:pending live:pending drain:pending undo:done"},
		"hold under way":   {gap, true, "", reached(store.StepBuilt), "wait:done build:done hold:current stop:pending start:pending gate:pending route:pending live:pending drain:pending"},
		"stop was undone":  {gap, true, store.Errored, reached(store.StepBuilt, store.StepHeld, store.StepUndoing, store.StepUndone), "wait:done build:done hold:done stop:broken start:pending gate:pending route:pending live:pending drain:pending undo:done"},
		"route under way":  {blue, true, "", reached(store.StepBuilt, store.StepStarted, store.StepHealthy), "wait:done build:done start:done gate:done route:current live:pending drain:pending"},
		"rollback started": {blue, true, "", reached(store.StepBuilt), "wait:done build:done start:current gate:pending route:pending live:pending drain:pending"},
	} {
		d := store.Deployment{Strategy: test.strategy, Verdict: test.verdict, CreatedAt: begun, FinishedAt: at(1)}
		if test.started {
			d.StartedAt = at(1)
		}
		var got []string
		for _, one := range picture(d, test.times, at(60)) {
			got = append(got, one.Name+":"+one.State)
			if drawn := one.Took != "" && one.Width != "" && one.Left != ""; drawn != (one.State != "pending") {
				t.Errorf("%s: %+v", name, one)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %s, want %s", name, strings.Join(got, " "), test.want)
		}
	}
}

// A picture ends where its deployment did, and a bar starts where the one before it ends.
func TestPictureIsToScale(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := store.Deployment{Strategy: store.BlueGreen, CreatedAt: begun, StartedAt: begun.Add(10 * time.Second), Verdict: store.Failed}
	stages := picture(d, map[store.Step]time.Time{store.StepBuilt: begun.Add(60 * time.Second), store.StepUndone: begun.Add(100 * time.Second)}, begun.Add(time.Hour))
	for i, want := range []stage{{Took: "10.0 s", Left: "0.00", Width: "10.00"}, {Took: "50.0 s", Left: "10.00", Width: "50.00"}, {Took: "40.0 s", Left: "60.00", Width: "40.00"}} {
		if got := stages[i]; got.Took != want.Took || got.Left != want.Left || got.Width != want.Width {
			t.Errorf("%d: %+v, want %+v", i, got, want)
		}
	}
}

func TestOverviewShowsWhatTheTokenMaySee(t *testing.T) {
	l := newLab(t)
	for _, app := range []string{"fresh", "serves", "breaks"} {
		l.createApp(app)
	}
	serving := l.advance(l.enqueue("serves"), store.StepDone)
	l.enqueue("breaks")
	all := l.browser(l.session(l.admin, time.Hour)).get("/").must(t, 200)
	for _, text := range []string{"fresh", "none yet", "nothing serves", "http://serves.localhost", "running", "succeeded", fmt.Sprintf("/deployments/%d", serving.ID), firstCommit[:7]} {
		if !strings.Contains(all.body, text) {
			t.Errorf("%q is not there: %s", text, all.body)
		}
	}
	one := l.browser(l.session(l.token(store.Token{Rights: store.Rights{store.RightRead}, App: "serves"}), time.Hour)).get("/").must(t, 200)
	if !strings.Contains(one.body, "serves.localhost") || strings.Contains(one.body, "fresh") || strings.Contains(one.body, "breaks") {
		t.Errorf("a token of one app sees %s", one.body)
	}
}

func TestCommitLink(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	b, page := l.browser(l.session(l.admin, time.Hour)), fmt.Sprintf("/deployments/%d", d.ID)
	link := `href="https://github.com/octo/hello/commit/` + firstCommit + `"`
	if strings.Contains(b.get(page).body, "/commit/") {
		t.Error("a link without a repository")
	}
	l.ask("PATCH", "/api/v1/apps/hello", `{"config":{"repo_owner":"octo","repo_name":"hello"}}`).must(t, 200)
	if strings.Contains(b.get(page).body, "/commit/") {
		t.Error("a link without a forge")
	}
	l.github.connection = &store.ForgeConnection{WebURL: "https://github.com"}
	built, err := l.store.Enqueue(t.Context(), store.NewDeployment{App: "hello", Trigger: store.TriggerAPI, SHA: secondCommit, BuiltFrom: firstCommit})
	uploaded := b.get(fmt.Sprintf("/deployments/%d", built.ID)).body
	if err != nil || !strings.Contains(uploaded, link+`><code>`+firstCommit[:7]+`</code>`) || !strings.Contains(uploaded, `<code>`+secondCommit[:7]+`</code> built from`) {
		t.Errorf("no link to the commit that an upload was built from: %v\n%s", err, uploaded)
	}
	if !strings.Contains(b.get(page).body, link) {
		t.Error("no link to the commit")
	}
}

func TestPageShowsTheEndOfALongLog(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	lines := make([]store.Event, shownLines+50)
	for i := range lines {
		lines[i] = store.Event{Kind: "build", Text: fmt.Sprintf("line %05d.", i)}
	}
	if err := l.store.Log(t.Context(), d.ID, lines...); err != nil {
		t.Fatal(err)
	}
	b, page := l.browser(l.session(l.admin, time.Hour)), fmt.Sprintf("/deployments/%d", d.ID)
	got := b.get(page).must(t, 200).body
	if n := strings.Count(got, "<li "); n != shownLines || strings.Contains(got, "line 00049.") || !strings.Contains(got, "line 00050.") || !strings.Contains(got, "line 02049.") || !strings.Contains(got, "earlier ones are in the plain text") {
		t.Errorf("%d lines are on the page", n)
	}
	if text := b.get(page+"/log").must(t, 200).body; !strings.Contains(text, "line 00000.") || !strings.Contains(text, "line 02049.") {
		t.Error("the plain text is cut")
	}
}

// Every page is a tree: what is opened is closed, in order.
func TestPagesAreWellFormed(t *testing.T) {
	l := newLab(t)
	l.base = "https://shipgate.example.com"
	l.createApp("hello")
	first := l.advance(l.enqueue("hello"), store.StepDone)
	second := l.advance(l.enqueue("hello"), store.StepDone)
	third := l.enqueue("hello")
	l.line(third, "<a & b>")
	var setup struct{ URL string }
	l.ask("POST", "/api/v1/github/setup", `{}`).must(t, 200).into(t, &setup)
	address := strings.TrimPrefix(setup.URL, l.base)
	in := l.browser(l.session(l.admin, time.Hour))
	page := func(d store.Deployment) string { return fmt.Sprintf("/deployments/%d", d.ID) }
	for _, path := range []string{"/", "/login", page(first), page(second), page(third), page(third) + "/summary", "/nothing", address, address + "&code=right"} {
		if err := balanced(in.get(path).body); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := balanced(l.browser("").post("/login", "token", "wrong").body); err != nil {
		t.Error(err)
	}
}

// balanced holds HTML to the rules of XML, apart from the elements that have no end tag and attributes without a value.
func balanced(page string) error {
	reader := xml.NewDecoder(strings.NewReader(regexp.MustCompile(`(?i)<!doctype html>`).ReplaceAllString(page, "")))
	reader.Strict, reader.AutoClose, reader.Entity = false, []string{"meta", "link", "input"}, xml.HTMLEntity
	var open []string
	for {
		token, err := reader.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if !slices.Contains(reader.AutoClose, token.Name.Local) {
				open = append(open, token.Name.Local)
			}
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != token.Name.Local {
				return fmt.Errorf("</%s> closes %v", token.Name.Local, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) != 0 {
		return fmt.Errorf("%v stay open", open)
	}
	return nil
}

// followPage reads the stream of a page.
func (b *browser) followPage(path, lastEventID string) *sse {
	b.l.t.Helper()
	ctx, cancel := context.WithTimeout(b.l.t.Context(), deadline)
	b.l.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", b.l.url+path, nil)
	if err != nil {
		b.l.t.Fatal(err)
	}
	request.Header.Set("Last-Event-ID", lastEventID)
	request.AddCookie(&http.Cookie{Name: sessionCookie, Value: b.cookie})
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.l.t.Fatal(err)
	}
	b.l.t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != 200 {
		b.l.t.Fatalf("%s: %s", path, response.Status)
	}
	return &sse{t: b.l.t, lines: bufio.NewScanner(response.Body), close: cancel}
}

func TestPageStreamResumes(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	d := l.enqueue("hello")
	l.line(d, "the first")
	l.line(d, "the second")
	b, path := l.browser(l.session(l.admin, time.Hour)), fmt.Sprintf("/deployments/%d/events", d.ID)
	first := b.followPage(path, "").line("the first")
	if next, _ := b.followPage(path+"?after=0", first.id).next(); !strings.Contains(next.data, "the second") {
		t.Errorf("after the first comes %+v", next)
	}
	if next, _ := b.followPage(path+"?after="+first.id, "").next(); !strings.Contains(next.data, "the second") {
		t.Errorf("after the first comes %+v", next)
	}
}

// What opens a stream closes it too: a token that is revoked, and an app that shows its pages no more.
func TestStreamEndsWithItsRight(t *testing.T) {
	l := newLabBeating(t, 10*time.Millisecond)
	l.createApp("hello")
	l.publish("hello", true)
	d := l.enqueue("hello")
	path := fmt.Sprintf("/deployments/%d/events", d.ID)
	secret, token, err := l.store.CreateToken(t.Context(), store.Token{Rights: store.Rights{store.RightRead}})
	if err != nil {
		t.Fatal(err)
	}
	ofAPI := l.follow(d.ID, "")
	bySession := l.browser(l.session(secret, time.Hour)).followPage(path, "")
	byKey := l.browser("").followPage(path+"?key="+l.store.PageKey(d.ID), "")
	for _, revoke := range []struct {
		stream *sse
		now    func()
	}{
		{bySession, func() {
			if err := l.store.RevokeToken(t.Context(), token.ID); err != nil {
				t.Fatal(err)
			}
		}},
		{byKey, func() { l.publish("hello", false) }},
		{ofAPI, func() {
			admin, _ := l.store.Authenticate(t.Context(), l.admin)
			if err := l.store.RevokeToken(t.Context(), admin.ID); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		revoke.now()
		for _, more := revoke.stream.next(); more; _, more = revoke.stream.next() {
		}
		if err := revoke.stream.lines.Err(); err != nil {
			t.Errorf("the stream does not end: %v", err)
		}
	}
}

// The number of a revoked token may be given to the next one: the session of the first opens nothing.
func TestSessionOfANumberThatIsUsedAgain(t *testing.T) {
	l := newLab(t)
	_, first, err := l.store.CreateToken(t.Context(), store.Token{Rights: store.Rights{store.RightRead}})
	if err != nil {
		t.Fatal(err)
	}
	cookie := (&server{Options{Store: l.store}}).sealSession(first, time.Now().Add(time.Hour))
	l.browser(cookie).get("/").must(t, 200)
	if err := l.store.RevokeToken(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	_, second, err := l.store.CreateToken(t.Context(), store.Token{Rights: store.Rights{store.RightAdmin}})
	if err != nil {
		t.Fatal(err)
	}
	if second.ID != first.ID {
		t.Fatalf("the number %d is not used again, but %d: this test shows nothing", first.ID, second.ID)
	}
	l.browser(cookie).get("/").must(t, 401)
}

// Secrets that became known after a line was written are masked where it is shown.
func TestPagesAreMasked(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.publish("hello", true)
	d := l.enqueue("hello")
	l.line(d, "before secret-of-the-server after")
	l.store.Hide("secret-of-the-server")
	b, page := l.browser(l.session(l.admin, time.Hour)), fmt.Sprintf("/deployments/%d", d.ID)
	for _, path := range []string{page, page + "/log"} {
		if got := b.get(path).must(t, 200).body; strings.Contains(got, "secret-of") || !strings.Contains(got, "before **** after") {
			t.Errorf("%s shows %s", path, got)
		}
	}
	if event := b.followPage(page+"/events", "").line("before"); strings.Contains(event.data, "secret-of") {
		t.Errorf("%+v", event)
	}
}

// A reader with a key sees one deployment: no env, no buttons, no way to others.
func TestWhatAKeyShows(t *testing.T) {
	l := newLab(t)
	l.createApp("hello")
	l.ask("PATCH", "/api/v1/apps/hello/env", `{"set":{"NAME_OF_ENV":"value-of-env"}}`).must(t, 200)
	l.publish("hello", true)
	l.advance(l.enqueue("hello"), store.StepDone)
	d := l.advance(l.enqueue("hello"), store.StepDone)
	l.advance(l.enqueue("hello"), store.StepDone)
	page := fmt.Sprintf("/deployments/%d", d.ID)
	query := "?key=" + l.store.PageKey(d.ID)
	for _, path := range []string{page + query, page + "/summary" + query} {
		got := l.browser("").get(path).must(t, 200).body
		for _, secret := range []string{"NAME_OF_ENV", "value-of-env", "env-of-the-release", "<form", "<button"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s shows %s", path, secret)
			}
		}
		for _, link := range regexp.MustCompile(`href="/deployments/([^"]*)"`).FindAllStringSubmatch(got, -1) {
			if !strings.HasPrefix(link[0], `href="`+page+"/log") {
				t.Errorf("%s leads to %s", path, link[0])
			}
		}
	}
}
