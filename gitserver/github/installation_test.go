package github

import (
	"testing"

	"github.com/shipgate/shipgate/store"
)

// A status that was refused because the App was not let in goes out when it is.
func TestInstallingTheAppTellsWhatWasRefused(t *testing.T) {
	o := newOffice(t, "")
	o.connectApp()
	o.start()
	o.fake.Install(o.repo) // nowhere
	d := o.enqueue("hello", store.TriggerWebhook, o.sha)
	if posts := o.settled(d); posts[0].Outcome != store.Refused {
		t.Fatalf("without the App the status was %s", posts[0].Outcome)
	}
	o.fake.Install(o.repo, "contents:read", "statuses:write")
	outcome, waits := o.hub.outcomeOf(t.Context(), store.Delivery{Event: "installation_repositories", ContentType: jsonType, Body: []byte(`{"action":"added"}`)})
	if waits || outcome == "" {
		t.Errorf("outcome %q, waits %v", outcome, waits)
	}
	o.wait("the status", func() bool { return o.states() == "pending" })
}
