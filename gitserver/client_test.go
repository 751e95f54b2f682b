package gitserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

func TestOtherRefsAreStored(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	contains(t, c.mustPush("HEAD:refs/heads/feature"), "remote: feature stored; only main deploys")
	c.git("tag", "light")
	c.git("tag", "-a", "-m", "Version 1", "v1.0")
	c.git("tag", "-a", "-m", "A tag of a tag", "v1.0.1", "v1.0")
	contains(t, c.mustPush("--tags"), "v1.0 stored; only main deploys", "[new tag]")
	equal(t, "light tag", r.tip("refs/tags/light"), sha)
	equal(t, "annotated tag", r.tip("refs/tags/v1.0^{commit}"), sha)

	forced := c.commit("Two", "a", "2")
	c.mustPush("HEAD:feature", "HEAD:other/x", "HEAD:refs/notes/review")
	equal(t, "feature", r.tip("refs/heads/feature"), forced)
	c.git("reset", "-q", "--hard", sha)
	rewritten := c.commit("Three", "a", "3")
	if out, ok := c.try("push", "shipgate", "HEAD:feature"); ok {
		t.Errorf("git pushed a rewritten branch without force:\n%s", out)
	}
	contains(t, c.mustPush("--force", "HEAD:feature"), "(forced update)")
	equal(t, "feature", r.tip("refs/heads/feature"), rewritten)

	contains(t, c.mustPush("--delete", "feature", "other/x"), "feature deleted", "[deleted]")
	equal(t, "feature", r.tip("refs/heads/feature"), "")
	heads, err := os.ReadDir(filepath.Join(r.bare(), "refs", "heads"))
	check(t, err)
	equal(t, "directories of deleted refs", len(heads), 0)
	check(t, os.MkdirAll(filepath.Join(r.bare(), "refs", "heads", "other", "deep", "er"), 0o755)) // as native git leaves them
	c.mustPush("HEAD:refs/heads/other")
	c.mustFail("cannot exist beside it", "HEAD:refs/heads/other/y")
	equal(t, "main", r.tip("refs/heads/main"), "")
	deployments, err := r.store.Deployments(t.Context(), testApp, 10)
	check(t, err)
	equal(t, "deployments", len(deployments), 0)
	r.clean()
}

func TestExistingCommitDeploys(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	c.mustPush("HEAD:feature")
	contains(t, c.mustPush("main", "HEAD:refs/heads/also"), "deployment 1", "also stored")
	equal(t, "main", r.tip("refs/heads/main"), sha)
	c.commit("Two", "a", "2")
	c.mustPush("main")
	c.git("reset", "-q", "--hard", sha)
	contains(t, c.mustPush("--force", "main"), "(forced update)", "deployment 3")
	equal(t, "main", r.tip("refs/heads/main"), sha)
	r.clean()
}

func TestDeployBranch(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	contains(t, c.mustPush("HEAD:refs/heads/master"), "deployment 1")
	contains(t, c.mustPush("HEAD:refs/heads/main"), "main stored; only master deploys")
	c.mustFail("master is the branch that deploys, and cannot be deleted", "--delete", "master")
	app, err := r.store.App(t.Context(), testApp)
	check(t, err)
	name, at, err := r.server.DeployBranch(t.Context(), app)
	check(t, err)
	equal(t, "deploy branch", name+" "+at, "refs/heads/master "+sha)
	app.Config = []byte(`{"branch":"production"}`)
	_, err = r.store.UpdateApp(t.Context(), app)
	check(t, err)
	contains(t, c.mustPush("HEAD:refs/heads/production"), "deployment 2")
	c.commit("Two", "a", "2")
	contains(t, c.mustPush("HEAD:refs/heads/master"), "master stored; only production deploys")
	app.Config = []byte(`{"branch":"x.lock"}`)
	_, err = r.store.UpdateApp(t.Context(), app)
	check(t, err)
	c.commit("Three", "a", "3")
	c.mustFail("the app's deploy branch: ", "HEAD:refs/heads/master")
}

