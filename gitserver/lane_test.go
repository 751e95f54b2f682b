package gitserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// gate is a build that waits until the test lets it go.
type gate struct {
	reached chan int64
	open    chan struct{}
}

func newGate() *gate { return &gate{reached: make(chan int64, 100), open: make(chan struct{})} }

func (g *gate) build(ctx context.Context, d store.Deployment) error {
	g.reached <- d.ID
	select {
	case <-g.open:
	case <-ctx.Done():
	}
	return nil
}

type pushed struct {
	out string
	ok  bool
}

func (c *clone) startPush(args ...string) <-chan pushed {
	result := make(chan pushed, 1)
	go func() {
		out, ok := c.try(append([]string{"push", "shipgate"}, args...)...)
		result <- pushed{out, ok}
	}()
	return result
}

func (r *rig) deployments() []store.Deployment {
	r.t.Helper()
	all, err := r.store.Deployments(r.t.Context(), testApp, 100)
	check(r.t, err)
	return all
}

// The second push waits and says so. It goes on when it continues what the first one made live.
func TestSecondPushWaits(t *testing.T) {
	r := newRig(t, Limits{})
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	c.commit("One", "a", "1")
	first := c.startPush("main")
	equal(t, "building", <-g.reached, 1)

	other := r.newClone()
	other.git("fetch", "-q", c.dir, "main")
	other.git("reset", "-q", "--hard", "FETCH_HEAD")
	second := other.commit("Two", "a", "2")
	waiting := other.startPush("main")
	waitFor(t, "second deployment", func() bool { return len(r.deployments()) == 2 })
	close(g.open)
	if done := <-first; !done.ok {
		t.Errorf("the first push was refused:\n%s", done.out)
	}
	done := <-waiting
	equal(t, "second push", done.ok, true)
	contains(t, done.out, "deployment 2", "wait    behind deployment 1")
	equal(t, "main", r.tip("refs/heads/main"), second)
}

func TestSecondPushThatDoesNotContinue(t *testing.T) {
	r := newRig(t, Limits{})
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	first := c.startPush("main")
	<-g.reached
	other := r.newClone()
	other.commit("Elsewhere", "b", "1")
	waiting := other.startPush("main")
	waitFor(t, "second deployment", func() bool { return len(r.deployments()) == 2 })
	close(g.open)
	equal(t, "first push", (<-first).ok, true)
	done := <-waiting
	equal(t, "second push", done.ok, false)
	contains(t, done.out, "[remote rejected] main -> main (main moved to "+sha[:7]+" while deployment 2 waited")
	equal(t, "main", r.tip("refs/heads/main"), sha)
	equal(t, "builds", len(g.reached), 0)
}

// A push whose old value is out of date and whose commit does not continue the branch is refused before the build.
func TestStaleOldValue(t *testing.T) {
	r := newRig(t, Limits{})
	r.deploy(nil)
	c := r.newClone()
	base := c.commit("One", "a", "1")
	c.mustPush("main", "HEAD:side")
	two := c.commit("Two", "a", "2")
	c.mustPush("main", "HEAD:side")
	c.git("reset", "-q", "--hard", base)
	three := c.commit("Three", "a", "3")
	for _, branch := range []string{"main", "side"} {
		answer := r.post(request("refs/heads/"+branch, base, three) + c.packOf(three, "^"+base))
		contains(t, answer, "ng refs/heads/"+branch+" stale info: "+branch+" moved to "+two[:7], "hint    git pull --rebase, then push again")
		equal(t, branch, r.tip("refs/heads/"+branch), two)
	}
	contains(t, r.post(request("refs/heads/side", zeroID, three)+c.packOf(three, "^"+base)), "ng refs/heads/side stale info")
	contains(t, r.post(request("refs/heads/side", base, zeroID)), "ng refs/heads/side stale info")
	contains(t, r.post(request("refs/heads/gone", base, three)+c.packOf(three, "^"+base)), "ng refs/heads/gone stale info: gone does not exist any more")
	contains(t, r.post(request("refs/heads/gone", base, zeroID)), "ng refs/heads/gone there is no refs/heads/gone")
	equal(t, "deployments", len(r.deployments()), 2)
	// One that continues the branch is taken, whatever the client believed.
	c.git("reset", "-q", "--hard", two)
	four := c.commit("Four", "a", "4")
	contains(t, r.post(request("refs/heads/main", base, four)+c.packOf(four, "^"+two)), "ok refs/heads/main")
	equal(t, "main", r.tip("refs/heads/main"), four)
	r.clean()
}

