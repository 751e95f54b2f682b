package gitserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// deployBranch is what the config says; else the branch HEAD names, main or master, whichever exists; else the first
// of the two that is being pushed.
func (r *repository) deployBranch(app store.App, present map[string]plumbing.Hash, pushed []command) (string, error) {
	config, err := store.DecodeConfig(app.Source, app.Config)
	if err != nil {
		return "", err
	}
	if branch := config.Shared().Branch; branch != "" {
		name := "refs/heads/" + strings.TrimPrefix(branch, "refs/heads/")
		if err := checkName(name); err != nil {
			return "", store.Problemf(store.CodeUsage, "the app's deploy branch: %w", err).WithHint("shipgate app update %s", app.Name)
		}
		return name, nil
	}
	head, err := r.head()
	if err != nil {
		return "", err
	}
	for _, name := range []string{head, mainBranch, masterBranch} {
		if !present[name].IsZero() {
			return name, nil
		}
	}
	for _, c := range pushed {
		if c.name == mainBranch || c.name == masterBranch {
			return c.name, nil
		}
	}
	return mainBranch, nil
}

const mainBranch, masterBranch = "refs/heads/main", "refs/heads/master"

// head is the branch that HEAD names. It was written when the first deployment went live.
func (r *repository) head() (string, error) {
	content, err := os.ReadFile(filepath.Join(r.dir, "HEAD"))
	if err != nil {
		return "", fmt.Errorf("read HEAD: %w", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(content), "ref: ")), nil
}

// DeployBranch gives the full name of the ref that deploys, and its commit; empty when nothing is live from it yet.
func (s *Server) DeployBranch(_ context.Context, app store.App) (name, sha string, err error) {
	r, err := s.ensureRepository(app.Name)
	if err != nil {
		return "", "", err
	}
	present, err := r.refs.all()
	if err != nil {
		return "", "", err
	}
	name, err = r.deployBranch(app, present, nil)
	return name, hexOrEmpty(present[name]), err
}

// Check says whether a deployment that waited may go on: its branch is where the push expected it, or the push
// continues what the branch says now. Otherwise it gives a conflict that names the cure.
func (s *Server) Check(_ context.Context, d store.Deployment) error {
	if len(d.Updates) == 0 {
		return nil
	}
	r, err := s.repository(d.App)
	if err != nil {
		return err
	}
	update := d.Updates[0] // the deploy branch's; what else moves with it is kept from moving by checkValue
	current, err := r.refs.get(update.Name)
	if err != nil {
		return err
	}
	if current.IsZero() || hexOrEmpty(current) == update.Old || current.String() == update.New {
		return nil
	}
	continues, known, err := r.packs.Load().isAncestor(current, plumbing.NewHash(update.New))
	if err != nil || continues {
		return err
	}
	if !known && (d.Trigger == store.TriggerWebhook || d.Trigger == store.TriggerCaughtUp) {
		return nil // the forge has moved its branch there, and has the history that is not here
	}
	if !known {
		return store.Problemf(store.CodeConflict, "%s moved to %.7s while deployment %d waited, and whether %s continues it cannot be known: its history is at the forge",
			shortName(update.Name), current.String(), d.ID, d.ShortSHA()).WithHint("push it to the forge, or git pull --rebase and push again")
	}
	return store.Problemf(store.CodeConflict, "%s moved to %.7s while deployment %d waited, and %s does not continue it",
		shortName(update.Name), current.String(), d.ID, d.ShortSHA()).WithHint("git pull --rebase, then push again")
}

