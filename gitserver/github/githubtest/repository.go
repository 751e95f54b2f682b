package githubtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Gone instead of a file's content removes the file.
const Gone = "\x00gone"

// Repository is a bare one on disk, and what GitHub keeps about it.
type Repository struct {
	ID      int64
	Owner   string
	Name    string
	Private bool

	fake         *Fake
	known        sync.Map // commits that are there
	installation int64
	permissions  map[string]string
	statuses     []Status
	deployments  []Deployment
	hooks        []object
}

// FullName is how people write it.
func (r *Repository) FullName() string { return r.Owner + "/" + r.Name }

func (r *Repository) dir() string { return filepath.Join(r.fake.root, r.FullName()+".git") }

// Repository makes an empty one that everyone may read. The App is installed in it with all it asks for.
func (f *Fake) Repository(owner, name string) (*Repository, error) {
	f.mu.Lock()
	r := &Repository{ID: f.next(), Owner: owner, Name: name, fake: f, installation: f.next()}
	r.permissions = permissionsOf([]string{"contents:read", "statuses:write", "deployments:write"})
	f.repositories[strings.ToLower(r.FullName())] = r
	f.mu.Unlock()
	if err := os.MkdirAll(r.dir(), 0o755); err != nil {
		return nil, fmt.Errorf("make repository: %w", err)
	}
	if _, err := r.run("", "init", "-q", "--bare", "-b", "main", "."); err != nil {
		return nil, err
	}
	for _, setting := range []string{"uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter", "http.uploadpack"} {
		if _, err := r.run("", "config", setting, "true"); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// SetPrivate keeps a repository from those without a token that may read it.
func (f *Fake) SetPrivate(r *Repository) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Private = true
}

// Install lets the App into a repository with the given "permission:level" only, as another installation than before.
// Without any the App is not installed there.
func (f *Fake) Install(r *Repository, permissions ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.installation, r.permissions = 0, permissionsOf(permissions)
	if len(permissions) > 0 {
		r.installation = f.next()
	}
}

// Rename gives a repository another name, and owner if need be. The old name is gone.
func (f *Fake) Rename(r *Repository, owner, name string) error {
	before := r.dir()
	f.mu.Lock()
	delete(f.repositories, strings.ToLower(r.FullName()))
	r.Owner, r.Name = owner, name
	f.repositories[strings.ToLower(r.FullName())] = r
	f.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(r.dir()), 0o755); err != nil {
		return fmt.Errorf("rename repository: %w", err)
	}
	return os.Rename(before, r.dir())
}

// run gives what git says, without the line's end.
func (r *Repository) run(input string, arguments ...string) (string, error) {
	command := exec.Command(r.fake.git, arguments...)
	command.Dir = r.dir()
	command.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0")
	command.Stdin = strings.NewReader(input)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(arguments, " "), err, complaint.String())
	}
	return strings.TrimSpace(string(output)), nil
}

// Commit adds one on top of a branch, which it makes if need be, and tells nobody.
func (r *Repository) Commit(branch, message string, files map[string]string) (sha string, err error) {
	ref := "refs/heads/" + branch
	var stream strings.Builder
	fmt.Fprintf(&stream, "commit %s\ncommitter Octo Cat <octo@example.com> %d +0000\ndata %d\n%s\n", ref, time.Now().Unix(), len(message), message)
	if parent := r.resolve(ref); parent != "" {
		fmt.Fprintf(&stream, "from %s\n", parent)
	}
	for name, content := range files {
		if content == Gone {
			fmt.Fprintf(&stream, "D %s\n", name)
			continue
		}
		fmt.Fprintf(&stream, "M 100644 inline %s\ndata %d\n%s\n", name, len(content), content)
	}
	if _, err := r.run(stream.String(), "fast-import", "--quiet", "--force"); err != nil {
		return "", err
	}
	sha = r.resolve(ref)
	return sha, nil
}

// SetRef moves a ref to a commit, or removes it when that is empty, and tells nobody.
func (r *Repository) SetRef(ref, sha string) error {
	if sha == "" {
		_, err := r.run("", "update-ref", "-d", ref)
		return err
	}
	_, err := r.run("", "update-ref", ref, sha)
	return err
}

// resolve gives the commit of a ref, branch or commit; empty when there is none.
func (r *Repository) resolve(name string) string {
	sha, err := r.run("", "rev-parse", "--verify", "-q", name+"^{commit}")
	if err != nil {
		return ""
	}
	return sha
}

func (r *Repository) has(sha string) bool {
	if _, known := r.known.Load(sha); known {
		return true
	}
	if r.resolve(sha) == "" {
		return false
	}
	r.known.Store(sha, true)
	return true
}

// serveGit lets git read a repository, by its own git http-backend.
func (f *Fake) serveGit(w http.ResponseWriter, r *http.Request) {
	path, isInfo := strings.CutSuffix(r.URL.Path, "/info/refs")
	path, isPack := strings.CutSuffix(path, "/git-upload-pack")
	owner, name, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(path, "/"), ".git"), "/")
	repository := f.find(owner, name)
	if isInfo == isPack || (isInfo && r.URL.Query().Get("service") != "git-upload-pack") {
		http.Error(w, "not served here", http.StatusForbidden)
		return
	}
	_, token, given := r.BasicAuth()
	who, good := f.grantOfToken(token)
	switch {
	case given && !good, !given && (repository == nil || repository.Private):
		w.Header().Set("WWW-Authenticate", `Basic realm="GitHub"`)
		http.Error(w, "Invalid username or token.", http.StatusUnauthorized)
		return
	case repository == nil, given && (!who.sees(repository) || !who.may("contents", "read")):
		http.Error(w, "Repository not found.", http.StatusNotFound)
		return
	}
	f.record(r, who)
	if fault := f.faultFor(r); fault != nil {
		fault.answer(w, r)
		return
	}
	r.TransferEncoding = nil // a chunked body is none that CGI has a length for; git finds its end by itself
	r.URL.Path = strings.Replace(r.URL.Path, path, "/"+repository.FullName()+".git", 1)
	(&cgi.Handler{Path: f.git, Args: []string{"http-backend"}, Stderr: errorSink{}, Env: []string{
		"GIT_PROJECT_ROOT=" + f.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
	}}).ServeHTTP(w, r)
}

// errorSink drops what git says when a client hangs up.
type errorSink struct{}

func (errorSink) Write(content []byte) (int, error) { return len(content), nil }

// WaitFor waits until a condition holds that one of its requests makes true.
func (f *Fake) WaitFor(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("wait for GitHub"), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
