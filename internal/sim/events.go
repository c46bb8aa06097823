package sim

import (
	"context"
	"fmt"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// hub hands events to whoever listens.
type hub struct {
	mu        sync.Mutex
	listeners map[*listener]bool
}

// listener is one subscription.
type listener struct {
	events chan agent.RuntimeEvent
	lost   bool // an EventResync waits at the end of the channel and stands for all that follows
}

// listenerQueue is how many events a listener may lag behind.
const listenerQueue = 256

// Events implements agent.Runtime.
func (r *Runtime) Events(ctx context.Context) (<-chan agent.RuntimeEvent, error) {
	if err := r.Check(ctx); err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return r.hub.listen(ctx), nil
}

func (h *hub) listen(ctx context.Context) <-chan agent.RuntimeEvent {
	l := &listener{events: make(chan agent.RuntimeEvent, listenerQueue)}
	h.mu.Lock()
	if h.listeners == nil {
		h.listeners = make(map[*listener]bool)
	}
	h.listeners[l] = true
	h.mu.Unlock()
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, l)
		close(l.events)
	})
	return l.events
}

// emit never waits. The last place of a queue is kept for the word that something was lost: who reads it looks at everything,
// also at what happened after it was put there.
func (h *hub) emit(event agent.RuntimeEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		switch room := cap(l.events) - len(l.events); {
		case room > 1:
			l.lost = false
			l.events <- event
		case !l.lost:
			l.lost = true
			l.events <- agent.RuntimeEvent{Kind: agent.EventResync}
		}
	}
}
