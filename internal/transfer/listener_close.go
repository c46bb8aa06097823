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

// Close cuts off everything at once. When it returns, nothing that the Listener started is running any more.
func (l *Listener) Close() error {
	sessions := l.beginClosing()
	var closing sync.WaitGroup
	for _, s := range sessions { // at once: of a frozen connection each takes seconds
		closing.Go(func() { _ = s.Close() }) // ends its streams, and with them the contexts of its requests
	}
	closing.Wait()
	// Not the server's Close: that would not wait for handlers.
	err := l.server.Shutdown(context.Background())
	l.tasks.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("close transfer listener: %w", err)
	}
	return nil
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