func TestAtomic(t *testing.T) {
	r := newRig(t, Limits{})
	w := r.deploy(nil)
	c := r.newClone()
	first := c.commit("One", "a", "1")
	c.mustPush("--atomic", "main", "HEAD:side", "HEAD:refs/tags/v1")
	for _, ref := range []string{"refs/heads/main", "refs/heads/side", "refs/tags/v1"} {
		equal(t, ref, r.tip(ref), first)
	}
	w.become(func(context.Context, store.Deployment) error { return errors.New("it does not build") })
	c.commit("Two", "a", "2")
	out := c.mustFail("main -> main (it does not build)", "--atomic", "main", "HEAD:side", ":refs/tags/v1")
	contains(t, out, "HEAD -> side (it does not build)")
	for _, ref := range []string{"refs/heads/main", "refs/heads/side", "refs/tags/v1"} {
		equal(t, ref, r.tip(ref), first)
	}
	c.mustFail("atomic push failed", "--atomic", "HEAD:side", "HEAD:refs/heads/side/under")
	equal(t, "side", r.tip("refs/heads/side"), first)
	w.become(nil)
	second := c.head()
	c.mustPush("--atomic", "main", "HEAD:side", ":refs/tags/v1")
	equal(t, "side", r.tip("refs/heads/side"), second)
	equal(t, "tag", r.tip("refs/tags/v1"), "")
	r.clean()
}

// A ref that moves with an unfinished deployment is not moved by anyone else meanwhile.
func TestAtomicRefsAreReserved(t *testing.T) {
	r := newRig(t, Limits{})
	building, release := make(chan struct{}), make(chan struct{})
	r.deploy(func(context.Context, store.Deployment) error {
		close(building)
		<-release
		return nil
	})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	pushed := make(chan string)
	go func() {
		out, _ := c.try("push", "--atomic", "shipgate", "main", "HEAD:side")
		pushed <- out
	}()
	<-building
	other := r.newClone()
	other.commit("Other", "b", "1")
	contains(t, other.mustFail("side moves with deployment 1, which has not finished", "HEAD:side"), "hint    push again when it has")
	close(release)
	contains(t, <-pushed, "[new branch]")
	equal(t, "side", r.tip("refs/heads/side"), sha)
}

func TestPushOptions(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "a", "1")
	contains(t, c.mustPush("-o", "nowait", "main"), `note    push option "nowait" is not known, and ignored`, "deployment 1")
}

func TestShallow(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "a", "1")
	c.commit("Two", "a", "2")
	c.mustPush("main")
	shallow := &clone{rig: r, dir: t.TempDir()}
	shallow.git("clone", "-q", "--depth", "1", "file://"+c.dir, "s")
	shallow.dir = filepath.Join(shallow.dir, "s")
	shallow.git("remote", "add", "shipgate", r.url())
	sha := shallow.commit("Three", "b", "3")
	shallow.mustPush("HEAD:main")
	equal(t, "main", r.tip("refs/heads/main"), sha)

	empty := newRig(t, Limits{})
	shallow.git("remote", "set-url", "shipgate", empty.url())
	out := shallow.mustFail("this clone is shallow", "HEAD:main")
	contains(t, out, "hint    git fetch --unshallow, then push again")
	deployments, err := empty.store.Deployments(t.Context(), testApp, 10)
	check(t, err)
	equal(t, "deployments", len(deployments), 0)
	empty.clean()
	shallow.git("fetch", "-q", "--unshallow")
	empty.deploy(nil)
	shallow.mustPush("HEAD:main")
}

