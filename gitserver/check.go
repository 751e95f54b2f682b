package gitserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/shipgate/shipgate/store"
)

// chooseDeployBranch leaves it empty for an app whose versions are images: no branch deploys it.
func (p *push) chooseDeployBranch() error {
	if p.app.Source == store.SourceImage {
		return nil
	}
	present, err := p.repository.refs.all()
	if err != nil {
		return err
	}
	p.deployBranch, err = p.repository.deployBranch(p.app, present, p.request.commands)
	return err
}

// checkCommands refuses what needs neither the pack nor the lock to be seen.
func (p *push) checkCommands() {
	for _, c := range p.request.commands {
		switch err := checkName(c.name); {
		case err != nil:
			p.refuse(c.name, err)
		case p.commands(c.name) > 1:
			p.refuse(c.name, refusal("%s is in the push twice", c.name))
		case c.deletes() && c.name == p.deployBranch:
			p.refuse(c.name, store.Problemf(store.CodeConflict, "%s is the branch that deploys, and cannot be deleted", shortName(c.name)).
				WithHint("shipgate app destroy %s, if it is to go", p.app.Name))
		}
	}
}

func (p *push) noteOptions() {
	for _, option := range p.request.options {
		p.out.line("note", fmt.Sprintf("push option %.100q is not known, and ignored", option))
	}
}

// checkValues refuses commands that do not fit the present refs. The repository is locked.
func (p *push) checkValues(ctx context.Context, objects *objects) error {
	present, err := p.repository.refs.all()
	if err != nil {
		return err
	}
	undecided, err := p.server.undecided(ctx, p.app.Name)
	if err != nil {
		return err
	}
	future := maps.Clone(present)
	for _, d := range undecided {
		for _, update := range d.Updates {
			future[update.Name] = plumbing.NewHash(update.New)
		}
	}
	for _, c := range p.accepted() {
		if c.deletes() {
			delete(future, c.name)
		}
	}
	for _, c := range p.accepted() {
		if err := p.checkValue(c, present, undecided, objects); err != nil {
			p.refuse(c.name, err)
			continue
		}
		if other, clashes := clash(future, c.name); clashes && !c.deletes() {
			p.refuse(c.name, store.Problemf(store.CodeConflict, "%s exists, and %s cannot exist beside it", other, c.name))
			continue
		}
		future[c.name] = c.new
	}
	return nil
}

func (p *push) checkValue(c command, present map[string]plumbing.Hash, undecided []store.Deployment, objects *objects) error {
	current := present[c.name]
	if c.deletes() && current.IsZero() {
		return store.Problemf(store.CodeNotFound, "there is no %s", c.name)
	}
	if err := p.checkTip(c, objects); err != nil {
		return err
	}
	if c.name == p.deployBranch {
		return checkDeploy(c, current, len(undecided) > 0, objects)
	}
	for _, d := range undecided {
		for _, update := range d.Updates {
			if update.Name == c.name {
				return store.Problemf(store.CodeConflict, "%s moves with deployment %d, which has not finished", shortName(c.name), d.ID).
					WithHint("push again when it has: shipgate show %d", d.ID)
			}
		}
	}
	if current != c.old {
		return stale(c, current)
	}
	return nil
}

// checkDeploy lets a push of the deploy branch in whose old value is right, or may turn out right when its turn comes,
// or whose commit continues what is there.
func checkDeploy(c command, current plumbing.Hash, waits bool, objects *objects) error {
	if current == c.old || waits {
		return nil
	}
	if !current.IsZero() {
		continues, _, err := objects.isAncestor(current, c.new)
		if err != nil || continues {
			return err
		}
	}
	return stale(c, current)
}

func stale(c command, current plumbing.Hash) error {
	if current.IsZero() {
		return store.Problemf(store.CodeConflict, "stale info: %s does not exist any more", shortName(c.name)).
			WithHint("git fetch, then push again")
	}
	return store.Problemf(store.CodeConflict, "stale info: %s moved to %.7s meanwhile", shortName(c.name), current.String()).
		WithHint("git pull --rebase, then push again")
}

func (p *push) checkTip(c command, objects *objects) error {
	if c.deletes() {
		return nil
	}
	kind, known := objects.kind(c.new)
	if !known && len(objects.boundary) > 0 {
		return store.Problemf(store.CodeConflict, "git left out commit %.7s, for it is older than what the server has: single commits from the forge", c.new.String()).
			WithHint("shipgate deploy %s --ref %s", p.app.Name, c.new)
	}
	if !known {
		return refusal("object %s is missing", c.new)
	}
	if strings.HasPrefix(c.name, "refs/heads/") && kind != plumbing.CommitObject {
		return refusal("a branch holds commits, and %.7s is a %s", c.new.String(), kind)
	}
	return nil
}

// undecided lists the app's deployments that have no verdict yet.
func (s *Server) undecided(ctx context.Context, app string) ([]store.Deployment, error) {
	unfinished, err := s.store.Unfinished(ctx, app)
	decided := func(d store.Deployment) bool { return d.Verdict != "" }
	return slices.DeleteFunc(unfinished, decided), err
}

func hexOrEmpty(id plumbing.Hash) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// message is an error as the report gives it: one printable line.
func message(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if problem, ok := store.AsProblem(err); ok {
		text = strings.Join(strings.Fields(problem.Message), " ")
	}
	return printable(text)
}

// subjectOf is the first line of a commit message, short enough for one line of output.
func subjectOf(message string) string {
	subject, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	if runes := []rune(printable(subject)); len(runes) > 100 {
		return string(runes[:99]) + "…"
	}
	return printable(subject)
}
