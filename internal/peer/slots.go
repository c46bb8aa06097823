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

// slot is a place in the gate that streams of one job hold together, or wait for together.
type slot struct {
	streams int
	giveUp  context.CancelFunc // of waiting for the place
	granted chan struct{}      // closed when release and err are set
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
	if shared == nil || shared.streams == streamsPerSlot {
		own := s.open(ctx, peer)
		if shared == nil {
			s.byJob[key] = own
		}
		shared = own
	}
	shared.streams++
	s.mu.Unlock()
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

// open begins to wait for a place, for as long as any stream is there that wants it: the first to ask may be the first to give up. The last one
// to leave waits for the goroutine.
func (s *slots) open(ctx context.Context, peer string) *slot {
	ctx, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	own := &slot{giveUp: giveUp, granted: make(chan struct{})}
	go func() {
		defer close(own.granted)
		own.release, own.err = s.gate.Acquire(ctx, peer)
	}()
	return own
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
	left.giveUp()
	<-left.granted
	if left.err == nil {
		left.release()
	}
}
