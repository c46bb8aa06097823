package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// drainGrace bounds how long Shutdown waits for peers to read the ends of finished answers.
	drainGrace = 5 * time.Second
	drainPoll  = 5 * time.Millisecond
)

// Shutdown stops accepting sessions and requests, waits for running requests, and closes the sessions.
// If ctx ends first, the remaining requests are cut off and the context's error is returned.
// When it returns, nothing that the Listener started is running any more.
func (l *Listener) Shutdown(ctx context.Context) error {
	sessions := l.beginClosing()
	for _, s := range sessions {
		// Peers send further requests elsewhere. A peer that does not read must not hold us up here; the
		// goroutine ends with the session at the latest.
		l.tasks.Go(func() { _ = s.GoAway() })
	}
	err := l.server.Shutdown(ctx)
	if err == nil {
		drain(ctx, sessions)
	}
	return errors.Join(err, l.end(sessions))
}

// Close cuts off everything at once and waits until nothing runs any more.
func (l *Listener) Close() error {
	return l.end(l.beginClosing())
}

func (l *Listener) beginClosing() []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		l.closing = true
		close(l.done)
	}
	for socket := range l.sockets {
		_ = socket.Close()
	}
	for conn := range l.pending {
		_ = conn.Close()
	}
	return slices.Collect(maps.Keys(l.sessions))
}

func (l *Listener) end(sessions []*session) error {
	var closing sync.WaitGroup
	for _, s := range sessions { // at once: of a frozen connection each takes seconds
		closing.Go(func() { _ = s.Close() }) // ends its streams, and with them the contexts of its requests
	}
	closing.Wait()
	// Not Close: that would not wait for handlers.
	err := l.server.Shutdown(context.Background())
	l.tasks.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("close transfer listener: %w", err)
	}
	return nil
}

// drain waits until the peers have closed their halves of all streams, which says that they read them to the end.
// Closing a socket that still has unread data in it makes the kernel throw away what was not yet delivered.
// yamux has no event for this, so it is polled.
func drain(ctx context.Context, sessions []*session) {
	ctx, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for _, s := range sessions {
		for s.NumStreams() > 0 && !s.IsClosed() {
			select {
			case <-ctx.Done():
				return
			case <-poll.C:
			}
		}
	}
}

// reapIdle closes sessions that have not been used for long: of peers that were removed, or that never ask for anything.
func (l *Listener) reapIdle() {
	tick := time.NewTicker(max(l.config.SessionIdleTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case now := <-tick.C:
			l.mu.Lock()
			sessions := slices.Collect(maps.Keys(l.sessions))
			l.mu.Unlock()
			for _, s := range sessions {
				// What was sent and not read yet stays readable on the other side.
				if s.idleFor(now) > l.config.SessionIdleTimeout {
					_ = s.Close()
				}
			}
		}
	}
}
