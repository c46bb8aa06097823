package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

var errClosed = errors.New("the store is closed")

// Events of a write arrive within a millisecond or so. A revision that brings none below the prefix is learned only by
// asking, which waits begin with after askAfter and repeat, as etcd ignores the question while it has events to send.
const (
	askAfter = 20 * time.Millisecond
	askEvery = 100 * time.Millisecond
)

// waitRevision returns when the mirror shows the revision or a later one. It returns errdefs.ErrUnavailable when ctx
// ends first or the store closes.
func (m *Mirror) waitRevision(ctx context.Context, revision int64) error {
	m.mu.Lock()
	if m.revision >= revision {
		m.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	m.waiters[reached] = revision
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiters, reached)
		m.mu.Unlock()
	}()

	ask := time.NewTimer(askAfter)
	defer ask.Stop()
	for {
		select {
		case <-reached:
			return nil
		case <-ask.C:
			m.ask()
			ask.Reset(askEvery)
		case <-m.closed:
			return fmt.Errorf("wait for revision %d: %w: %w", revision, errdefs.ErrUnavailable, errClosed)
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d, the mirror is at %d: %w: %w",
				revision, m.Revision(), errdefs.ErrUnavailable, ctx.Err())
		}
	}
}

// ask makes the feed request a sign of life; one request serves all who ask before it is sent.
func (m *Mirror) ask() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// release wakes the waits that the revision satisfies. The caller holds the lock.
func (m *Mirror) release() {
	for reached, revision := range m.waiters {
		if m.revision >= revision {
			close(reached)
			delete(m.waiters, reached)
		}
	}
}

// intact returns an error once etcd is known to hold another store than this mirror copied.
func (m *Mirror) intact() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.replaced
}
