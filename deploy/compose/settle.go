package compose

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/shipgate/shipgate/store"
)

const (
	mostRestarts = 5           // of one container during an up: one that only waits for another service gets that many tries
	lookEvery    = time.Second // at the containers, when the engine tells of no change
)

// settling waits for the containers of a stack to be as they should be. The rule is one for all services: a container runs,
// is healthy where it has a health check, and has run for the liveness window since its last start; or it has ended with exit
// code 0 for good. Compose's own --wait is not asked: it believes one look, and takes a service that did its work for a
// failure.
type settling struct {
	spec     store.StackSpec
	routed   string         // the service that gets the requests
	restarts map[string]int // by id, of containers that were there before; only what comes on top counts
	began    time.Time
}

// verdict is what one look at the containers says.
type verdict struct {
	guilty, how string        // the service that fails, and how
	again       time.Duration // when another look is due; 0: all is well
	late        string        // what to say of it when the time is over
}

// judge looks at all containers. As long as Compose is at work, only those count that were started meanwhile: the others may
// be about to be started.
func (s *settling) judge(all []store.StackContainer, atWork bool, now time.Time) verdict {
	waiting := verdict{}
	if len(all) == 0 || atWork {
		waiting = verdict{guilty: s.routed, again: lookEvery, late: "was not started within " + seconds(s.spec.Wait)}
	}
	for _, c := range all {
		if atWork && c.StartedAt.Before(s.began) && !s.loops(c, now) {
			continue
		}
		v := s.judgeOne(c, now)
		if v.how != "" {
			return verdict{guilty: c.Service(), how: v.how}
		}
		if v.again > 0 && (waiting.again == 0 || v.again <= waiting.again) {
			waiting = verdict{guilty: c.Service(), again: v.again, late: v.late}
		}
	}
	return waiting
}

func (s *settling) judgeOne(c store.StackContainer, now time.Time) verdict {
	lived := now.Sub(c.StartedAt)
	switch {
	case s.loops(c, now):
		return verdict{how: fmt.Sprintf("keeps ending: exit code %d, started again %d times", c.ExitCode, c.Restarts-s.restarts[c.ID])}
	case ended(c) && c.ExitCode != 0:
		return verdict{how: "ended with exit code " + strconv.Itoa(c.ExitCode)}
	case ended(c) && c.Service() == s.routed:
		return verdict{how: "ended with exit code 0, and it is the one that gets the requests"}
	case ended(c):
		return verdict{}
	case c.State == "paused":
		return verdict{how: "is paused"}
	case c.Health == "unhealthy":
		return verdict{how: "is unhealthy"}
	case c.State != "running":
		return verdict{again: lookEvery, late: "does not run after " + seconds(s.spec.Wait)}
	case c.Health == "starting":
		return verdict{again: lookEvery, late: "is not healthy after " + seconds(s.spec.Wait)}
	case lived < s.spec.Liveness:
		return verdict{again: s.spec.Liveness - lived, late: "keeps ending"}
	}
	return verdict{}
}

// loops reports whether the engine starts a container again and again, and it has not lived long enough since.
func (s *settling) loops(c store.StackContainer, now time.Time) bool {
	lives := c.State == "running" && now.Sub(c.StartedAt) >= s.spec.Liveness
	return c.Restarts-s.restarts[c.ID] >= mostRestarts && !lives
}

func ended(c store.StackContainer) bool { return c.State == "exited" || c.State == "dead" }

// wait looks until the containers are as they should be, one fails, or the time is over. Compose is at work until working
// is closed.
func (s *settling) wait(ctx context.Context, look func(context.Context) ([]store.StackContainer, error), changes <-chan struct{}, working <-chan struct{}) (verdict, error) {
	over := time.NewTimer(s.spec.Wait + s.spec.Liveness)
	defer over.Stop()
	for {
		atWork := isOpen(working)
		all, err := look(ctx)
		if err != nil {
			return verdict{}, err
		}
		v := s.judge(all, atWork, time.Now())
		if v.how != "" || v.again == 0 {
			return v, nil
		}
		due := time.NewTimer(min(v.again, lookEvery))
		select {
		case _, told := <-changes:
			if !told {
				changes = nil
			}
		case <-working:
			working = nil
		case <-due.C:
		case <-over.C:
			return verdict{guilty: v.guilty, how: v.late}, nil
		case <-ctx.Done():
			due.Stop()
			return verdict{}, ctx.Err()
		}
		due.Stop()
	}
}

// isOpen reports whether a channel that is only ever closed is still open; nil is one that was closed.
func isOpen(working <-chan struct{}) bool {
	select {
	case <-working:
		return false
	default:
		return working != nil
	}
}

// remembered notes how often the containers that are there were started again.
func remembered(all []store.StackContainer) map[string]int {
	restarts := map[string]int{}
	for _, c := range all {
		restarts[c.ID] = c.Restarts
	}
	return restarts
}

// halfMade returns the services with a container that was created and never started: what a plugin leaves that was ended in
// between. It may not be on all its networks yet, and Compose would start it as it is. With ended, those that have ended count, too.
func halfMade(all []store.StackContainer, r *rendering, ended bool) (names []string) {
	for _, c := range all {
		if _, known := r.project.Services[c.Service()]; known && (c.State == "created" || ended && c.State == "exited") {
			names = append(names, c.Service())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// orphans returns the containers of services that the stack no longer has.
func orphans(all []store.StackContainer, r *rendering) (gone []store.StackContainer) {
	for _, c := range all {
		if _, known := r.project.Services[c.Service()]; !known {
			gone = append(gone, c)
		}
	}
	return gone
}

// detached returns the services with a running container that lacks one of its networks.
func detached(all []store.StackContainer, r *rendering) (names []string) {
	for _, c := range all {
		for key := range r.project.Services[c.Service()].Networks {
			if c.State == "running" && !slices.Contains(c.Networks, r.project.Networks[key].Name) {
				names = append(names, c.Service())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
