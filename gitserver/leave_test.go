package gitserver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// The deployment of a client that goes away during the build goes on, and its branch moves.
func TestClientLeavesDuringBuild(t *testing.T) {
	r := newRig(t, Limits{})
	g := newGate()
	r.deploy(g.build)
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	cmd := gitCommand(t, c.dir, "push", "shipgate", "main")
	check(t, cmd.Start())
	<-g.reached
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	close(g.open)
	waitFor(t, "verdict", func() bool { return r.deployments()[0].Verdict == store.Succeeded })
	equal(t, "main", r.tip("refs/heads/main"), sha)
	r.clean()
}

// A push whose pack has arrived is taken in also when nobody waits for the answer.
func TestClientLeavesBeforeEnqueue(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", "1")
	repository, err := r.server.ensureRepository(testApp)
	check(t, err)
	repository.lock.Lock()
	ctx, leave := context.WithCancel(t.Context())
	body := strings.NewReader(request("refs/heads/main", zeroID, sha) + c.packOf(sha))
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, r.http.URL+"/"+testApp+".git/git-receive-pack", body)
	check(t, err)
	post.Header.Set("Authorization", "Bearer "+r.token)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if answer, err := http.DefaultClient.Do(post); err == nil {
			_ = answer.Body.Close()
		}
	}()
	waitFor(t, "index in the quarantine", func() bool {
		index, _ := filepath.Glob(filepath.Join(r.bare(), quarantinePrefix+"*", "idx"))
		return len(index) > 0
	})
	leave()
	<-left
	noticed := time.NewTimer(200 * time.Millisecond) // for the server to see that the client has gone
	<-noticed.C
	repository.lock.Unlock()
	waitFor(t, "deployment", func() bool { return len(r.deployments()) == 1 })
	equal(t, "hidden ref", r.tip("refs/deployments/1"), sha)
}

func TestClientLeavesDuringUpload(t *testing.T) {
	r := newRig(t, Limits{})
	c := r.newClone()
	sha := c.commit("One", "a", numbered(10000, ""))
	body := request("refs/heads/x", zeroID, sha) + c.packOf(sha)
	for _, length := range []int{len(body) - 30, len(body) / 2, len(request("refs/heads/x", zeroID, sha))} {
		for _, chunked := range []bool{true, false} {
			r.leave(body[:length], len(body), chunked)
		}
	}
	waitFor(t, "end of the quarantines", func() bool {
		left, _ := filepath.Glob(filepath.Join(r.bare(), quarantinePrefix+"*"))
		return len(left) == 0
	})
	equal(t, "packs", r.packs(), 0)
	equal(t, "ref", r.tip("refs/heads/x"), "")
	contains(t, r.post(body), "ok refs/heads/x")
	r.clean()
}

// leave sends the beginning of a push and hangs up once the server has taken it in.
func (r *rig) leave(part string, whole int, chunked bool) {
	r.t.Helper()
	address, err := url.Parse(r.http.URL)
	check(r.t, err)
	conn, err := net.Dial("tcp", address.Host)
	check(r.t, err)
	framing := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", whole, part)
	if chunked {
		framing = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(part), part)
	}
	_, err = fmt.Fprintf(conn, "POST /%s.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s", testApp, r.token, framing)
	check(r.t, err)
	waitFor(r.t, "quarantine", func() bool {
		left, _ := filepath.Glob(filepath.Join(r.bare(), quarantinePrefix+"*"))
		return len(left) > 0
	})
	check(r.t, conn.Close())
	waitFor(r.t, "end of the quarantine", func() bool {
		left, _ := filepath.Glob(filepath.Join(r.bare(), quarantinePrefix+"*"))
		return len(left) == 0
	})
}