// Three clients that push to one branch at once: each one that is told ok is in the history of the branch.
func TestNoLostUpdate(t *testing.T) {
	for _, branch := range []string{"main", "side"} {
		t.Run(branch, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.deploy(nil)
			c := r.newClone()
			c.commit("Base", "a", "0")
			c.mustPush("main", "HEAD:side")
			var racing sync.WaitGroup
			results := make([]pushed, 3)
			tips := make([]string, 3)
			for i := range 3 {
				other := r.newClone()
				other.git("fetch", "-q", c.dir, "main")
				other.git("reset", "-q", "--hard", "FETCH_HEAD")
				tips[i] = other.commit(fmt.Sprint("Change ", i), fmt.Sprint("f", i), "x")
				racing.Go(func() { results[i] = <-other.startPush("HEAD:" + branch) })
			}
			racing.Wait()
			accepted := 0
			for i, result := range results {
				if !result.ok {
					continue
				}
				accepted++
				if gitCommand(t, r.bare(), "merge-base", "--is-ancestor", tips[i], "refs/heads/"+branch).Run() != nil {
					t.Errorf("push %d was told ok and is lost:\n%s", i, result.out)
				}
			}
			equal(t, "accepted", accepted, 1)
			r.clean()
		})
	}
}

// Many requests at once, without git's own steps in between: exactly one of each round moves the branch.
func TestNoLostUpdateUnderPressure(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	base := c.commit("Base", "a", "0")
	c.mustPush("HEAD:side")
	for round := range 5 {
		bodies := make([]string, 8)
		for i := range bodies {
			c.git("reset", "-q", "--hard", base)
			tip := c.commit(fmt.Sprint("Round ", round, " change ", i), "a", fmt.Sprint(round, i))
			bodies[i] = request("refs/heads/side", base, tip) + c.packOf(tip, "^"+base)
		}
		answers := make([]string, len(bodies))
		var racing sync.WaitGroup
		for i, body := range bodies {
			racing.Go(func() { _, answers[i] = r.send(strings.NewReader(body), nil) })
		}
		racing.Wait()
		accepted := 0
		for _, answer := range answers {
			if strings.Contains(answer, "ok refs/heads/side") {
				accepted++
			} else {
				contains(t, answer, "ng refs/heads/side stale info")
			}
		}
		equal(t, "accepted", accepted, 1)
		base = r.tip("refs/heads/side")
		c.git("fetch", "-q", r.bare(), "side")
	}
	r.clean()
}

func TestKeepAlive(t *testing.T) {
	r := newRig(t, Limits{})
	r.server.keepAlive = 20 * time.Millisecond
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	c.commit("One", "a", "1")
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := gitCommand(t, c.dir, "push", "shipgate", "main")
	cmd.Env = append(cmd.Env, "GIT_TRACE_PACKET="+trace)
	var out strings.Builder
	cmd.Stderr = &out
	check(t, cmd.Start())
	<-g.reached
	waitFor(t, "keepalives", func() bool {
		packets, _ := os.ReadFile(trace)
		return strings.Count(string(packets), `sideband< \1`+"\n") >= 3
	})
	close(g.open)
	if err := cmd.Wait(); err != nil {
		t.Errorf("push: %v\n%s", err, out.String())
	}
}

