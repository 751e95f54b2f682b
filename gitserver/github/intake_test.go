package github

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestOwnPayloads(t *testing.T) {
	const unclear = "ignored: the push event cannot be understood"
	for file, want := range map[string]struct{ outcome, shas, subject string }{
		"push.branch_update":                    {"web: deployment 1", "b:webhook", "Add search"},
		"push.first":                            {"web: deployment 1", "a:webhook", "Add search"},
		"push.forced":                           {"web: deployment 1", "b:webhook", "Add search"},
		"push.new_branch_at_existing_commit":    {"web: topic is not its deploy branch, which is main", "", ""},
		"push.deploy_branch_at_existing_commit": {"web: deployment 1", "a:webhook", "Add search"},
		"push.tag":                              {"tag v1.0.0: tags do not deploy", "", ""},
		"push.tag_deleted":                      {"tag v1.0.0: tags do not deploy", "", ""},
		"push.branch_deleted":                   {"web: main was deleted; what is live stays", "", ""},
		"push.other_branch_deleted":             {"web: topic is not its deploy branch, which is main", "", ""},
		"push.skipped":                          {"web: skipped: the commit says [skip ci]", "", ""},
		"push.custom_properties":                {"web: deployment 1", "b:webhook", "Add search"},
		"push.pushed_at_text":                   {"web: deployment 1", "b:webhook", "Add search"},
		"push.like_gogs":                        {"web: deployment 1", "b:webhook", "Add search"},
		"push.elsewhere":                        {"no app follows octo/other", "", ""},
		"repository.renamed":                    {"the repository is octo/hi now, and followed there by web", "", ""},
		"repository.transferred":                {"the repository is mona/hello now, and followed there by web", "", ""},
		"repository.privatized":                 {"ignored: the repository keeps its name", "", ""},
		"ping.repository":                       {"pong", "", ""},
		"ping.organization":                     {"pong", "", ""},
		"star.created":                          {"ignored: nothing here depends on star events", "", ""},
		`push={`:                                {unclear, "", ""},
		`push=null`:                             {unclear, "", ""},
		`push={"ref":"refs/heads/main"}`:        {unclear, "", ""},
		`push={"ref":"main","after":"` + shaA + `","repository":{"full_name":"octo/hello"}}`:            {unclear, "", ""},
		`push={"ref":"refs/heads/main","after":"../x","repository":{"full_name":"octo/hello"}}`:         {unclear, "", ""},
		`push={"ref":"refs/heads/main","after":"` + shaA + `","repository":{"full_name":"../../user"}}`: {unclear, "", ""},
		`push={"ref":"refs/heads/a\nb","after":"` + shaA + `","repository":{"full_name":"octo/hello"}}`: {unclear, "", ""},
		`repository={"action":"renamed"}`: {"ignored: the repository event cannot be understood", "", ""},
		`repository={"action":"renamed","repository":{"id":4242,"full_name":"octo/hello"}}`:                 {"ignored: the repository event cannot be understood", "", ""},
		`push={"ref":"refs/heads/main","after":"` + shaA + `","repository":{"id":-1,"full_name":"O/none"}}`: {"no app follows O/none", "", ""},
	} {
		t.Run(file, func(t *testing.T) {
			d := newDepot(t).start()
			d.app("web")
			event, body, literal := strings.Cut(file, "=")
			content := []byte(body)
			if !literal {
				var err error
				event, _, _ = strings.Cut(file, ".")
				content, err = os.ReadFile(filepath.Join("testdata", "webhooks", file+".json"))
				d.check(err)
			}
			if got := d.outcome(event, asOfNow(content)); got != want.outcome && (!strings.HasPrefix(got, want.outcome+": ") || !strings.HasPrefix(want.outcome, "ignored")) {
				t.Errorf("outcome %q, want %q", got, want.outcome)
			}
			d.wants("deployments", d.shas("web"), want.shas)
			if want.shas == "" {
				return
			}
			one := d.deployments("web")[0]
			d.wants("subject", one.Subject, want.subject)
			d.wants("ref", one.Ref, mainRef)
			d.wants("updates", fmt.Sprint(one.Updates), fmt.Sprint([]store.RefUpdate{{Name: mainRef, New: one.SHA}}))
		})
	}
}

