package github

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// pushPayload is what counts of a push event (https://docs.github.com/webhooks/webhook-events-and-payloads#push). What it
// says of created, deleted and forced is left out: others that speak like GitHub do not say it, and the ids tell.
type pushPayload struct {
	Ref        string            `json:"ref"`
	Before     string            `json:"before"`
	After      string            `json:"after"`
	HeadCommit *commitPayload    `json:"head_commit"`
	Commits    []commitPayload   `json:"commits"`
	Repository repositoryPayload `json:"repository"`
}

type commitPayload struct {
	ID      string `json:"id"`
	Message string `json:"message"`
}

type repositoryPayload struct {
	ID       int64      `json:"id"`
	FullName string     `json:"full_name"`
	PushedAt forgivenAt `json:"pushed_at"`
}

// forgivenAt is a time in seconds, as push events have it, or a text, as all others have it. Any other is as good as none.
type forgivenAt struct{ time.Time }

func (f *forgivenAt) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds > 0 && seconds < 1<<33 {
		f.Time = time.Unix(seconds, 0).UTC()
	} else if at, err := time.Parse(time.RFC3339, text); err == nil && at.Year() > 2000 && at.Year() < 2200 {
		f.Time = at.UTC()
	}
	return nil
}

// push is a decoded push event.
type push struct {
	repository   store.Repository
	repositoryID int64
	ref          string
	before       string
	after        string // empty: the ref was deleted
	message      string // of the commit
	hasMessage   bool
	pushedAt     time.Time // zero when it is not known
}

var refName = regexp.MustCompile(`^refs/(heads|tags)/[^\x00-\x20\x7f~^:?*\[\\]{1,250}$`)

func decodePush(payload []byte) (push, error) {
	var p pushPayload
	if err := json.Unmarshal(payload, &p); err != nil {
		return push{}, fmt.Errorf("read payload: %w", err)
	}
	decoded := push{repositoryID: p.Repository.ID, ref: p.Ref, before: p.Before, after: p.After, pushedAt: p.Repository.PushedAt.Time}
	var err error
	if decoded.repository, err = repositoryOf(p.Repository.FullName); err != nil {
		return push{}, err
	}
	if !refName.MatchString(p.Ref) {
		return push{}, errors.New("it names no branch and no tag")
	}
	if isZeroID(p.After) {
		decoded.after = ""
		return decoded, nil
	}
	if err := store.ValidateCommitID(p.After); err != nil {
		return push{}, err
	}
	for _, commit := range append(p.Commits, headOf(p)...) {
		if commit.ID == p.After {
			decoded.message, decoded.hasMessage = commit.Message, true
		}
	}
	return decoded, nil
}

func headOf(p pushPayload) []commitPayload {
	if p.HeadCommit == nil {
		return nil
	}
	return []commitPayload{*p.HeadCommit}
}

func isZeroID(id string) bool { return len(id) == 40 && strings.Trim(id, "0") == "" }

func repositoryOf(fullName string) (store.Repository, error) {
	owner, name, _ := strings.Cut(fullName, "/")
	repository := store.Repository{Owner: owner, Name: name}
	return repository, store.ValidateRepository(repository)
}

// renaming is a repository event that gives it another name or another owner.
type renaming struct {
	id       int64
	from, to store.Repository
}

// decodeRenaming reads a repository event; false when it is about something else.
func decodeRenaming(payload []byte) (r renaming, is bool, err error) {
	type login struct {
		Login string `json:"login"`
	}
	var p struct {
		Action     string            `json:"action"`
		Repository repositoryPayload `json:"repository"`
		Changes    struct {
			Repository struct {
				Name struct {
					From string `json:"from"`
				} `json:"name"`
			} `json:"repository"`
			Owner struct {
				From struct {
					User         login `json:"user"`
					Organization login `json:"organization"`
				} `json:"from"`
			} `json:"owner"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return r, false, fmt.Errorf("read payload: %w", err)
	}
	if p.Action != "renamed" && p.Action != "transferred" {
		return r, false, nil
	}
	r.id = p.Repository.ID
	if r.to, err = repositoryOf(p.Repository.FullName); err != nil {
		return r, true, err
	}
	owner := p.Changes.Owner.From
	r.from = store.Repository{
		Owner: cmp.Or(owner.User.Login, owner.Organization.Login, r.to.Owner),
		Name:  cmp.Or(p.Changes.Repository.Name.From, r.to.Name),
	}
	if r.id <= 0 || r.from == r.to {
		return r, true, errors.New("it does not say which repository had which name before")
	}
	return r, true, store.ValidateRepository(r.from)
}

// payloadOf takes the JSON out of a delivery's body.
func payloadOf(d store.Delivery) ([]byte, error) {
	if d.ContentType != formType {
		return d.Body, nil
	}
	form, err := url.ParseQuery(string(d.Body))
	if err != nil || !form.Has("payload") {
		return nil, errors.New("the form has no field payload")
	}
	return []byte(form.Get("payload")), nil
}

// skipMarkers are what GitHub's own workflows heed, and the same said of deployments.
var skipMarkers = []string{"[skip ci]", "[ci skip]", "[no ci]", "[skip deploy]", "[deploy skip]"}

// skipMarker finds what in a commit's message asks for no deployment; empty when nothing does.
func skipMarker(message string) string {
	lowered := strings.ToLower(message)
	for _, marker := range skipMarkers {
		if strings.Contains(lowered, marker) {
			return marker
		}
	}
	return ""
}

// subjectOf is the first line of a commit message, short enough for one line of output.
func subjectOf(message string) string {
	subject, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	return oneLine(subject, 100)
}
