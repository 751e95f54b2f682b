package deploy

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

const warmConfig = `{"deploy_strategy":"blue-green","healthcheck":{"path":"/healthz"},"rollback":{"warm":"10m"}}`

func TestWarmContainer(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	second := s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	s.wantStates(map[string]bool{first.Container: false, second.Container: true})
	back, err := s.runner.Rollback(t.Context(), appName, 0)
	s.must(err)
	third := s.wantVerdict(back.ID, store.Succeeded, "")
	if third.Container != first.Container || third.Address != first.Address {
		t.Errorf("went back to %s on %s, and %s on %s was warm", third.Container, third.Address, first.Container, first.Address)
	}
	s.wantStates(map[string]bool{first.Container: true, second.Container: false})
	garbage, err := s.runner.Collect(t.Context(), false)
	s.must(err)
	if len(garbage) != 0 {
		t.Errorf("collected %v", garbage)
	}
	other, err := s.runner.Rollback(t.Context(), appName, first.ID) // what is warm is of another release
	s.must(err)
	fourth := s.wantVerdict(other.ID, store.Succeeded, "")
	s.wantStates(map[string]bool{first.Container: false, fourth.Container: true})
	if fourth.Container != s.container(appName, fourth.ID) {
		t.Errorf("another release runs in %s", fourth.Container)
	}
	s.must(s.store.KeepWarm(t.Context(), third.ID, time.Now().Add(-time.Second)))
	s.runner.warmed <- struct{}{}
	s.wantStates(map[string]bool{fourth.Container: true})
}

func TestDestroyTakesWarmContainersAlong(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	second := s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	s.wantStates(map[string]bool{first.Container: false, second.Container: true})
	s.must(s.runner.Destroy(t.Context(), appName))
	s.wantStates(map[string]bool{})
}

// The address of a warm container is free again when its time is over, and not before.
func TestWarmContainerHoldsItsAddress(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	second := s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	holders := func(want ...int64) {
		t.Helper()
		held := map[int64]bool{}
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			clear(held)
			for _, deployment := range s.addressHolders() {
				held[deployment] = true
			}
			same := len(held) == len(want)
			for _, deployment := range want {
				same = same && held[deployment]
			}
			if same {
				return
			}
		}
		t.Errorf("addresses are held by %v, want %v", held, want)
	}
	holders(first.ID, second.ID)
	if left, err := s.runner.endExpiredWarm(t.Context()); err != nil || left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("next look in %s, error %v", left, err)
	}
	s.wantStates(map[string]bool{first.Container: false, second.Container: true})
	s.must(s.store.KeepWarm(t.Context(), first.ID, time.Now().Add(-time.Second)))
	s.runner.lookAtWarm()
	holders(second.ID)
	s.wantStates(map[string]bool{second.Container: true})
}

// The end of a window comes while a rollback takes the container over.
func TestContainerThatWasTakenOverIsNotRemoved(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	back, err := s.runner.Rollback(t.Context(), appName, 0)
	s.must(err)
	s.wantVerdict(back.ID, store.Succeeded, "")
	s.must(s.runner.endWarm(t.Context(), first))
	s.wantStates(map[string]bool{first.Container: true, s.container(appName, 2): false})
}

// Its window was over while its app was at work.
func TestWarmContainerEndsWithTheWorkOfItsApp(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	second := s.wantVerdict(s.push(appName, 2).ID, store.Succeeded, "")
	builds := s.gateBuilds()
	failing := s.push(appName, 14) // a commit that does not build
	builds.wait(t)
	s.must(s.store.KeepWarm(t.Context(), first.ID, time.Now().Add(-time.Second)))
	s.runner.lookAtWarm()
	close(builds.proceed)
	s.wantVerdict(failing.ID, store.Failed, "")
	s.wantStates(map[string]bool{second.Container: true})
}

// A process ended in the middle of putting a container aside, and its window was over when the next one came: the deployment
// that is taken up and the end of the window must not both have it.
func TestEndOfAWindowLeavesAppsAtWorkAlone(t *testing.T) {
	s := newServer(t)
	s.configure(appName, warmConfig)
	first := s.wantVerdict(s.push(appName, 1).ID, store.Succeeded, "")
	reached, hang := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.setInject(func(point string) error {
		if point != "after stop "+s.container(appName, 1)+" #1" {
			return nil
		}
		once.Do(func() { close(reached) })
		<-hang
		return context.Canceled
	})
	d := s.push(appName, 2)
	<-reached
	s.runner.stop()
	close(hang)
	s.must(s.runner.Close())
	s.must(s.store.KeepWarm(t.Context(), first.ID, time.Now().Add(-time.Minute)))
	unfinished, looked := make(chan struct{}), make(chan struct{})
	var drained, removed sync.Once
	s.setInject(func(point string) error {
		switch point {
		case "before drain #1": // the resumed deployment waits until the end of the window was looked at
			drained.Do(func() { <-unfinished })
		case "before remove " + s.container(appName, 1) + " #1":
			removed.Do(func() { close(looked) })
		}
		return nil
	})
	s.boot()
	left, err := s.runner.endExpiredWarm(t.Context())
	if err != nil || left <= 0 {
		t.Errorf("next look in %s, error %v", left, err)
	}
	select {
	case <-looked:
		t.Error("the container of an app at work was removed")
	default:
	}
	close(unfinished)
	s.wantVerdict(d.ID, store.Succeeded, "")
	s.wantStates(map[string]bool{s.container(appName, 1): false, s.container(appName, 2): true})
	warm, err := s.store.Warm(t.Context(), appName)
	if err != nil || len(warm) != 1 {
		t.Errorf("warm %+v, error %v", warm, err)
	}
}

// addressHolders are the deployments that hold an address.
func (s *server) addressHolders() (holders []int64) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.store.Dir(), "shipgate.db")+"?_pragma=busy_timeout(10000)")
	s.must(err)
	defer db.Close()
	rows, err := db.QueryContext(s.t.Context(), `SELECT deployment FROM addresses`)
	s.must(err)
	defer rows.Close()
	for rows.Next() {
		var deployment int64
		s.must(rows.Scan(&deployment))
		holders = append(holders, deployment)
	}
	s.must(rows.Err())
	return holders
}
