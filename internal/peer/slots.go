package peer

import (
	"context"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/transfer"
)

// streamsPerSlot is how many streams of one job share a slot: the one under way, and the next.
const streamsPerSlot = 2

// slots lets the streams of a job use one slot of a gate: a stream that was asked for ahead must not take the place of another job's.
type slots struct {
	gate *transfer.Gate // nil for no limit

	mu    sync.Mutex
	byJob map[string]*slot
}

// slot is a place in the gate that streams of one job hold together.
type slot struct {
	streams int
	granted chan struct{} // closed when release and err are set
	release func()
	err     error
}

func newSlots(gate *transfer.Gate) *slots { return &slots{gate: gate, byJob: make(map[string]*slot)} }

// acquire waits for a place for a stream of a peer's job; release gives it back.
func (s *slots) acquire(ctx context.Context, peer, jobID string) (release func(), err error) {
	if s.gate == nil {
		return func() {}, nil
	}
	key := peer + " " + jobID
	s.mu.Lock()
	shared := s.byJob[key]
	if shared != nil && shared.streams < streamsPerSlot {
		shared.streams++
		s.mu.Unlock()
		return s.join(ctx, key, shared)
	}
	own := &slot{streams: 1, granted: make(chan struct{})}
	if shared == nil {
		s.byJob[key] = own
	}
	s.mu.Unlock()
	own.release, own.err = s.gate.Acquire(ctx, peer)
	close(own.granted)
	if own.err != nil {
		s.leave(key, own)
		return nil, own.err
	}
	return func() { s.leave(key, own) }, nil
}

// join waits with a slot for its place.
func (s *slots) join(ctx context.Context, key string, shared *slot) (release func(), err error) {
	select {
	case <-shared.granted:
		err = shared.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.leave(key, shared)
		return nil, err
	}
	return func() { s.leave(key, shared) }, nil
}

// leave ends a stream's part of a slot; the last one gives the place back.
func (s *slots) leave(key string, left *slot) {
	s.mu.Lock()
	left.streams--
	last := left.streams == 0
	if last && s.byJob[key] == left {
		delete(s.byJob, key)
	}
	s.mu.Unlock()
	if !last {
		return
	}
	<-left.granted // whoever asks for the place has its answer soon: its request is over, too
	if left.err == nil {
		left.release()
	}
}
