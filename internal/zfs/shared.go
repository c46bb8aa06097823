package zfs

import (
	"context"
	"sync"
)

// shared lets calls that come together share one reading: fifty operations that begin at once look at the pool once or twice, not
// fifty times. No caller gets a reading that began before he asked. At most one reading is under way at a time.
type shared[T any] struct {
	read func(context.Context) (T, error)
	turn chan struct{} // held by the reading under way

	mu      sync.Mutex
	forming *reading[T] // has not begun yet; nil for none
}

type reading[T any] struct {
	done      chan struct{} // closed when the following is set
	value     T
	err       error
	abandoned bool // the caller that was to make it has gone
}

func newShared[T any](read func(context.Context) (T, error)) *shared[T] {
	return &shared[T]{read: read, turn: make(chan struct{}, 1)}
}

// get returns a value that was read after the call began. It is shared with other callers.
func (s *shared[T]) get(ctx context.Context) (value T, err error) {
	for {
		r, first := s.join()
		if first {
			s.make(ctx, r)
			return r.value, r.err
		}
		select {
		case <-r.done:
			if !r.abandoned {
				return r.value, r.err
			}
		case <-ctx.Done():
			return value, ctx.Err()
		}
	}
}

// join returns the reading that will begin next; first tells the caller that is to make it.
func (s *shared[T]) join() (r *reading[T], first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forming == nil {
		s.forming, first = &reading[T]{done: make(chan struct{})}, true
	}
	return s.forming, first
}

// make waits for the reading under way, and then makes r for all who have joined by then.
func (s *shared[T]) make(ctx context.Context, r *reading[T]) {
	defer close(r.done)
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
		s.begin()
		r.value, r.err = s.read(ctx)
	case <-ctx.Done():
		s.begin() // for nobody: whoever comes now makes one of his own
		r.err = ctx.Err()
	}
	r.abandoned = r.err != nil && ctx.Err() != nil
}

// begin closes the reading that forms to further callers.
func (s *shared[T]) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forming = nil
}
