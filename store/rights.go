package store

import (
	"fmt"
	"slices"
	"strings"
)

// Right is one kind of action that the holder of a token may take.
type Right string

// The rights. Every one of them includes RightRead, and RightAdmin includes all others.
const (
	RightRead   Right = "read"   // see apps, deployments and logs
	RightDeploy Right = "deploy" // push, deploy, roll back, cancel, stop, start and restart
	RightEnv    Right = "env"    // list the names of environment variables, set and remove them
	RightRun    Right = "run"    // run one-off commands in an app's container
	RightAdmin  Right = "admin"  // change the configuration, destroy, and see secret values
)

var allRights = Rights{RightRead, RightDeploy, RightEnv, RightRun, RightAdmin}

// Rights is a set of rights.
type Rights []Right

// Has reports whether the set includes a right.
func (r Rights) Has(right Right) bool {
	switch {
	case !slices.Contains(allRights, right):
		return false
	case right == RightRead:
		return len(r) > 0
	}
	return slices.Contains(r, right) || slices.Contains(r, RightAdmin)
}

// Includes reports whether the set has every right of another one.
func (r Rights) Includes(other Rights) bool {
	return !slices.ContainsFunc(other, func(right Right) bool { return !r.Has(right) })
}

// String returns the rights separated by commas, as the command line takes them.
func (r Rights) String() string {
	names := make([]string, len(r))
	for i, right := range r {
		names[i] = string(right)
	}
	return strings.Join(names, ",")
}

// NewRights returns a valid set: known rights, each once, in one order, with what they include written out.
func NewRights(names ...Right) (Rights, error) {
	for _, name := range names {
		if !slices.Contains(allRights, name) {
			return nil, Problemf(CodeUsage, "right %q is unknown: use %s", name, strings.ReplaceAll(allRights.String(), ",", ", ")).
				WithHint("shipgate token create --rights read,deploy --app APP")
		}
	}
	if len(names) == 0 {
		return nil, Problemf(CodeUsage, "a token needs rights: %s", strings.ReplaceAll(allRights.String(), ",", ", ")).
			WithHint("shipgate token create --rights read,deploy --app APP")
	}
	set := Rights{}
	for _, right := range allRights {
		if Rights(names).Has(right) {
			set = append(set, right)
		}
	}
	return set, nil
}

// RightsOfScope returns what a scope of earlier versions means now. The old scope deploy could also change environment
// variables; it no longer does.
func RightsOfScope(scope string) (Rights, error) {
	switch scope {
	case "admin", "deploy", "read":
		return NewRights(Right(scope))
	}
	return nil, Problemf(CodeUsage, "scope %q is unknown: use rights instead", scope).
		WithHint("shipgate token create --rights read,deploy --app APP")
}

// readRights reads the column rights. What a newer version wrote and this one does not know grants nothing.
func readRights(column string) (Rights, error) {
	known := slices.DeleteFunc(strings.Split(column, ","), func(name string) bool { return !slices.Contains(allRights, Right(name)) })
	rights := make([]Right, len(known))
	for i, name := range known {
		rights[i] = Right(name)
	}
	if len(rights) == 0 {
		return Rights{}, nil
	}
	set, err := NewRights(rights...)
	if err != nil {
		return nil, fmt.Errorf("read rights %q: %w", column, err)
	}
	return set, nil
}
