package deploy

import (
	"testing"
	"time"

	"github.com/shipgate/shipgate/store"
)

// atForge is a server whose next commit is still at a forge that answers so.
func atForge(t *testing.T, away func() error) *server {
	s := newServer(t, func(o *Options) { o.Patience.Fetch = time.Second })
	s.branches.far = map[string]bool{sha(1): true}
	s.branches.away = away
	return s
}

func (s *server) said(id int64, kind string) (texts []string) {
	s.t.Helper()
	events, err := s.store.Events(s.t.Context(), id, 0, 1000)
	s.must(err)
	for _, event := range events {
		if event.Kind == kind {
			texts = append(texts, event.Text)
		}
	}
	return texts
}

func TestCommitIsFetchedBeforeTheBuild(t *testing.T) {
	s := atForge(t, nil)
	d := s.push(appName, 1)
	s.wantVerdict(d.ID, store.Succeeded, "")
	if got := s.said(d.ID, "fetch"); len(got) != 1 {
		t.Errorf("the history says of the fetch: %q", got)
	}
	again := s.push(appName, 2)
	s.wantVerdict(again.ID, store.Succeeded, "")
	if got := s.said(again.ID, "fetch"); len(got) != 0 {
		t.Errorf("a commit that was here was fetched: %q", got)
	}
}

func TestForgeThatIsAwayIsAskedAgain(t *testing.T) {
	asked := 0
	s := atForge(t, func() error {
		if asked++; asked < 3 {
			return store.Problemf(store.CodeUnreachable, "github.com does not answer")
		}
		return nil
	})
	d := s.push(appName, 1)
	s.wantVerdict(d.ID, store.Succeeded, "")
	if got := s.said(d.ID, "wait"); len(got) != 1 || got[0] != "github.com does not answer" {
		t.Errorf("the history says of the wait: %q", got)
	}
}

func TestForgeThatStaysAwayIsOurFault(t *testing.T) {
	s := atForge(t, func() error { return store.Problemf(store.CodeUnreachable, "github.com does not answer") })
	s.wantVerdict(s.push(appName, 1).ID, store.Errored, "github.com does not answer")
}

func TestForgeThatRefusesIsNotAskedAgain(t *testing.T) {
	asked := 0
	s := atForge(t, func() error {
		asked++
		return store.Problemf(store.CodeErrored, "GitHub does not let us read it")
	})
	s.wantVerdict(s.push(appName, 1).ID, store.Errored, "does not let us")
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
}

func TestCancellingEndsTheWaitForTheForge(t *testing.T) {
	waits := make(chan struct{}, 100)
	s := atForge(t, func() error {
		waits <- struct{}{}
		return store.Problemf(store.CodeUnreachable, "github.com does not answer")
	})
	d := s.push(appName, 1)
	<-waits
	_, err := s.store.AskCancel(t.Context(), d.ID)
	s.must(err)
	s.wantVerdict(d.ID, store.Cancelled, "")
}
