package transfer

import (
	"testing"
	"time"
)

func TestLimitsOfAPeerAndOfAll(t *testing.T) {
	l := NewLimits(0, 1<<20)
	now := time.Now()
	take := func(peer string, n int) time.Duration { // how long a piece has to wait for that is asked for at this moment
		var longest time.Duration
		for _, limiter := range l.For(peer) {
			longest = max(longest, limiter.(bandwidth).ReserveN(now, n).DelayFrom(now))
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

// However low a limit, the turns of the streams under it are short: a receiver that sees nothing for a minute cuts its stream.
func TestTurnsUnderALowLimitAreShort(t *testing.T) {
	l := NewLimits(0, 0)
	piece := func() int {
		opts := StreamOptions{Limiters: l.For("a")}
		return opts.step(make([]byte, limitBurst))
	}
	for _, test := range []struct {
		all, perPeer uint64
		want         int
	}{
		{0, 0, limitBurst},
		{100 << 20, 0, limitBurst},
		{1 << 20, 0, 256 << 10},
		{1 << 20, 128 << 10, 32 << 10},
		{1, 0, minLimitPiece},
	} {
		l.Set(test.all, test.perPeer)
		if got := piece(); got != test.want {
			t.Errorf("under limits of %d and %d bytes a second a piece has %d bytes, want %d", test.all, test.perPeer, got, test.want)
		}
	}
}
