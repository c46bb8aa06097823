package zfs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// counter is what is read: how often that was begun. Readings wait for a token each.
type counter struct {
	begun  atomic.Int32
	tokens chan struct{}
}

func (c *counter) read(ctx context.Context) (int32, error) {
	n := c.begun.Add(1)
	select {
	case <-c.tokens:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestCallsThatComeTogetherShareOneReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{tokens: make(chan struct{})}
		s := newShared(c.read)
		var calls sync.WaitGroup
		call := func(want int32) {
			calls.Go(func() {
				if value, err := s.get(t.Context()); value != want || err != nil {
					t.Errorf("got reading %d, %v; want %d", value, err, want)
				}
			})
		}
		call(1)
		synctest.Wait()
		for range 50 { // after the first reading began: none of these may have it
			call(2)
		}
		synctest.Wait()
		close(c.tokens)
		calls.Wait()
	})
}

func TestWhoeverMakesAReadingMayLeave(t *testing.T) {
	for name, waits := range map[string]bool{"while it is made": false, "while it waits for another": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &counter{tokens: make(chan struct{})}
				s := newShared(c.read)
				var others sync.WaitGroup
				stay := func() {
					others.Go(func() {
						if _, err := s.get(t.Context()); err != nil {
							t.Errorf("who stayed got %v", err)
						}
					})
					synctest.Wait()
				}
				if waits {
					stay()
				}
				ctx, leave := context.WithCancel(t.Context())
				left := make(chan error, 1)
				go func() { _, err := s.get(ctx); left <- err }()
				synctest.Wait()
				stay()
				leave()
				if err := <-left; !errors.Is(err, context.Canceled) {
					t.Errorf("who left got %v", err)
				}
				close(c.tokens)
				others.Wait()
			})
		})
	}
}

func TestWhoeverWaitsForAReadingMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counter{tokens: make(chan struct{})}
		s := newShared(c.read)
		var others sync.WaitGroup
		for range 2 {
			others.Go(func() { _, _ = s.get(t.Context()) })
			synctest.Wait()
		}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := s.get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(c.tokens)
		others.Wait()
	})
}

func TestAFailedReadingFailsForAll(t *testing.T) {
	broken := errors.New("broken")
	s := newShared(func(context.Context) (int32, error) { return 0, broken })
	if _, err := s.get(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
