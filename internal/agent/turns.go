package agent

import (
	"context"
	"sync"
)

// turns lets one at a time work on what a key names. A turn that is over leaves nothing behind.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the turn is over
}

func newTurns() *turns { return &turns{held: make(map[string]chan struct{})} }

// take waits for the key's turn, until ctx ends. release gives it back.
func (t *turns) take(ctx context.Context, key string) (release func(), err error) {
	for {
		t.mu.Lock()
		over, busy := t.held[key]
		if !busy {
			over = make(chan struct{})
			t.held[key] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.held, key)
				t.mu.Unlock()
				close(over)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
