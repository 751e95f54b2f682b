package store

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"
)

// Verdict is the one answer of a Deployment; empty while it runs.
type Verdict string

// The verdicts.
const (
	Succeeded  Verdict = "succeeded"
	Failed     Verdict = "failed"  // the user's code or configuration
	Errored    Verdict = "errored" // our side: engine, disk, network
	Cancelled  Verdict = "cancelled"
	Superseded Verdict = "superseded" // a newer one took its place in the queue
)

// Trigger says what asked for a Deployment.
type Trigger string

// The triggers.
const (
	TriggerPush     Trigger = "push"
	TriggerAPI      Trigger = "api"
	TriggerRollback Trigger = "rollback"
	TriggerWebhook  Trigger = "webhook"
	TriggerRestart  Trigger = "restart"   // of the live release
	TriggerCaughtUp Trigger = "caught up" // found at the forge; no webhook told of it
)

// RefUpdate is a ref that moves once the deployment succeeded. An empty Old creates it, an empty New deletes it.
type RefUpdate struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Deployment is one attempt to make a Release live.
type Deployment struct {
	ID             int64       `json:"id"`
	App            string      `json:"app"`
	Trigger        Trigger     `json:"trigger"`
	SHA            string      `json:"sha"`
	Ref            string      `json:"ref"`
	Subject        string      `json:"subject"` // first line of the commit message
	Strategy       Strategy    `json:"strategy"`
	StrategyReason string      `json:"strategy_reason"`
	Step           Step        `json:"step"`
	Verdict        Verdict     `json:"verdict"`
	Pending        Verdict     `json:"-"`      // while undoing: the verdict to come
	Reason         string      `json:"reason"` // one line; why it did not succeed
	Hint           string      `json:"hint"`
	Image          string      `json:"image,omitempty"`          // asked for in place of the config's; source image
	AskedStrategy  string      `json:"asked_strategy,omitempty"` // in place of the config's
	BuiltFrom      string      `json:"built_from,omitempty"`     // the commit at the forge that uploaded files were built from
	StatusOnly     bool        `json:"-"`                        // the forge gets no deployment of it
	Release        int64       `json:"release"`                  // 0 until built
	Container      string      `json:"container"`                // its name, stored before it is created; empty for a site
	Address        string      `json:"address"`                  // host:port the proxy dials; empty for a site
	PreviousLive   int64       `json:"previous"`                 // the deployment that was live when this one was claimed, or 0
	RollbackOf     int64       `json:"rollback_of,omitempty"`
	Updates        []RefUpdate `json:"-"`
	CancelAsked    bool        `json:"cancel_asked,omitempty"`
	CreatedAt      time.Time   `json:"created_at"`
	StartedAt      time.Time   `json:"started_at,omitzero"`  // when it left the queue
	FinishedAt     time.Time   `json:"finished_at,omitzero"` // when the verdict was written
}

// ShortSHA is the commit as people read it.
func (d Deployment) ShortSHA() string { return d.SHA[:min(7, len(d.SHA))] }

// ForgeSHA is the commit that the forge knows.
func (d Deployment) ForgeSHA() string { return cmp.Or(d.BuiltFrom, d.SHA) }

// Title names what is deployed as people read it: the commit with its subject, or the image.
func (d Deployment) Title() string { return strings.TrimSpace(d.ShortSHA() + " " + d.Subject) }

// Release is an immutable, deployable result.
type Release struct {
	ID         int64     `json:"id"`
	App        string    `json:"app"`
	Deployment int64     `json:"deployment"` // the one that built it
	SHA        string    `json:"sha"`
	Artefact   Artefact  `json:"artefact"`
	Source     Source    `json:"source"`
	Config     []byte    `json:"-"` // the config blob it was built with
	SealedEnv  []byte    `json:"-"` // the app's env at that moment, sealed with secret.key
	CreatedAt  time.Time `json:"created_at"`
}

// Artefact is what a build leaves behind: an image, a site tree or a stack, only one of them.
type Artefact struct {
	Image    string `json:"image,omitempty"`     // image id, sha256:…
	ImageTag string `json:"image_tag,omitempty"` // the name that keeps it from being dangling
	Port     int    `json:"port,omitempty"`      // where the image's process listens
	Digest   string `json:"digest,omitempty"`    // of source image: what the reference meant then, name@sha256:…
	Volumes  string `json:"volumes,omitempty"`   // the paths of the image's VOLUME lines, one a line
	Site     string `json:"site,omitempty"`      // release tree, relative to the data directory's sites/
	Stack    string `json:"stack,omitempty"`     // the commit's files as Compose needs them, relative to the data directory's stacks/
}

// Uncovered lists the paths of the image's VOLUME lines that the app has no volume for: what is written there goes with the
// container.
func (a Artefact) Uncovered(config Config) (paths []string) {
	for where := range strings.SplitSeq(a.Volumes, "\n") {
		covers := func(v Volume) bool { return path.Clean(v.Path) == path.Clean(where) }
		if where != "" && !slices.ContainsFunc(config.Shared().Volumes, covers) {
			paths = append(paths, where)
		}
	}
	return paths
}

// Live says what serves now.
type Live struct {
	App        string    `json:"-"`
	Deployment int64     `json:"deployment"`
	Release    int64     `json:"release"`
	SHA        string    `json:"sha"`
	Container  string    `json:"container,omitempty"`
	Target     Target    `json:"target"`
	Since      time.Time `json:"since"`
}

// Event is one line of a deployment's history. Kind is the word that stands in front of it in a push:
// plan, build, start, gate, route, live, drain, log, failed, errored, cancelled, superseded, undo, wait, note.
type Event struct {
	ID         int64     `json:"id"` // grows over the whole database; order of the history
	Deployment int64     `json:"deployment"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	Step       Step      `json:"step,omitempty"` // set on the event that records reaching a step
	Text       string    `json:"text"`
}