// Advance moves the deployment's refs, durably. It can be repeated. The first is the deploy branch, which nothing else
// moves meanwhile; another one that has moved on since a first Advance stays where it is.
func (s *Server) Advance(_ context.Context, d store.Deployment) error {
	if len(d.Updates) == 0 {
		return nil
	}
	r, err := s.repository(d.App)
	if err != nil {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	for i, update := range d.Updates {
		current, err := r.refs.get(update.Name)
		if err != nil {
			return err
		}
		now := hexOrEmpty(current)
		if now == update.New || (i > 0 && now != update.Old) {
			continue
		}
		if update.New == "" {
			err = r.refs.remove(update.Name)
		} else {
			err = r.refs.set(update.Name, plumbing.NewHash(update.New))
		}
		if err != nil {
			return fmt.Errorf("advance %s of %s: %w", update.Name, d.App, err)
		}
	}
	return r.settleHead(d.Updates[0].Name)
}

// settleHead makes HEAD name the branch that deployed first, so that a branch pushed later does not take its place.
func (r *repository) settleHead(name string) error {
	head, err := r.head()
	if err != nil || head == name {
		return err
	}
	current, err := r.refs.get(head)
	if err != nil || !current.IsZero() {
		return err
	}
	return writeDurably(filepath.Join(r.dir, "HEAD"), "ref: "+name+"\n")
}

var shortID = regexp.MustCompile(`^[0-9a-f]{4,40}$`)

// Resolve finds the commit that a branch, a tag, or a full or short id names; "" is the deploy branch. The
// forge is asked first, unless a full id is here; while it cannot be reached, what is here counts. What is still at the
// forge is left for Obtain, since it may be large: its subject is empty, and a full id is not asked for at all.
func (s *Server) Resolve(ctx context.Context, app, ref string) (sha, subject string, err error) {
	name, away, err := s.nameAtForge(ctx, app, ref)
	if store.CodeOf(err) == store.CodeUnreachable && ctx.Err() == nil {
		if sha, subject, here := s.resolveHere(ctx, app, ref); here == nil {
			return sha, subject, nil
		}
	}
	if err != nil || away {
		return name, "", err
	}
	return s.resolveHere(ctx, app, name)
}

func (s *Server) resolveHere(ctx context.Context, app, ref string) (sha, subject string, err error) {
	r, err := s.repository(app)
	if err != nil {
		return "", "", err
	}
	var id plumbing.Hash
	if ref == "" {
		id, err = s.deployTip(ctx, app)
	} else {
		id, err = r.lookUp(ref)
	}
	if err != nil {
		return "", "", err
	}
	commit, err := r.packs.Load().peel(id)
	if err != nil {
		return "", "", store.Problemf(store.CodeUsage, "%s of %s is no commit: %w", ref, app, err)
	}
	return commit.Hash.String(), subjectOf(commit.Message), nil
}

func (s *Server) deployTip(ctx context.Context, name string) (plumbing.Hash, error) {
	app, err := s.store.App(ctx, name)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	branch, sha, err := s.DeployBranch(ctx, app)
	if err == nil && sha == "" {
		err = store.Problemf(store.CodeNotFound, "nothing of %s is live from %s yet", name, shortName(branch)).
			WithHint("git push REMOTE %s", shortName(branch))
	}
	return plumbing.NewHash(sha), err
}

func (r *repository) lookUp(ref string) (plumbing.Hash, error) {
	for _, name := range []string{ref, "refs/heads/" + ref, "refs/tags/" + ref} {
		if !strings.HasPrefix(name, "refs/") || plumbing.ReferenceName(name).Validate() != nil {
			continue
		}
		if id, err := r.refs.get(name); err != nil || !id.IsZero() {
			return id, err
		}
	}
	unknown := store.Problemf(store.CodeNotFound, "%s has no branch, tag or commit %q", r.app, ref).
		WithHint("push it first, or give the full id of a commit")
	if !shortID.MatchString(strings.ToLower(ref)) {
		return plumbing.ZeroHash, unknown
	}
	ids, err := r.packs.Load().commitsWithPrefix(strings.ToLower(ref))
	switch {
	case err != nil:
		return plumbing.ZeroHash, err
	case len(ids) == 0 && len(ref) == 40:
		return plumbing.ZeroHash, unknown.WithHint("push it first; or, to have it fetched from GitHub: shipgate app update %s --repo OWNER/NAME", r.app)
	case len(ids) == 0:
		return plumbing.ZeroHash, unknown
	case len(ids) > 1:
		return plumbing.ZeroHash, store.Problemf(store.CodeUsage, "%d commits of %s start with %s", len(ids), r.app, ref).
			WithHint("give more digits of its id")
	}
	return ids[0], nil
}
