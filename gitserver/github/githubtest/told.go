package githubtest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Status is one commit status, as it arrived.
type Status struct {
	SHA         string `json:"sha"`
	Context     string `json:"context"`
	State       string `json:"state"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url"`
}

// Deployment is a GitHub Deployment with its statuses in order.
type Deployment struct {
	ID               int64              `json:"id"`
	SHA              string             `json:"sha"`
	Ref              string             `json:"ref"`
	Task             string             `json:"task"`
	Environment      string             `json:"environment"`
	Description      string             `json:"description"`
	Payload          json.RawMessage    `json:"payload"`
	AutoMerge        *bool              `json:"-"`
	RequiredContexts *[]string          `json:"-"`
	Statuses         []DeploymentStatus `json:"-"`
}

// DeploymentStatus says how one stands.
type DeploymentStatus struct {
	State          string `json:"state"`
	Description    string `json:"description"`
	LogURL         string `json:"log_url"`
	EnvironmentURL string `json:"environment_url"`
}

const (
	longestDescription = 140
	mostStatuses       = 1000 // of one context of one commit
)

// Statuses of a repository, in the order in which they arrived.
func (f *Fake) Statuses(r *Repository) []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(r.statuses)
}

// Deployments of a repository, in the order in which they arrived.
func (f *Fake) Deployments(r *Repository) []Deployment {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(r.deployments)
	for i := range all {
		all[i].Statuses = slices.Clone(all[i].Statuses)
	}
	return all
}

// forbid answers what live GitHub refuses and its description allows.
func (f *Fake) forbid(c *call, status int, message string) {
	f.violation("%s %s: %s", c.Method, c.URL.Path, message)
	say(c.answer, status, message)
}

func (f *Fake) createStatus(c *call, r *Repository) {
	status := Status{SHA: c.PathValue("sha"), Context: "default"}
	if !c.decode(&status) {
		return
	}
	status.SHA = c.PathValue("sha")
	if utf8.RuneCountInString(status.Description) > longestDescription {
		f.forbid(c, http.StatusUnprocessableEntity, "Validation Failed: description is too long (maximum is 140 characters)")
		return
	}
	if !r.has(status.SHA) {
		say(c.answer, http.StatusUnprocessableEntity, "No commit found for SHA: "+status.SHA)
		return
	}
	f.mu.Lock()
	same := 0
	for _, other := range r.statuses {
		if other.SHA == status.SHA && strings.EqualFold(other.Context, status.Context) {
			same++
		}
	}
	if same < mostStatuses {
		r.statuses = append(r.statuses, status)
	}
	f.mu.Unlock()
	if same >= mostStatuses {
		f.forbid(c, http.StatusUnprocessableEntity, "This SHA and context has reached the maximum number of statuses.")
		return
	}
	c.reply(http.StatusCreated, status)
}

func (f *Fake) listStatuses(c *call, r *Repository) {
	var found []Status
	for _, status := range slices.Backward(f.Statuses(r)) {
		if status.SHA == c.PathValue("ref") {
			found = append(found, status)
		}
	}
	c.reply(http.StatusOK, firstOf(c, found))
}

// firstOf gives the first page of a list.
func firstOf[T any](c *call, all []T) []T {
	page := 30
	if asked := number(c.URL.Query().Get("per_page")); asked > 0 {
		page = int(asked)
	}
	return append([]T{}, all[:min(page, len(all))]...)
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (f *Fake) listDeployments(c *call, r *Repository) {
	asked := c.URL.Query()
	var found []Deployment
	for _, d := range slices.Backward(f.Deployments(r)) {
		if (asked.Get("sha") == "" || asked.Get("sha") == d.SHA) && (asked.Get("environment") == "" || asked.Get("environment") == d.Environment) {
			found = append(found, d)
		}
	}
	c.reply(http.StatusOK, firstOf(c, found))
}

func (f *Fake) createDeployment(c *call, r *Repository) {
	var asked struct {
		Deployment
		AutoMerge        *bool     `json:"auto_merge"`
		RequiredContexts *[]string `json:"required_contexts"`
	}
	if !c.decode(&asked) {
		return
	}
	d := asked.Deployment
	d.AutoMerge, d.RequiredContexts, d.SHA = asked.AutoMerge, asked.RequiredContexts, r.resolve(d.Ref)
	switch {
	case d.SHA == "":
		say(c.answer, http.StatusUnprocessableEntity, "No ref found for: "+d.Ref)
		return
	case utf8.RuneCountInString(d.Description) > longestDescription:
		f.forbid(c, http.StatusUnprocessableEntity, "Validation Failed: description is too long (maximum is 140 characters)")
		return
	case d.AutoMerge == nil || *d.AutoMerge:
		f.forbid(c, http.StatusConflict, "Conflict merging the default branch into "+d.Ref)
		return
	case d.RequiredContexts == nil && f.unfinished(r, d.SHA):
		f.forbid(c, http.StatusConflict, "Conflict: Commit status checks failed for "+d.Ref)
		return
	}
	f.mu.Lock()
	d.ID = f.next()
	r.deployments = append(r.deployments, d)
	f.mu.Unlock()
	c.reply(http.StatusCreated, d)
}

// unfinished says whether any context of a commit stands at anything but success.
func (f *Fake) unfinished(r *Repository, sha string) bool {
	last := map[string]string{}
	for _, status := range f.Statuses(r) {
		if status.SHA == sha {
			last[strings.ToLower(status.Context)] = status.State
		}
	}
	for _, state := range last {
		if state != "success" {
			return true
		}
	}
	return false
}

func (f *Fake) createDeploymentStatus(c *call, r *Repository) {
	var status DeploymentStatus
	if !c.decode(&status) {
		return
	}
	if utf8.RuneCountInString(status.Description) > longestDescription {
		f.forbid(c, http.StatusUnprocessableEntity, "Validation Failed: description is too long (maximum is 140 characters)")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range r.deployments {
		if r.deployments[i].ID == number(c.PathValue("id")) {
			r.deployments[i].Statuses = append(r.deployments[i].Statuses, status)
			c.reply(http.StatusCreated, status)
			return
		}
	}
	say(c.answer, http.StatusNotFound, "Not Found")
}
