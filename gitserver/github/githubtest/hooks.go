package githubtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Hook is where deliveries go.
type Hook struct {
	URL         string
	Secret      string
	ContentType string // json or form
}

// Delivery is one webhook delivery, with what it was answered.
type Delivery struct {
	ID          int64
	GUID        string
	Event       string
	Payload     []byte
	DeliveredAt time.Time
	Redelivery  bool
	Status      int // 0: nobody answered
	Answer      string
}

const noCommit = "0000000000000000000000000000000000000000"

// SetHook says where deliveries go. An empty secret keeps the one that was made up.
func (f *Fake) SetHook(hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if hook.Secret == "" {
		hook.Secret = f.hook.Secret
	}
	f.hook = hook
}

// AddHook lists a hook of the repository itself, as a token's webhook is. LastResponse is what its last delivery was answered.
func (f *Fake) AddHook(r *Repository, hook Hook, active bool, lastResponse int, events ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.hooks = append(r.hooks, object{
		"id": f.next(), "name": "web", "active": active, "events": events, "type": "Repository",
		"config":        object{"url": hook.URL, "content_type": hook.ContentType, "insecure_ssl": "0"},
		"last_response": object{"code": lastResponse, "status": "active", "message": "OK"},
	})
}

// Lose has deliveries noted but not sent, as when the server cannot be reached.
func (f *Fake) Lose(losing bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.losing = losing
}

// Push commits to a branch and delivers the webhook of it.
func (f *Fake) Push(r *Repository, branch, message string, files map[string]string) (sha string, d Delivery, err error) {
	ref := "refs/heads/" + branch
	before := r.resolve(ref)
	if sha, err = r.Commit(branch, message, files); err != nil {
		return "", Delivery{}, err
	}
	d, err = f.Announce(r, ref, before, sha)
	return sha, d, err
}

// Announce delivers the webhook of a ref that moved between two commits; an empty one means that it was not there.
func (f *Fake) Announce(r *Repository, ref, before, after string) (Delivery, error) {
	payload, err := f.PushPayload(r, ref, before, after)
	if err != nil {
		return Delivery{}, err
	}
	return f.Deliver("push", payload)
}

// PushPayload gives the body of a push event.
func (f *Fake) PushPayload(r *Repository, ref, before, after string) ([]byte, error) {
	commits, head := []object{}, any(nil)
	forced := false
	if after != "" {
		arguments := []string{"log", "--format=%H%x00%cI%x00%B%x01", after, "--not"}
		if before != "" {
			arguments = append(arguments, before)
			_, err := r.run("", "merge-base", "--is-ancestor", before, after)
			forced = err != nil
		} else {
			arguments = append(arguments, "--exclude="+ref, "--all")
		}
		listed, err := r.run("", arguments...)
		if err != nil {
			return nil, err
		}
		commits = commitsOf(listed)
		slices.Reverse(commits)
		only, err := r.run("", "log", "-1", "--format=%H%x00%cI%x00%B%x01", after)
		if err != nil {
			return nil, err
		}
		head = commitsOf(only)[0]
	}
	or := func(sha string) string {
		if sha == "" {
			return noCommit
		}
		return sha
	}
	return json.Marshal(object{
		"ref": ref, "before": or(before), "after": or(after), "created": before == "", "deleted": after == "", "forced": forced,
		"base_ref": nil, "commits": commits, "head_commit": head, "repository": f.describe(r),
		"installation": object{"id": r.installation}, "pusher": object{"name": "octocat"}, "sender": object{"login": "octocat", "id": 1},
	})
}

func (f *Fake) describe(r *Repository) object {
	return object{
		"id": r.ID, "name": r.Name, "full_name": r.FullName(), "private": r.Private, "default_branch": "main",
		"owner":     object{"login": r.Owner, "name": r.Owner, "id": 1},
		"pushed_at": f.now().Unix(), "clone_url": f.URL() + "/" + r.FullName() + ".git", "html_url": f.URL() + "/" + r.FullName(),
		"custom_properties": object{"teams": []string{"web", "core"}},
	}
}