// A client that ignores no-thin sends deltas on objects that only the server has.
func TestThinPack(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	base := c.commit("One", "a", numbered(2000, "1"), "b/c", numbered(1000, "1"))
	c.mustPush("main")
	tip := c.commit("Two", "a", numbered(2000, "2"), "b/c", numbered(1000, "2"))
	list := gitCommand(t, c.dir, "pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset")
	list.Stdin = strings.NewReader(tip + "\n^" + base + "\n")
	thin, err := list.Output()
	check(t, err)
	if len(thin) > 2000 {
		t.Fatalf("the pack has %d bytes: it is not thin", len(thin))
	}
	contains(t, r.post(request("refs/heads/main", base, tip)+string(thin)), "unpack ok", "ok refs/heads/main")
	equal(t, "main", r.tip("refs/heads/main"), tip)
	r.clean()
	c.commit("Three", "a", numbered(2000, "3"))
	c.mustPush("main")
	r.clean()
}

const zeroID = "0000000000000000000000000000000000000000"

func packet(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// request is a push of one ref up to its pack.
func request(ref, old, new string) string {
	return packet(old+" "+new+" "+ref+"\x00 report-status side-band-64k object-format=sha1") + "0000"
}

// post sends a raw push and gives the raw answer.
func (r *rig) post(body string) string {
	r.t.Helper()
	status, answer := r.send(strings.NewReader(body), nil)
	equal(r.t, "status", status, http.StatusOK)
	return answer
}

func (r *rig) send(body io.Reader, header map[string]string) (int, string) {
	r.t.Helper()
	post, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.http.URL+"/"+testApp+".git/git-receive-pack", body)
	check(r.t, err)
	post.Header.Set("Authorization", "Bearer "+r.token)
	for name, value := range header {
		post.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(post)
	check(r.t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	check(r.t, err)
	return answer.StatusCode, string(content)
}

func TestHTTPForms(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", numbered(100, ""))
	pack := c.packOf(sha)
	push := func(ref string) string { return request("refs/heads/"+ref, zeroID, sha) + pack }

	equalProbe := func(status int, answer string) {
		t.Helper()
		equal(t, "probe", fmt.Sprint(status, answer), "200")
	}
	equalProbe(r.send(strings.NewReader("0000"), nil))

	var zipped bytes.Buffer
	deflater := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(deflater, push("zipped"))
	check(t, deflater.Close())
	_, answer := r.send(&zipped, map[string]string{"Content-Encoding": "gzip"})
	contains(t, answer, "ok refs/heads/zipped")

	_, answer = r.send(io.MultiReader(strings.NewReader(push("chunked"))), nil)
	contains(t, answer, "ok refs/heads/chunked")
	_, answer = r.send(strings.NewReader(push("expect")), map[string]string{"Expect": "100-continue"})
	contains(t, answer, "ok refs/heads/expect")

	status, answer := r.send(strings.NewReader(push("x")), map[string]string{"Content-Encoding": "br"})
	equal(t, "br", status, http.StatusBadRequest)
	contains(t, answer, `"br" is not known`)
	status, _ = r.send(strings.NewReader("garbage"), nil)
	equal(t, "garbage", status, http.StatusBadRequest)

	c.git("remote", "set-url", "shipgate", r.http.URL+"/"+testApp+".git")
	c.git("-c", "http.extraHeader=Authorization: Bearer "+r.token, "push", "shipgate", "HEAD:bearer")
	equal(t, "bearer", r.tip("refs/heads/bearer"), sha)
	r.clean()
}

// packOf gives a pack of everything that a commit needs.
func (c *clone) packOf(revs ...string) string {
	c.rig.t.Helper()
	list := gitCommand(c.rig.t, c.dir, "pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q")
	list.Stdin = strings.NewReader(strings.Join(revs, "\n") + "\n")
	pack, err := list.Output()
	check(c.rig.t, err)
	return string(pack)
}

func TestAuthorisation(t *testing.T) {
	r := newRig(t, Limits{})
	r.addApp("other", `{}`)
	c := r.newClone()
	c.commit("One", "a", "1")
	at := func(user, app string) string {
		return strings.Replace(r.http.URL, "http://", "http://"+user, 1) + "/" + app + ".git"
	}
	reader, _, err := r.store.CreateToken(t.Context(), store.Token{Name: "reader", App: testApp, Rights: store.Rights{store.RightRead}})
	check(t, err)
	worthless := map[string]string{}
	for name, token := range map[string]store.Token{
		"env": {Rights: store.Rights{store.RightEnv}}, "run": {Rights: store.Rights{store.RightRun}}, "deploy of another": {App: "other", Rights: store.Rights{store.RightDeploy}},
		"expired": {Rights: store.Rights{store.RightAdmin}, ExpiresAt: time.Now().Add(-time.Second)},
	} {
		worthless[name], _, err = r.store.CreateToken(t.Context(), token)
		check(t, err)
	}
	admin, _, err := r.store.CreateToken(t.Context(), store.Token{Name: "admin", Rights: store.Rights{store.RightAdmin}})
	check(t, err)
	for _, test := range []struct{ name, remote, want string }{
		{"no token", at("", testApp), "could not read Username"},
		{"bad token", at("x:nonsense@", testApp), "Authentication failed"},
		{"a reader's token", at("x:"+reader+"@", testApp), "error: 403"},
		{"a token for env", at("x:"+worthless["env"]+"@", testApp), "error: 403"},
		{"a token for run", at("x:"+worthless["run"]+"@", testApp), "error: 403"},
		{"a deploy token of another app", at("x:"+worthless["deploy of another"]+"@", testApp), "error: 403"},
		{"an expired token", at("x:"+worthless["expired"]+"@", testApp), "Authentication failed"},
		{"another app's token", at("x:"+r.token+"@", "other"), "error: 403"},
		{"an unknown app", at("x:"+admin+"@", "nowhere"), "remote: there is no app"},
		{"a bad app name", at("x:"+admin+"@", "..%2f..%2fx"), "remote: there is no app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, ok := c.try("push", test.remote, "main:x")
			equal(t, "pushed", ok, false)
			contains(t, out, test.want)
		})
	}
	c.git("push", "-q", at("x:"+admin+"@", testApp), "main:x")

	body := &readSpy{}
	post, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at("", testApp)+"/git-receive-pack", body)
	check(t, err)
	post.Header.Set("Expect", "100-continue")
	answer, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}).Do(post)
	check(t, err)
	check(t, answer.Body.Close())
	equal(t, "status", answer.StatusCode, http.StatusUnauthorized)
	contains(t, answer.Header.Get("WWW-Authenticate"), "Basic")
	equal(t, "body read", body.read, false)
}

