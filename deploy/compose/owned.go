package compose

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/shipgate/shipgate/store"
)

// containers are those that carry the labels of an app's stack.
type containers struct {
	ours []store.StackContainer // that we had Compose make
	old  []store.StackContainer // ours, too, of the project that servers up to 47a093d made
}

// containerLabel is the value of store.LabelContainer on the containers of a service.
func containerLabel(project, service string) string { return project + "/" + service }

func (s *Stacks) projectName(app string) string { return store.ProjectName(s.options.ServerID, app) }

// containers returns the app's own containers. Compose tells containers apart by their labels alone, and stops, replaces and
// removes what carries those of the project. A container also has the labels of the image or commit that it was made from,
// so one that only carries them is an errored Problem with strict, and left out without.
func (s *Stacks) containers(ctx context.Context, app string, strict bool) (found containers, err error) {
	if err := store.ValidateAppName(app); err != nil {
		return found, err
	}
	current, err := s.options.Engine.StackContainers(ctx, s.projectName(app))
	if err != nil {
		return found, err
	}
	for _, c := range current {
		switch {
		case s.owns(c, app):
			found.ours = append(found.ours, c)
		case strict && c.Labels[store.LabelComposeOneOff] != "True": // Compose leaves those of docker compose run alone
			return found, store.Problemf(store.CodeErrored, "container %s carries the labels of stack %s and is not one of it; it was left alone",
				c.Name, s.projectName(app)).WithHint("docker rm --force %s # or make it anew with --label %s=", c.Name, store.LabelComposeProject)
		}
	}
	old, err := s.options.Engine.StackContainers(ctx, store.OldProjectName(app))
	if err != nil {
		return found, err
	}
	for _, c := range old {
		if s.ownsOld(c, app) {
			found.old = append(found.old, c)
		}
	}
	return found, nil
}

// owns reports whether we had Compose make the container for the app: our label, its labels and the name agree.
func (s *Stacks) owns(c store.StackContainer, app string) bool {
	project := s.projectName(app)
	return c.Labels[store.LabelContainer] == containerLabel(project, c.Service()) && s.named(c, app, project)
}

func (s *Stacks) ownsOld(c store.StackContainer, app string) bool {
	_, later := c.Labels[store.LabelContainer]
	return !later && s.named(c, app, store.OldProjectName(app))
}

// named compares a container's name with its labels. Only the container that the labels were made for has it.
func (s *Stacks) named(c store.StackContainer, app, project string) bool {
	if c.Labels[store.LabelData] != s.options.ServerID || c.Labels[store.LabelApp] != app ||
		c.Labels[store.LabelRole] != string(store.RoleStack) || c.Labels[store.LabelComposeProject] != project {
		return false
	}
	deployment := c.Labels[store.LabelDeployment]
	names := []string{project + "-" + c.Service() + "-" + c.Labels[store.LabelComposeNumber]}
	if number, err := strconv.ParseInt(deployment, 10, 64); err == nil {
		names = append(names, store.ContainerName(s.options.ServerID, app, number), store.OldContainerName(app, number))
	}
	return slices.Contains(names, strings.TrimPrefix(c.Name, replacing(c.Name)))
}

// replacing returns what Compose puts before the name of a container that is to take the place of another one: the start of
// the other's id and "_".
func replacing(name string) string {
	const digits = 12
	if len(name) > digits && name[digits] == '_' && strings.Trim(name[:digits], "0123456789abcdef") == "" {
		return name[:digits+1]
	}
	return ""
}

// remove stops and removes containers. Volumes stay.
func (s *Stacks) remove(ctx context.Context, all []store.StackContainer) error {
	return inOrder(ctx, all, s.options.Engine.RemoveStackContainer)
}

// inOrder does something with all containers, with those first that no other one depends on, and at once with those that are
// alike in that.
func inOrder(ctx context.Context, all []store.StackContainer, do func(ctx context.Context, id string) error) error {
	for len(all) > 0 {
		next := slices.DeleteFunc(slices.Clone(all), func(c store.StackContainer) bool { return needed(c, all) })
		if len(next) == 0 { // in a circle
			next = all
		}
		failures := make([]error, len(next))
		var working sync.WaitGroup
		for i, c := range next {
			working.Go(func() { failures[i] = do(ctx, c.ID) })
		}
		working.Wait()
		if err := errors.Join(failures...); err != nil {
			return err
		}
		all = slices.DeleteFunc(slices.Clone(all), func(c store.StackContainer) bool {
			return slices.ContainsFunc(next, func(gone store.StackContainer) bool { return gone.ID == c.ID })
		})
	}
	return nil
}

// needed reports whether one of the others says that it depends on the container's service.
func needed(c store.StackContainer, others []store.StackContainer) bool {
	return slices.ContainsFunc(others, func(other store.StackContainer) bool {
		for dependency := range strings.SplitSeq(other.Labels[store.LabelComposeDepends], ",") {
			if service, _, _ := strings.Cut(dependency, ":"); service == c.Service() && other.Service() != service {
				return true
			}
		}
		return false
	})
}