// The server ends the answer of a push that waits; the deployment belongs to the next process.
func TestCloseDuringDeployment(t *testing.T) {
	r := newRig(t, Limits{})
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	waiting := c.startPush("main")
	<-g.reached
	check(t, r.server.Close())
	done := <-waiting
	equal(t, "push", done.ok, false)
	contains(t, done.out, "main -> main (the server is stopping; deployment 1 goes on)", "hint    shipgate show 1")

	again, err := New(Options{Store: r.store, Dir: r.server.dir})
	check(t, err)
	d, err := r.store.Deployment(t.Context(), 1)
	check(t, err)
	check(t, again.Check(t.Context(), d))
	check(t, again.Advance(t.Context(), d))
	equal(t, "main", r.tip("refs/heads/main"), sha)
	check(t, again.Close())
	out, ok := c.try("push", "shipgate", "main")
	equal(t, "push to a closed server", ok, false)
	contains(t, out, "503")
}

func TestSupersededPush(t *testing.T) {
	r := newRig(t, Limits{})
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	c.commit("One", "a", "1")
	first := c.startPush("main")
	<-g.reached
	c.commit("Two", "a", "2")
	second := c.startPush("main")
	waitFor(t, "second deployment", func() bool { return len(r.deployments()) == 2 })
	last := c.commit("Three", "a", "3")
	third := c.startPush("main")
	waitFor(t, "third deployment", func() bool { return len(r.deployments()) == 3 })
	done := <-second
	contains(t, done.out, "[remote rejected] main -> main (superseded by deployment 3)", "remote: superseded superseded by deployment 3")
	close(g.open)
	equal(t, "first", (<-first).ok, true)
	equal(t, "third", (<-third).ok, true)
	equal(t, "main", r.tip("refs/heads/main"), last)
}

// A ref that did not move although the deployment succeeded is not reported as moved.
func TestRefThatDidNotMove(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	c.commit("One", "a", "1")
	waiting := c.startPush("main")
	waitFor(t, "deployment", func() bool { return len(r.deployments()) == 1 })
	d, _, err := r.store.Claim(t.Context(), testApp)
	check(t, err)
	for _, step := range store.StepsOf(d.Strategy)[1:] {
		change := store.Change{}
		if step == store.StepLive {
			change.Verdict = store.Succeeded
		}
		d, err = r.store.Advance(t.Context(), d, step, change)
		check(t, err)
	}
	done := <-waiting
	equal(t, "push", done.ok, false)
	contains(t, done.out, "deployment 1 succeeded, and the ref did not move")
}

// Errors of ours are not blamed on the push, and leave nothing.
func TestFaultOfOurs(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	broken := &spool{body: strings.NewReader(c.packOf(sha)), file: brokenWriter{}, left: 1 << 20, limit: 1 << 20}
	_, _, err := scanPack(broken, &budget{limits: Limits{}.withDefaults()}, newLinks(nil), scratch{t.TempDir()})
	if err == nil || broken.fault == nil {
		t.Error("the spool's fault is not known")
	}
	p := &push{log: slog.New(slog.DiscardHandler)}
	contains(t, message(p.ours(fmt.Errorf("write: %w", syscall.ENOSPC))), "the disk of the server is full")
	equal(t, "code", store.CodeOf(p.ours(broken.fault)), store.CodeErrored)
	check(t, os.MkdirAll(r.bare(), 0o755))
	d := store.Deployment{App: testApp, Updates: []store.RefUpdate{{Name: "refs/heads/main", New: sha}}}
	check(t, os.MkdirAll(filepath.Join(r.bare(), "refs", "heads"), 0o755))
	check(t, os.WriteFile(filepath.Join(r.bare(), "refs", "heads", "main.lock"), nil, 0o600))
	if err := r.server.Advance(t.Context(), d); err == nil {
		t.Error("a locked ref was written")
	}
	check(t, os.Remove(filepath.Join(r.bare(), "refs", "heads", "main.lock")))
	r.clean()
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