// Those who renamed a repository go on pushing to it.
func TestAppsMoveWithTheirRepository(t *testing.T) {
	d := newDepot(t).start()
	d.app("web")
	renamed, err := os.ReadFile("testdata/webhooks/repository.renamed.json")
	d.check(err)
	d.wants("renamed", d.outcome("repository", renamed), "the repository is octo/hi now, and followed there by web")
	d.wants("renamed again", d.outcome("repository", renamed), "no app follows octo/hello")
	under := func(name, before, after string, second int64) string {
		return d.outcome("push", []byte(strings.Replace(string(pushed(mainRef, before, after, second, "x")), "octo/hello", name, 1)))
	}
	d.wants("push", under("octo/hi", shaA, shaB, 100), "web: deployment 1")
	d.wants("push to a name not told of", under("mona/hi", shaB, shaC, 101),
		"the repository is mona/hi now, and followed there by web; web: deployment 2")
}

// A delivery under a name that the repository has had no more for long is a push to it all the same, and moves no app back.
func TestALatePushUnderAnOldName(t *testing.T) {
	d := newDepot(t).start()
	d.following("web", store.Repository{Owner: "octo", Name: "hi"})
	under := func(name, before, after string, second int64) string {
		return d.outcome("push", []byte(strings.Replace(string(pushed(mainRef, before, after, second, "x")), "octo/hello", name, 1)))
	}
	d.wants("under the new name", under("octo/hi", shaB, shaC, 101), "web: deployment 1")
	d.wants("an older one, late", under("octo/hello", shaA, shaB, 100), "web: overtaken by a newer push")
	d.wants("a newer one", under("octo/hi", shaC, shaD, 102), "web: deployment 2")
	d.wants("renamed back", under("octo/hello", shaD, shaA, 103), "the repository is octo/hello now, and followed there by web; web: deployment 3")
	d.wants("without a time", under("octo/hi", shaA, shaB, 0), "web: deployment 4") // as of its receipt, which was before
}

func TestAPushBeforeTheRenamingIsNoNews(t *testing.T) {
	d := newDepot(t).start()
	d.app("web")
	renamed, err := os.ReadFile("testdata/webhooks/repository.renamed.json")
	d.check(err)
	d.wants("renamed", d.outcome("repository", renamed), "the repository is octo/hi now, and followed there by web")
	body := fmt.Appendf(nil, `{"ref":%q,"before":%q,"after":%q,"head_commit":{"id":%q},"repository":{"id":4242,"full_name":"octo/hello","pushed_at":%d}}`,
		mainRef, shaA, shaB, shaB, time.Now().Add(-time.Hour).Unix())
	d.wants("pushed before", d.outcome("push", body), "web: pushed before the app was made; shipgate deploy web deploys it")
	apps, err := d.store.AppsOf(t.Context(), store.Repository{Owner: "octo", Name: "hi"})
	if d.check(err); len(apps) != 1 {
		t.Error("the app has moved back")
	}
}

func TestRealPayloads(t *testing.T) {
	const dir = "../../../shared/data/webhooks"
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) == 0 {
		t.Logf("NOTE: no recorded payloads are at %s; only those of testdata were tried", dir)
		return
	}
	ignored := func(event string) string { return "ignored: nothing here depends on " + event + " events" }
	want := map[string]string{
		"push.tag_deleted":                 "tag simple-tag: tags do not deploy",
		"push.tag_created":                 "tag v0.0.1: tags do not deploy",
		"push.branch_created.installation": "web: deployment 1",
		"push.branch_created":              "web: deployment 1",
		"push.branch_update":               "web: deployment 1",
		"push.branch_deleted":              "was deleted; what is live stays",
		"ping.repo_hook":                   "pong", "ping.app": "pong",
		"pull_request.opened": ignored("pull_request"), "pull_request.synchronize": ignored("pull_request"), "pull_request.closed": ignored("pull_request"),
		"installation.created": "told once more", "installation_repositories.added": "told once more",
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := newDepot(t).start()
			var p pushPayload
			if json.Unmarshal(body, &p) == nil && strings.HasPrefix(p.Ref, "refs/") {
				repository, err := repositoryOf(p.Repository.FullName)
				d.check(err)
				d.following("web", repository, fmt.Sprintf(`"branch":%q`, shortRef(p.Ref)))
			}
			event, _, _ := strings.Cut(name, ".")
			got := d.outcome(event, asOfNow(body))
			if want[name] == "" || !strings.HasSuffix(got, want[name]) {
				t.Errorf("outcome %q, want %q", got, want[name])
			}
			if strings.HasPrefix(want[name], "web: deployment") {
				one := d.deployments("web")[0]
				if one.SHA != p.After || one.Subject == "" || one.Ref != p.Ref {
					t.Errorf("deployment %+v", one)
				}
			}
		})
	}
}

