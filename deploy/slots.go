package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// buildSlots bounds how many builds use BuildKit at once. Turns are first come, first served; an app has one lane and so one turn at a
// time, which makes them fair between apps.
type buildSlots struct {
	mu      sync.Mutex
	free    int
	holders []string // the apps that build
	waiting []*buildTurn
}

type buildTurn struct {
	app   string
	given chan struct{} // closed with the lock held
}

func newBuildSlots(count int) *buildSlots { return &buildSlots{free: count} }

// take waits for a slot. It calls wait once, with the apps that are ahead, if there is none at once.
func (s *buildSlots) take(ctx context.Context, app string, wait func(ahead string)) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	turn, ahead := s.queue(app)
	if ahead != "" {
		wait(ahead)
	}
	select {
	case <-turn.given:
		return sync.OnceFunc(func() { s.release(app) }), nil
	case <-ctx.Done():
		s.leave(turn)
		return nil, ctx.Err()
	}
}

func (s *buildSlots) queue(app string) (turn *buildTurn, ahead string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn = &buildTurn{app: app, given: make(chan struct{})}
	names := slices.Clone(s.holders)
	for _, other := range s.waiting {
		names = append(names, other.app)
	}
	s.waiting = append(s.waiting, turn)
	s.give()
	if slices.Contains(s.waiting, turn) {
		ahead = someOf(names)
	}
	return turn, ahead
}

const namedAhead = 3

// someOf names a few apps, and says how many more there are: with many in the queue, each would name all before it.
func someOf(apps []string) string {
	if more := len(apps) - namedAhead; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(apps[:namedAhead], ", "), more)
	}
	return strings.Join(apps, ", ")
}

// give hands free slots to those who wait, with the lock held.
func (s *buildSlots) give() {
	for s.free > 0 && len(s.waiting) > 0 {
		turn := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.free--
		s.holders = append(s.holders, turn.app)
		close(turn.given)
	}
}

func (s *buildSlots) release(app string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.holders, app); at >= 0 {
		s.holders = slices.Delete(s.holders, at, at+1)
	}
	s.free++
	s.give()
}

// leave gives a turn up, or the slot that it got at the same moment.
func (s *buildSlots) leave(turn *buildTurn) {
	s.mu.Lock()
	at := slices.Index(s.waiting, turn)
	if at >= 0 {
		s.waiting = slices.Delete(s.waiting, at, at+1)
	}
	s.mu.Unlock()
	if at < 0 {
		s.release(turn.app)
	}
}
