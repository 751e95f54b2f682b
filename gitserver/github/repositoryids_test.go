package github

import (
	"fmt"
	"testing"

	"github.com/shipgate/shipgate/gitserver/github/githubtest"
	"github.com/shipgate/shipgate/store"
)

func TestRepositoryIDs(t *testing.T) {
	o := newOffice(t, "")
	if _, _, err := o.hub.RepositoryIDs(t.Context(), "octocat", "hello"); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("without a connection: %v", err)
	}
	o.connectApp()
	repository, owner, err := o.hub.RepositoryIDs(t.Context(), "octocat", "hello")
	if err != nil || repository != fmt.Sprint(o.repo.ID) || owner != fmt.Sprint(githubtest.OwnerID) {
		t.Errorf("got %s, %s, %v", repository, owner, err)
	}
	if _, _, err := o.hub.RepositoryIDs(t.Context(), "octocat", "nothing"); store.CodeOf(err) != store.CodeErrored {
		t.Errorf("a repository that is not there: %v", err)
	}
	if _, _, err := o.hub.RepositoryIDs(t.Context(), "..", "hello"); store.CodeOf(err) != store.CodeUsage {
		t.Errorf("no name: %v", err)
	}
}