func TestAReplayChangesNothing(t *testing.T) {
	d := newDepot(t).start()
	d.app("web")
	body := pushed(mainRef, shaA, shaB, 100, "x")
	d.wants("first", d.outcome("push", body), "web: deployment 1")
	d.wants("the same GUID", strings.TrimSpace(d.post("guid-1", "push", body).Body.String()), `{"status":"duplicate"}`)
	d.wants("another GUID", d.outcome("push", body), "web: received before: deployment 1")
	d.finish("web", store.Failed)
	d.wants("after it failed", d.outcome("push", body), "web: received before: deployment 1")
	d.wants("deployments", d.shas("web"), "b:webhook")
	posts, err := d.store.Posts(t.Context(), 1)
	if d.check(err); len(posts) != 2 {
		t.Errorf("told of %d times, want as pending and as failed: %+v", len(posts), posts)
	}
}

func TestPushesOutOfOrder(t *testing.T) {
	const overtaken = "web: overtaken by a newer push"
	for name, test := range map[string]struct {
		head   store.Head
		before string
		second int64
		remote string
		want   string
	}{
		"continues":                                 {store.Head{SHA: shaA, PushedAt: at(100)}, shaA, 101, "", "web: deployment 1"},
		"continues within the second":               {store.Head{SHA: shaA, PushedAt: at(100)}, shaA, 100, "", "web: deployment 1"},
		"older":                                     {store.Head{SHA: shaC, PushedAt: at(100)}, shaA, 99, shaB, overtaken},
		"older, and as if it continued":             {store.Head{SHA: shaC, PushedAt: at(100)}, shaC, 99, shaB, overtaken},
		"newer, with one missed":                    {store.Head{SHA: shaC, PushedAt: at(100)}, shaA, 101, shaD, "web: deployment 1"},
		"the same second, and another is there now": {store.Head{SHA: shaC, PushedAt: at(100)}, shaA, 100, shaC, overtaken},
		"the same second, and it is there now":      {store.Head{SHA: shaC, PushedAt: at(100)}, shaA, 100, shaB, "web: deployment 1"},
		"later than what was caught up":             {store.Head{SHA: shaC}, shaA, 100, shaB, "web: deployment 1"},
		"before what was caught up":                 {store.Head{SHA: shaC}, shaA, 100, shaC, overtaken},
		"without a time":                            {store.Head{SHA: shaC, PushedAt: at(100)}, shaA, 0, shaC, overtaken},
		"only seen there":                           {store.Head{SHA: shaB}, shaA, 100, shaB, "web: deployment 1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDepot(t)
			d.app("web")
			test.head.App, test.head.Branch = "web", mainRef
			d.check(d.store.SetHead(t.Context(), test.head))
			d.forge.heads[mainRef] = test.remote
			d.start()
			d.wants("outcome", d.outcome("push", pushed(mainRef, test.before, shaB, test.second, "x")), test.want)
			head, _, err := d.store.Head(t.Context(), "web", mainRef)
			if d.check(err); (head.SHA == shaB) != (test.want != overtaken) {
				t.Errorf("the head is %+v", head)
			}
		})
	}
}

