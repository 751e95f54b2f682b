package gitserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// What came lately stays whole, with what it shares with a version that is of no use any more.
func TestCollectLeavesWhatYoungPacksBuildOn(t *testing.T) {
	f := newTestForge(t)
	lost := f.deployed(3)[0]
	tree, err := gitCommand(t, f.bare(), "rev-parse", lost+"^{tree}").Output()
	check(t, err)
	var p packBuilder
	p.add(plumbing.CommitObject, commitText(plumbing.NewHash(strings.TrimSpace(string(tree)))))
	f.take(f.opened(), p)
	young := f.opened().packs.Load().packs[0]
	later := time.Now().Add(time.Hour)
	check(t, os.Chtimes(filepath.Join(f.opened().packDir(), "pack-"+young.name+".pack"), later, later))
	f.collect(keeping(3, 3), false)
	equal(t, "commit that is of no use", f.has(lost), false)
	closed, err := f.opened().packs.Load().closes(young)
	check(t, err)
	equal(t, "closed", closed, true)
}

// Pushes, fetches, reading and collecting at once: nothing that a ref names is lost, and native git clones all of it.
func TestCollectBesidePushesAndFetches(t *testing.T) {
	f := newTestForge(t)
	f.rig.server.youngAge = 0
	f.deploy(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var work sync.WaitGroup
	var pushed, fetched, collected, refused atomic.Int32
	enough := func() bool { return pushed.Load() >= 8 && fetched.Load() >= 4 && collected.Load() >= 8 }
	end := func() {
		if enough() {
			cancel()
		}
	}
	work.Go(func() {
		for ctx.Err() == nil {
			kept, err := f.store.Kept(ctx)
			if err == nil {
				_, err = f.rig.server.Collect(ctx, kept, false)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("collect: %v", err)
			}
			collected.Add(1)
			end()
		}
	})
	for _, name := range []string{"main", "side"} {
		c := f.newClone()
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if name == "side" && i%3 == 2 { // what was there before is of no use any more
					c.git("checkout", "-q", "--orphan", fmt.Sprint("side", i))
				}
				c.commit(fmt.Sprint(i), name, unlike(50<<10), "common", numbered(300, fmt.Sprint(i)))
				if out, ok := c.try("push", "-q", "--force", "shipgate", "HEAD:refs/heads/"+name); ok {
					pushed.Add(1)
				} else if strings.Contains(out, "removed meanwhile") || strings.Contains(out, "missing") {
					refused.Add(1)
				} else {
					t.Errorf("push: %s", out)
				}
			}
		})
	}
	work.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			sha := f.publish(fmt.Sprint(i), "forge", unlike(50<<10))
			if _, err := f.rig.server.Fetch(ctx, testApp, sha); err != nil && ctx.Err() == nil {
				t.Errorf("fetch: %v", err)
			}
			fetched.Add(1)
		}
	})
	work.Go(func() {
		for ctx.Err() == nil {
			if tip, _, err := f.rig.server.resolveHere(ctx, testApp, "main"); err == nil {
				f.readAll(tip)
			}
		}
	})
	work.Wait()
	t.Logf("%d pushes, %d refused, %d fetches, %d collections", pushed.Load(), refused.Load(), fetched.Load(), collected.Load())
	if !enough() {
		t.Error("too little happened to show anything")
	}
	f.collect(keeping(0), false)
	f.clean()
	out, err := gitCommand(t, t.TempDir(), "clone", "-q", "--mirror", f.bare(), filepath.Join(t.TempDir(), "copy")).CombinedOutput()
	if err != nil {
		t.Errorf("clone: %v\n%s", err, out)
	}
}
