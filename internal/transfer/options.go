package transfer

import (
	"context"
	"time"
)

const (
	// DefaultStallTimeout is how long a stream may stand still. A receiver's disk may well pause for half a minute
	// when it flushes; a peer that is silent for this long is gone.
	DefaultStallTimeout = time.Minute
	// DefaultStartTimeout is how long a stream may take to begin in earnest: a sender may have to walk through a large
	// dataset before it finds something to send.
	DefaultStartTimeout = 5 * time.Minute
)

// Limiter delays until n more bytes may pass; n is at most Burst. *rate.Limiter is one.
type Limiter interface {
	WaitN(ctx context.Context, n int) error
	Burst() int
}

// StreamOptions says how a stream is sent or received. The zero value is usable.
type StreamOptions struct {
	// NoCompression keeps the sender from compressing, or the receiver from accepting it.
	NoCompression bool
	// StallTimeout ends the stream with ErrAborted when the sender lets that much time pass without a byte, or the receiver five times as much.
	// 0 is DefaultStallTimeout. Time that this side's own source, consumer or limiters take does not count.
	StallTimeout time.Duration
	// StartTimeout is in place of StallTimeout until the first 64 KiB have arrived: zfs send writes the head of a stream before it
	// looks for what to send. 0 is DefaultStartTimeout; it is never less than StallTimeout.
	StartTimeout time.Duration
	// MaxBytes ends a received stream with ErrExhausted when there are more bytes than that after decompression. 0 = no limit.
	MaxBytes uint64
	// Limiters are waited for before bytes go over the wire (as sent) or on to the consumer (as received), each of
	// them, in order: the peer's, then everybody's.
	Limiters []Limiter
	// Observe is told about progress: how many bytes more of the content, and how many more on the wire; either may
	// be 0. It is called from one goroutine at a time, often, and must not block. nil for nobody.
	Observe func(content, wire int)
}

func (o *StreamOptions) setDefaults() {
	orDefault(&o.StallTimeout, DefaultStallTimeout)
	orDefault(&o.StartTimeout, DefaultStartTimeout)
	o.StartTimeout = max(o.StartTimeout, o.StallTimeout)
	if o.Observe == nil {
		o.Observe = func(int, int) {}
	}
}

// step is the largest piece of p that all limiters let pass at once, at least one byte.
func (o *StreamOptions) step(p []byte) int {
	n := len(p)
	for _, limiter := range o.Limiters {
		n = min(n, max(limiter.Burst(), 1))
	}
	return n
}

// throttle waits until n bytes may pass.
func (o *StreamOptions) throttle(ctx context.Context, n int) error {
	for _, limiter := range o.Limiters {
		if err := limiter.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}
