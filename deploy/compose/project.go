package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shipgate/shipgate/store"
)

// project is the app's stack as Compose sees it.
type project struct {
	plugin plugin
	app    string
	found  []service // the containers it had at the first look
}

func (p *project) args(args ...string) []string {
	return append([]string{"-p", projectName(p.app)}, args...)
}

// project gives the app's stack, after a look that all of it is ours: another server on this engine may have an app of the
// same name.
func (s *Stacks) project(ctx context.Context, app string) (*project, error) {
	if err := store.ValidateAppName(app); err != nil {
		return nil, err
	}
	found, err := s.findPlugin(ctx)
	if err != nil {
		return nil, err
	}
	p := &project{plugin: found, app: app}
	if p.found, err = p.services(ctx); err != nil {
		return nil, err
	}
	for _, service := range p.found {
		if !slices.Contains(strings.Split(service.Labels, ","), store.LabelData+"="+s.options.ServerID) {
			return nil, store.Problemf(store.CodeErrored, "container %s of stack %s is not one of this server's; it was left alone",
				service.Name, projectName(app)).WithHint("docker compose -p %s ps --all", projectName(app))
		}
	}
	return p, nil
}

// service is a container of the stack, in the words of docker compose ps:
// https://docs.docker.com/reference/cli/docker/compose/ps/
type service struct {
	Name     string
	Service  string
	State    string // created, restarting, running, removing, paused, dead, exited
	Health   string
	ExitCode int
	Labels   string // name=value, separated by commas
}

func (p *project) services(ctx context.Context) ([]service, error) {
	var output []byte
	said := &tail{}
	err := unlessBusy(ctx, said, func() (err error) {
		if output, err = p.plugin.output(ctx, p.args("ps", "--all", "--format", "json")...); err != nil {
			said.add(err.Error())
		}
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, engineTrouble("list the stack's containers", err, []string{err.Error()})
	}
	var services []service
	for line := range bytes.Lines(output) {
		var one service
		if err := json.Unmarshal(line, &one); err != nil {
			return nil, fmt.Errorf("list the stack's containers: %w", err)
		}
		services = append(services, one)
	}
	return services, nil
}

// halfMade gives the services with a container that was created and never started: what a plugin leaves that was ended in
// between. It may not be on all its networks yet, and Compose would start it as it is.
func (p *project) halfMade(r *rendering) (names []string) {
	for _, s := range p.found {
		if _, known := r.project.Services[s.Service]; known && s.State == "created" {
			names = append(names, s.Service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// explain says which service kept the stack from coming up, and hands on its last lines.
func (p *project) explain(ctx context.Context, err error, said []string, wait time.Duration, log func(string)) error {
	if problem := engineProblem(said); problem != nil {
		return problem
	}
	services, listErr := p.services(ctx)
	if listErr != nil {
		return listErr
	}
	guilty, how := blame(services, wait)
	if how == "" {
		guilty, how = blameEnded(services, said)
	}
	if how != "" {
		return p.accuse(ctx, guilty, how, log)
	}
	return store.Problemf(store.CodeFailed, "the stack does not come up: %s", lastOf(said, err)).WithHint("shipgate logs %s", p.app)
}

// confirm looks for itself: a Compose whose wait is over while it pauses between two looks takes the stack for a healthy one.
func (p *project) confirm(ctx context.Context, wait time.Duration, log func(string)) error {
	services, err := p.services(ctx)
	if err != nil {
		return err
	}
	if guilty, how := blame(services, wait); how != "" {
		return p.accuse(ctx, guilty, how, log)
	}
	return nil
}

func (p *project) accuse(ctx context.Context, service, how string, log func(string)) error {
	p.lastLines(ctx, service, log)
	return store.Problemf(store.CodeFailed, "service %s %s", service, how).WithHint("shipgate logs %s", p.app)
}

// blame finds the service that is not as it should be, and says how it is; the one that is worst off first.
func blame(services []service, wait time.Duration) (guilty, how string) {
	for _, wrong := range []struct {
		is  func(service) bool
		how func(service) string
	}{
		{func(s service) bool { return (s.State == "exited" || s.State == "dead") && s.ExitCode != 0 }, exited},
		{func(s service) bool { return s.State == "restarting" }, func(s service) string { return "keeps ending" }},
		{func(s service) bool { return s.Health == "unhealthy" }, func(service) string { return "is unhealthy" }},
		{func(s service) bool { return s.Health == "starting" }, func(service) string { return "is not healthy after " + seconds(wait) }},
	} {
		if at := slices.IndexFunc(services, wrong.is); at >= 0 {
			return services[at].Service, wrong.how(services[at])
		}
	}
	return "", ""
}

// blameEnded finds the service that ended well where Compose wanted one that runs.
func blameEnded(services []service, said []string) (guilty, how string) {
	for _, s := range services {
		if s.State == "exited" && namedIn(said, s.Name) {
			return s.Service, "ended with exit code 0: one that is to run once needs another that depends_on it with service_completed_successfully"
		}
	}
	return "", ""
}

func exited(s service) string { return "ended with exit code " + strconv.Itoa(s.ExitCode) }

func namedIn(said []string, name string) bool {
	return slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, name) && strings.Contains(line, "exited") })
}

func lastOf(said []string, err error) string {
	for _, line := range slices.Backward(said) {
		if strings.TrimSpace(line) != "" {
			return strings.TrimSpace(line)
		}
	}
	return err.Error()
}

// lastLines hands on the end of a service's log. That it cannot be had is said there too: the problem itself matters more.
func (p *project) lastLines(ctx context.Context, service string, log func(string)) {
	log(fmt.Sprintf("(last %d lines of %s)", lastLines, service))
	err := p.plugin.run(ctx, nil, log, p.args("logs", "--no-color", "--no-log-prefix", "--tail", strconv.Itoa(lastLines), service)...)
	if err != nil {
		log(fmt.Sprintf("the log of %s cannot be read: %v", service, err))
	}
}

// errDoubleNetwork says that two networks of the stack have one name.
var errDoubleNetwork = store.Problemf(store.CodeErrored, "a network of the stack is there twice").
	WithHint("docker network ls, and docker network rm of the one without containers")

// engineProblem knows what is not the stack's fault by the engine's and the plugin's words, nil for anything else.
func engineProblem(said []string) error {
	text := strings.Join(said, "\n")
	switch {
	case strings.Contains(text, "is ambiguous (") && strings.Contains(text, "matches found on name"):
		return errDoubleNetwork
	case strings.Contains(text, "Cannot connect to the Docker daemon"), strings.Contains(text, "error during connect"):
		return store.Problemf(store.CodeErrored, "the Docker engine does not answer").WithHint("sudo systemctl start docker")
	case strings.Contains(text, "no space left on device"):
		return store.Problemf(store.CodeErrored, "the disk of the Docker engine is full").WithHint("docker system df")
	case strings.Contains(text, "ddress already in use"), strings.Contains(text, "port is already allocated"), strings.Contains(text, "is already in use by container"):
		return store.Problemf(store.CodeErrored, "a name, address or port of the stack is taken: %s", lastOf(said, nil)).WithHint("docker ps --all")
	case strings.Contains(text, "No such image"):
		return store.Problemf(store.CodeErrored, "an image of the stack is gone: %s", lastOf(said, nil)).WithHint("docker image ls")
	}
	return nil
}

func engineTrouble(attempt string, err error, said []string) error {
	if problem := engineProblem(said); problem != nil {
		return problem
	}
	return fmt.Errorf("%s: %w: %s", attempt, err, lastOf(said, err))
}
