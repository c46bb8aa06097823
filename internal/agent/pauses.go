package agent

import (
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 30 * time.Second
	// progressCounts is how many bytes an attempt must have brought to count as progress. A receiver has read some of a stream
	// before it finds that it leads nowhere, as much as a pipe and a buffer hold; that again and again at once would help nobody.
	progressCounts = 1536 << 10
)

// pauses are those between the attempts of a phase: each longer than the last, and short again after an attempt that came further.
// What breaks every few minutes is no reason to wait ever longer in between.
type pauses struct {
	delay *backoff.ExponentialBackOff
	last  store.Progress
}

func newPauses(now store.Progress) *pauses {
	return &pauses{delay: newBackoff(firstPause, longestPause), last: now}
}

func newBackoff(first, longest time.Duration) *backoff.ExponentialBackOff {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = first, longest
	return delay
}

// next is how long to wait after a failed attempt that left the job's progress at now.
func (p *pauses) next(now store.Progress) time.Duration {
	if now.Snapshots > p.last.Snapshots || now.BytesDone >= p.last.BytesDone+progressCounts {
		p.delay.Reset()
	}
	p.last = now
	return p.delay.NextBackOff()
}
