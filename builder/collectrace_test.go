package builder

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shipgate/shipgate/store"
)

// ledger knows as the store does which deployments are at work, and which of the others are kept.
type ledger struct {
	mu     sync.Mutex
	app    string
	newest int64
	kept   map[int64]bool
}

func (l *ledger) begin() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest++
	l.kept[l.newest] = true
	return l.newest
}

func (l *ledger) retire(deployment int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, deployment)
}

func (l *ledger) list() store.Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := map[int64]bool{}
	for deployment := range l.kept {
		mine[deployment] = true
	}
	return store.Kept{Newest: l.newest, Apps: map[string]map[int64]bool{l.app: mine}}
}

// churn has several publishers publish, look at and retire releases beside collections and removals of another app, and
// gives what is left. It ends when each publisher has published its share.
func (l *lab) churn(t *testing.T, publishers, each int, publish func(publisher int, deployment int64) (store.Artefact, bool)) (left map[int64]store.Artefact) {
	t.Helper()
	book := &ledger{app: l.app, kept: map[int64]bool{}}
	left = map[int64]store.Artefact{}
	var lock sync.Mutex
	var publishing, collecting sync.WaitGroup
	for publisher := range publishers {
		publishing.Go(func() {
			var mine []int64
			for range each {
				deployment := book.begin()
				artefact, whole := publish(publisher, deployment)
				if !whole {
					return
				}
				lock.Lock()
				left[deployment] = artefact
				lock.Unlock()
				if mine = append(mine, deployment); len(mine) > 2 {
					lock.Lock()
					delete(left, mine[0])
					lock.Unlock()
					book.retire(mine[0])
					mine = mine[1:]
				}
			}
		})
	}
	end := make(chan struct{})
	for collector := range 3 {
		collecting.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if _, err := l.Collect(t.Context(), book.list(), collector == 2); err != nil {
					t.Error(err)
					return
				}
				if err := l.Forget(t.Context(), "another"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	publishing.Wait()
	close(end)
	collecting.Wait()
	if _, err := l.Collect(t.Context(), book.list(), false); err != nil {
		t.Error(err)
	}
	if len(left) != 2*publishers {
		t.Errorf("%d releases are left, want %d", len(left), 2*publishers)
	}
	return left
}

// Publishers share most of their files, and what one retires another is about to link.
func TestCollectBesidePublishes(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	pages := manyPages(30)
	publish := func(publisher int, deployment int64) (store.Artefact, bool) {
		chosen := commit{"index.html": fmt.Sprint("of ", deployment)}
		for name, content := range pages {
			if rand.IntN(3) > 0 {
				chosen[name] = content
			}
		}
		artefact, said, err := l.buildUnder(t.Context(), deployment, chosen, &store.StaticConfig{}, nil)
		if err != nil {
			t.Errorf("publisher %d: %v\n%s", publisher, err, said)
			return artefact, false
		}
		if present, err := l.Present(t.Context(), artefact); !present || err != nil {
			t.Errorf("publisher %d: what was just published is there: %v, %v", publisher, present, err)
			return artefact, false
		}
		listed, _ := l.published(t, artefact)
		return artefact, len(listed.Files) == len(chosen)
	}
	for _, artefact := range l.churn(t, 4, 12, publish) {
		l.published(t, artefact)
	}
	l.checkNothingLeft(t, 8)
	loose, err := l.sites.loose(t.Context(), nil)
	if err != nil || len(loose.paths) > 0 {
		t.Errorf("objects without a link are left: %q, %v", loose.paths, err)
	}
}

// Images of two kinds: those built from a commit, which share their layers, and those that only the engine has.
func TestCollectBesideImageBuilds(t *testing.T) {
	l := newEngineLab(t)
	base := l.base(t)
	publish := func(publisher int, deployment int64) (store.Artefact, bool) {
		var config store.Config = &store.ImageConfig{Image: base, SharedConfig: store.SharedConfig{Port: 80}}
		if publisher > 0 {
			config = &store.DockerfileConfig{}
		}
		files := commit{"Dockerfile": "FROM " + base + "\nCOPY f /f\nEXPOSE 80\n", "f": fmt.Sprint(deployment % 3)}
		artefact, said, err := l.buildUnder(t.Context(), deployment, files, config, nil)
		if err != nil {
			t.Errorf("publisher %d: %v\n%s", publisher, err, said)
			return artefact, false
		}
		return artefact, l.checkImage(t, artefact)
	}
	for _, artefact := range l.churn(t, 3, 4, publish) {
		l.checkImage(t, artefact)
	}
	l.checkNoPins(t)
}

func (l *lab) checkImage(t *testing.T, artefact store.Artefact) bool {
	t.Helper()
	for _, name := range []string{artefact.Image, artefact.ImageTag} {
		if present, err := l.ImagePresent(context.WithoutCancel(t.Context()), name); !present || err != nil {
			t.Errorf("%s is there: %v, %v", name, present, err)
			return false
		}
	}
	return true
}

// Of several who remove the same folders none takes that for trouble.
func TestCollectionsBesideEachOther(t *testing.T) {
	l := newLab(t, Limits{})
	l.docker = nil
	l.stacksDir = t.TempDir()
	for deployment := range 200 {
		folder := filepath.Join(l.stacksDir, l.app, fmt.Sprint(deployment+1), "files")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var removed sync.Map
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			found, err := l.Collect(t.Context(), l.keeping(), false)
			if err != nil {
				t.Error(err)
			}
			for _, one := range found {
				if _, twice := removed.LoadOrStore(one.Name, true); twice || !strings.HasPrefix(one.Name, l.app+"/") {
					t.Errorf("%s is told of twice", one.Name)
				}
			}
		})
		work.Go(func() {
			if err := l.Forget(t.Context(), l.app); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	l.checkStacks(t)
}
