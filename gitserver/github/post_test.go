package github

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/shipgate/shipgate/store"
)

func TestDescriptionsFitOneLineOf140Characters(t *testing.T) {
	o := newOffice(t, "")
	o.store.Hide("s3cret-of-ours")
	for _, c := range []struct{ reason, want string }{
		{"build failed\nline 2\ttab\x00nul", "build failed line 2 tab nul"},
		{strings.Repeat("ä", 140), strings.Repeat("ä", 140)},
		{strings.Repeat("ä", 141), strings.Repeat("ä", 139) + "…"},
		{strings.Repeat("😀", 500), strings.Repeat("😀", 139) + "…"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{"", "failed"},
		{"token s3cret-of-ours", "token ****"},
		{strings.Repeat("x", 130) + "s3cret-of-ours", strings.Repeat("x", 130) + "****"},
	} {
		got := o.hub.describe(store.Post{Verdict: store.Failed, Reason: c.reason})
		if got != c.want || utf8.RuneCountInString(got) > longestDescription {
			t.Errorf("%.40q became %q, want %q", c.reason, got, c.want)
		}
	}
	for _, c := range []struct {
		post store.Post
		want string
	}{
		{store.Post{Deployment: 42}, "Deployment 42 is under way"},
		{store.Post{Verdict: store.Succeeded, Host: "a.example.com", Took: 6700 * time.Millisecond}, "Live at https://a.example.com in 6.7 s"},
		{store.Post{Verdict: store.Succeeded, Took: 410 * time.Millisecond}, "Live in 0.41 s"},
		{store.Post{Verdict: store.Succeeded, Host: "*.example.com", Took: time.Minute}, "Live in 60.0 s"},
		{store.Post{Verdict: store.Superseded, Reason: "superseded by deployment 43"}, "superseded by deployment 43"},
	} {
		if got := o.hub.describe(c.post); got != c.want {
			t.Errorf("%+v: %q, want %q", c.post, got, c.want)
		}
	}
}

func TestBackoffDoublesToAQuarterOfAnHour(t *testing.T) {
	for attempts, longest := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 9: 512 * time.Second,
		10: 15 * time.Minute, 1000: 15 * time.Minute} {
		seen := map[time.Duration]bool{}
		for range 100 {
			wait := backoff(attempts)
			seen[wait] = true
			if wait < longest/2 || wait > longest {
				t.Fatalf("attempt %d waits %s, want between %s and %s", attempts, wait, longest/2, longest)
			}
		}
		if len(seen) < 50 {
			t.Errorf("attempt %d: only %d different waits of 100", attempts, len(seen))
		}
	}
}

func TestPublicLogsOpenThePage(t *testing.T) {
	o := newOffice(t, `,"public_logs":true`)
	o.connectApp()
	o.start()
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	o.settled(d)
	if want := fmt.Sprintf("%s/deployments/%d?key=%s", testBase, d.ID, o.store.PageKey(d.ID)); o.fake.Statuses(o.repo)[0].TargetURL != want {
		t.Errorf("page %s, want %s", o.fake.Statuses(o.repo)[0].TargetURL, want)
	}
}

// Reasons come from build logs, and answers from whoever stands where GitHub should.
func FuzzOneLine(f *testing.F) {
	f.Add("build failed\n\x00\xff", 140)
	f.Add(strings.Repeat("😀\u2028", 100), 5)
	f.Fuzz(func(t *testing.T, text string, most int) {
		if most < 1 || most > 1000 {
			return
		}
		line := oneLine(text, most)
		if utf8.RuneCountInString(line) > most || !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n\t\x00\x1b\u0085\u2028\u2029") {
			t.Errorf("%q became %q", text, line)
		}
		if again := oneLine(line, most); again != line && again != strings.TrimSpace(line) {
			t.Errorf("%q became %q, then %q", text, line, again)
		}
	})
}

func FuzzReadMark(f *testing.F) {
	f.Add([]byte(`{"shipgate":{"server":"a","deployment":1}}`))
	f.Add([]byte(`"{\"shipgate\":{\"server\":\"a\",\"deployment\":1}}"`))
	f.Add([]byte(`{"shipgate":7}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if m := readMark(payload); m != (mark{}) && !strings.Contains(strings.ToLower(string(payload)), "ship") && !strings.Contains(string(payload), `\u`) {
			t.Errorf("%q is a mark: %+v", payload, m)
		}
	})
}

func TestMarksAreReadAsObjectAndAsText(t *testing.T) {
	var want mark
	want.Shipgate.Server, want.Shipgate.Deployment = "a", 1
	for payload, m := range map[string]mark{
		`{"shipgate":{"server":"a","deployment":1}}`: want, `"{\"shipgate\":{\"server\":\"a\",\"deployment\":1}}"`: want,
		`{"shipgate":{"server":7,"deployment":1}}`: {}, `""`: {}, `null`: {}, ``: {}, `[]`: {}, `{}`: {},
	} {
		if got := readMark([]byte(payload)); got != m {
			t.Errorf("%s: %+v", payload, got)
		}
	}
}