type readSpy struct{ read bool }

func (s *readSpy) Read([]byte) (int, error) {
	s.read = true
	return 0, io.EOF
}

func TestCloneIsRefused(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	for _, version := range []string{"0", "2"} {
		out, ok := c.try("-c", "protocol.version="+version, "fetch", "shipgate")
		equal(t, "fetched", ok, false)
		contains(t, out, "hello is a deploy remote")
	}
}

func TestPreflight(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	r.full.Store(true)
	c.mustFail("the disk has 12 MiB left, and 1024 MiB are needed (shipgate doctor)", "main")
	answer := r.post(request("refs/heads/main", zeroID, sha) + c.packOf(sha))
	contains(t, answer, "ng refs/heads/main the disk has 12 MiB left", "hint    shipgate doctor")
	equal(t, "main", r.tip("refs/heads/main"), "")
	r.clean()
}

func TestPackedRefs(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	c.commit("One", "a", "1")
	c.git("tag", "-a", "-m", "x", "v1")
	c.mustPush("main", "HEAD:side", "v1")
	check(t, gitCommand(t, r.bare(), "pack-refs", "--all", "--prune").Run())
	if _, err := os.Stat(filepath.Join(r.bare(), "refs", "heads", "main")); !os.IsNotExist(err) {
		t.Fatal("the ref was not packed")
	}
	contains(t, c.mustPush("main"), "Everything up-to-date")
	c.mustPush("--delete", "side", "v1")
	equal(t, "side", r.tip("refs/heads/side"), "")
	equal(t, "v1", r.tip("refs/tags/v1"), "")
	sha := c.commit("Two", "a", "2")
	c.mustPush("main")
	equal(t, "main", r.tip("refs/heads/main"), sha)
	r.clean()
}