func commitsOf(listed string) []object {
	commits := []object{}
	for line := range strings.SplitSeq(listed, "\x01") {
		parts := strings.SplitN(strings.TrimPrefix(line, "\n"), "\x00", 3)
		if len(parts) == 3 {
			commits = append(commits, object{
				"id": parts[0], "timestamp": parts[1], "message": strings.TrimRight(parts[2], "\n"), "distinct": true,
				"author": object{"name": "Octo Cat", "email": "octo@example.com"}, "added": []string{}, "removed": []string{}, "modified": []string{},
			})
		}
	}
	return commits
}

// Deliver sends an event, signed, and keeps what it is answered.
func (f *Fake) Deliver(event string, payload []byte) (Delivery, error) {
	f.mu.Lock()
	id := f.next()
	f.mu.Unlock()
	guid := random(16)
	guid = guid[:8] + "-" + guid[8:12] + "-" + guid[12:16] + "-" + guid[16:20] + "-" + guid[20:]
	return f.send(Delivery{ID: id, GUID: guid, Event: event, Payload: payload})
}

// Redeliver sends an event again, under the same GUID.
func (f *Fake) Redeliver(guid string) (Delivery, error) {
	for _, d := range f.Deliveries() {
		if d.GUID == guid {
			f.mu.Lock()
			d.ID, d.Redelivery, d.Status, d.Answer = f.next(), true, 0, ""
			f.mu.Unlock()
			return f.send(d)
		}
	}
	return Delivery{}, fmt.Errorf("redeliver: nothing was delivered as %s", guid)
}

// Deliveries are all there were, the newest first.
func (f *Fake) Deliveries() []Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.deliveries)
	slices.Reverse(all)
	return all
}

func (f *Fake) send(d Delivery) (Delivery, error) {
	f.mu.Lock()
	hook, losing := f.hook, f.losing
	f.mu.Unlock()
	d.DeliveredAt = f.now()
	var err error
	if !losing {
		d.Status, d.Answer, err = hook.post(d)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliveries = append(f.deliveries, d)
	return d, err
}

func (h Hook) post(d Delivery) (status int, answer string, err error) {
	body, kind := d.Payload, "application/json"
	if h.ContentType == "form" {
		body, kind = []byte(url.Values{"payload": {string(d.Payload)}}.Encode()), "application/x-www-form-urlencoded"
	}
	request, err := http.NewRequest(http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("make delivery: %w", err)
	}
	for name, value := range map[string]string{
		"Content-Type": kind, "User-Agent": "GitHub-Hookshot/044aadd", "X-GitHub-Event": d.Event, "X-GitHub-Delivery": d.GUID,
		"X-Hub-Signature-256": Signature(h.Secret, body), "X-GitHub-Hook-ID": "1", "X-GitHub-Hook-Installation-Target-Type": "integration",
	} {
		request.Header.Set(name, value)
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("deliver: %w", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	return response.StatusCode, string(said), err
}

// Signature is the value of X-Hub-Signature-256.
func Signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func (f *Fake) getHook(c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := f.hook.ContentType
	if kind == "" {
		kind = "json"
	}
	c.reply(http.StatusOK, object{"url": f.hook.URL, "content_type": kind, "secret": "********", "insecure_ssl": "0"})
}

func (f *Fake) listHooks(c *call, r *Repository) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.reply(http.StatusOK, firstOf(c, r.hooks))
}

func (f *Fake) listDeliveries(c *call) {
	listed := []object{}
	for _, d := range firstOf(c, f.Deliveries()) {
		word := "OK"
		if d.Status/100 != 2 {
			word = "Invalid HTTP Response"
		}
		listed = append(listed, object{"id": d.ID, "guid": d.GUID, "event": d.Event, "delivered_at": d.DeliveredAt.UTC().Format(time.RFC3339),
			"redelivery": d.Redelivery, "duration": 0.1, "status": word, "status_code": d.Status, "action": nil})
	}
	c.reply(http.StatusOK, listed)
}

func (f *Fake) attempt(c *call) {
	for _, d := range f.Deliveries() {
		if d.ID == number(c.PathValue("id")) {
			c.reply(http.StatusAccepted, object{})
			f.redelivering.Go(func() { f.Redeliver(d.GUID) })
			return
		}
	}
	say(c.answer, http.StatusNotFound, "Not Found")
}
