package deploy

import (
	"context"
	"slices"
	"sync"
)

// buildSlots bounds how many builds use BuildKit at once. Turns are first come, first served; an app has one lane and so one turn at a
// time, which makes them fair between apps.
type buildSlots struct {
	mu       sync.Mutex
	free     int
	building int
	waiting  []*buildTurn
}

type buildTurn struct {
	given chan struct{} // closed with the lock held
}

func newBuildSlots(count int) *buildSlots { return &buildSlots{free: count} }

// take waits for a slot. It calls wait once, with the number of builds that are ahead, if there is none at once. Whose they are
// is not told: a developer of one app does not learn of others.
func (s *buildSlots) take(ctx context.Context, wait func(ahead int)) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	turn, ahead := s.queue()
	if ahead > 0 {
		wait(ahead)
	}
	select {
	case <-turn.given:
		return sync.OnceFunc(s.release), nil
	case <-ctx.Done():
		s.leave(turn)
		return nil, ctx.Err()
	}
}

// queue adds a turn, and returns how many are ahead of it; 0 when it has its slot already.
func (s *buildSlots) queue() (turn *buildTurn, ahead int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn = &buildTurn{given: make(chan struct{})}
	ahead = s.building + len(s.waiting)
	s.waiting = append(s.waiting, turn)
	s.give()
	if !slices.Contains(s.waiting, turn) {
		ahead = 0
	}
	return turn, ahead
}

// give hands free slots to those who wait, with the lock held.
func (s *buildSlots) give() {
	for s.free > 0 && len(s.waiting) > 0 {
		turn := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.free--
		s.building++
		close(turn.given)
	}
}

func (s *buildSlots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	s.building--
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
		s.release()
	}
}
