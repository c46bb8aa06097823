package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// progressInterval is how often a job's progress is written down.
const progressInterval = 3 * time.Second

// progress counts what a job moves and journals it now and then, by a goroutine that stop waits for.
type progress struct {
	bytes, wire atomic.Uint64
	snapshots   atomic.Int64
	compression atomic.Pointer[string]
	expected    atomic.Uint64 // bytes that preflight found still to come when this attempt began; 0 when it could not tell
	promised    atomic.Uint64 // bytes that there is room for
	rate        rateMeter     // of the reporter
	stop        func()
}

func (r *run) startProgress(ctx context.Context) *progress {
	p := &progress{}
	p.rate.observe(0, time.Now())
	before, id := r.job.Progress, r.job.ID
	report := func(ctx context.Context) {
		// A job's progress is a courtesy; an absent store costs one report, not the stream.
		_, _ = r.store.Update(ctx, func(tx *store.Tx) error {
			job, err := tx.Job(r.Agent.serverID, id)
			if err != nil || !job.Open() {
				return err
			}
			job.Progress = p.since(before)
			return tx.PutJob(job)
		})
	}
	forget := r.underWay.add(p)
	ctx, cancel := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				p.rate.observe(p.bytes.Load(), time.Now())
				report(ctx)
			}
		}
	})
	p.stop = func() {
		forget()
		cancel()
		reporter.Wait()
		p.rate.bytesPerSecond = 0 // nothing moves now
		final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		report(final)
		r.job.Progress = p.since(before)
	}
	return p
}

// since adds what was counted to what the job had moved before.
func (p *progress) since(before store.Progress) store.Progress {
	done := before.BytesDone
	before.BytesDone += p.bytes.Load()
	before.BytesWire += p.wire.Load()
	before.Snapshots += int(p.snapshots.Load())
	before.BytesPerSecond = p.rate.bytesPerSecond
	if expected := p.expected.Load(); expected > 0 {
		before.BytesTotal = done + expected
	}
	before.BytesTotal = max(before.BytesTotal, before.BytesDone) // an estimate may be too low
	if compression := p.compression.Load(); compression != nil && (before.Compression == "" || before.Compression == "none") {
		before.Compression = *compression
	}
	return before
}

// remaining is how many bytes are still to come, as far as known.
func (p *progress) remaining() uint64 {
	expected, done := p.expected.Load(), p.bytes.Load()
	return expected - min(expected, done)
}

// rateMeter smooths a count to a rate. For one goroutine at a time.
type rateMeter struct {
	count          uint64
	at             time.Time
	bytesPerSecond uint64
}

// observe takes the count at a moment. Old rates fade by half with each.
func (m *rateMeter) observe(count uint64, now time.Time) {
	last, since := m.count, now.Sub(m.at).Seconds()
	first := m.at.IsZero()
	m.count, m.at = count, now
	if first || since <= 0 {
		return
	}
	lately := uint64(float64(count-last) / since)
	if m.bytesPerSecond == 0 {
		m.bytesPerSecond = lately
		return
	}
	m.bytesPerSecond = (m.bytesPerSecond + lately) / 2
}

// countingReader counts a stream and keeps its error. Its Close is the stream's: a receiver that failed ends a Read that hangs, and one that does
// not return even then outlasts the receiver.
type countingReader struct {
	Stream
	progress *progress
	more     func() error // asks for room when more comes than was promised

	mu      sync.Mutex
	counted streamCount
}

// streamCount is what came of a stream.
type streamCount struct {
	bytes, wire uint64
	compression string // of what came so far
	err         error  // that it ended with
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	c.progress.bytes.Add(uint64(n))
	if err == nil && c.progress.bytes.Load() > c.progress.promised.Load() {
		err = c.more()
	}
	wire, compression := c.Stream.Wire()
	c.progress.addWire(wire-c.count().wire, compression)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counted.bytes += uint64(n)
	c.counted.wire, c.counted.compression = wire, compression
	if err != nil {
		c.counted.err = err
	}
	return n, err
}

// count is what has come by now, or at the end.
func (c *countingReader) count() streamCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counted
}

func (p *progress) addWire(bytes uint64, compression string) {
	p.wire.Add(bytes)
	if was := p.compression.Load(); was == nil || *was == "none" && compression != "none" {
		p.compression.Store(&compression)
	}
}