// A branch goes to another commit and back, and the second push is delivered first.
func TestToAndFroOutOfOrder(t *testing.T) {
	d := newDepot(t)
	d.app("web")
	d.start()
	d.wants("first", d.outcome("push", pushed(mainRef, shaC, shaA, 100, "x")), "web: deployment 1")
	d.wants("back", d.outcome("push", pushed(mainRef, shaB, shaA, 102, "x")), "web: received before: deployment 1")
	d.wants("forth", d.outcome("push", pushed(mainRef, shaA, shaB, 101, "x")), "web: overtaken by a newer push")
}

// A commit that was pushed to this server before it was pushed to GitHub is deployed once, and GitHub is told of it.
func TestPushedHereBefore(t *testing.T) {
	direct := func(d *depot, sha string) {
		_, err := d.store.Enqueue(d.Context(), store.NewDeployment{App: "web", Trigger: store.TriggerPush, SHA: sha, Ref: mainRef})
		d.check(err)
	}
	told := func(d *depot, id int64) int {
		posts, err := d.store.Posts(d.Context(), id)
		d.check(err)
		return len(posts)
	}
	t.Run("live", func(t *testing.T) {
		d := newDepot(t).start()
		d.app("web")
		direct(d, shaB)
		d.finish("web", store.Succeeded)
		due, err := d.store.DuePosts(d.Context(), time.Now(), 10)
		d.check(err)
		for _, post := range due {
			d.check(d.store.EndPost(d.Context(), post, store.Unknown, "GitHub does not know the commit"))
		}
		before := told(d, 1)
		d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "x [skip ci]")), "web: already here: deployment 1")
		d.wants("deployments", d.shas("web"), "b:push")
		if told(d, 1) != before+1 {
			t.Error("nobody is told that it is live")
		}
		d.wants("again", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "x")), "web: received before: deployment 1")
		if told(d, 1) != before+1 {
			t.Error("somebody is told twice")
		}
	})
	t.Run("under way", func(t *testing.T) {
		d := newDepot(t).start()
		d.app("web")
		direct(d, shaB)
		d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "x")), "web: already here: deployment 1")
		d.wants("deployments", d.shas("web"), "b:push")
	})
	t.Run("live, with another one under way", func(t *testing.T) {
		d := newDepot(t).start()
		d.app("web")
		direct(d, shaB)
		d.finish("web", store.Succeeded)
		direct(d, shaC)
		d.wants("outcome", d.outcome("push", pushed(mainRef, shaC, shaB, 100, "Back")), "web: deployment 3")
		one := d.deployments("web")[2]
		d.wants("updates", fmt.Sprint(one.Updates), fmt.Sprint([]store.RefUpdate{{Name: mainRef, Old: shaB, New: shaB}}))
	})
	t.Run("failed", func(t *testing.T) {
		d := newDepot(t).start()
		d.app("web")
		direct(d, shaB)
		d.finish("web", store.Failed)
		d.wants("outcome", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "x")), "web: deployment 2")
	})
}

func TestSkipMarkers(t *testing.T) {
	for message, want := range map[string]string{
		"x [skip ci]": "[skip ci]", "[CI SKIP] x": "[ci skip]", "x\n\n[no ci]": "[no ci]", "x [Skip Deploy]": "[skip deploy]", "[deploy skip]": "[deploy skip]",
		"skip ci": "", "[skip-ci]": "", "": "",
	} {
		if got := skipMarker(message); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
	d := newDepot(t).start()
	d.app("web")
	d.wants("skipped", d.outcome("push", pushed(mainRef, shaA, shaB, 100, "x [no ci]")), "web: skipped: the commit says [no ci]")
	head, known, err := d.store.Head(t.Context(), "web", mainRef)
	if d.check(err); !known || head.SHA != shaB || head.PushedAt != at(100) {
		t.Errorf("received: %+v", head)
	}
	d.wants("the next", d.outcome("push", pushed(mainRef, shaB, shaC, 101, "y")), "web: deployment 1")
}

func TestSubjects(t *testing.T) {
	for message, want := range map[string]string{
		"Add search\n\nBecause.": "Add search", "\n\n  Add\tsearch": "Add search", "a\x1b[31mb\r\nc": "a [31mb", "": "",
		strings.Repeat("ü", 101): strings.Repeat("ü", 99) + "…", strings.Repeat("ü", 100): strings.Repeat("ü", 100),
	} {
		if got := subjectOf(message); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
}
