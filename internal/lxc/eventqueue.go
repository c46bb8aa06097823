package lxc

import (
	"context"
	"sync"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
)

// eventLimit is how many events wait for a slow consumer before they become one EventResync.
const eventLimit = 256

var resync = agent.RuntimeEvent{Kind: agent.EventResync}

// eventQueue holds events between the stream, which must not wait, and the consumer, who may be slow. It is bounded:
// what does not fit is replaced, with all that waits, by one EventResync.
type eventQueue struct {
	mu     sync.Mutex
	events []agent.RuntimeEvent
	filled chan struct{} // holds a token when events may be waiting
}

func newEventQueue() *eventQueue {
	return &eventQueue{filled: make(chan struct{}, 1)}
}

// put appends an event; it never blocks. A resync makes what waits before it pointless.
func (q *eventQueue) put(event agent.RuntimeEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if event == resync || len(q.events) == eventLimit {
		q.events = append(q.events[:0], resync)
	} else {
		q.events = append(q.events, event)
	}
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// take removes the oldest event.
func (q *eventQueue) take() (agent.RuntimeEvent, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		return agent.RuntimeEvent{}, false
	}
	event := q.events[0]
	q.events = q.events[1:]
	return event, true
}

// deliver sends events on the channel until ctx ends.
func (q *eventQueue) deliver(ctx context.Context, to chan<- agent.RuntimeEvent) {
	for {
		event, ok := q.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-q.filled:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case to <- event:
		}
	}
}
