package transfer

import (
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestLimitsOfAPeerAndOfAll(t *testing.T) {
	l := NewLimits(0, 1<<20)
	take := func(peer string, n int) time.Duration { // how long a piece has to wait for that was asked for at one moment
		now := time.Now()
		var longest time.Duration
		for _, limiter := range l.For(peer) {
			longest = max(longest, limiter.(*rate.Limiter).ReserveN(now, n).DelayFrom(now))
		}
		return longest
	}
	take("a", limitBurst) // the burst
	if wait := take("a", limitBurst); wait < 900*time.Millisecond {
		t.Errorf("a piece beyond the peer's limit waits %v", wait)
	}
	if wait := take("b", limitBurst); wait != 0 {
		t.Errorf("another peer waits %v", wait)
	}
	l.Set(1<<20, 0)
	take("c", limitBurst)
	if wait := take("d", limitBurst); wait < 900*time.Millisecond {
		t.Errorf("a piece beyond the limit of all waits %v", wait)
	}
	l.Set(0, 0)
	if wait := take("c", limitBurst); wait != 0 {
		t.Errorf("without limits a piece waits %v", wait)
	}
	if got := (*Limits)(nil).For("a"); got != nil {
		t.Errorf("no limits are %v", got)
	}
}

// A limit that is lifted holds no stream that began under it.
func TestALiftedLimitHoldsNoStream(t *testing.T) {
	l := NewLimits(1, 0)
	limiters := l.For("a")
	opts := StreamOptions{Limiters: limiters}
	opts.setDefaults()
	if err := opts.throttle(t.Context(), limitBurst); err != nil { // the burst
		t.Fatal(err)
	}
	l.Set(0, 0)
	if err := opts.throttle(t.Context(), limitBurst); err != nil {
		t.Fatal(err)
	}
}
