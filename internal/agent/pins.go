package agent

import (
	"context"
	"maps"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// pins stand between garbage collection and whoever is about to refer to something in the pool. Looking something up and
// recording that it is wanted takes the lock shared; reading all records and destroying what none of them wants takes it
// alone. So a collection sees a reference either recorded, or not made yet.
type pins struct {
	slots *semaphore.Weighted

	mu    sync.Mutex
	bases map[string][]lineage.GUID // by job: what its next streams are received onto; too short-lived to be recorded
}

const maxPins = 1 << 20

func newPins() *pins {
	return &pins{slots: semaphore.NewWeighted(maxPins), bases: make(map[string][]lineage.GUID)}
}

// share keeps collections away until release is called. Who holds it must not ask for it again.
func (p *pins) share(ctx context.Context) (release func(), err error) {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { p.slots.Release(1) }, nil
}

// exclude waits until nobody shares the lock and keeps everybody away until release is called.
func (p *pins) exclude(ctx context.Context) (release func(), err error) {
	if err := p.slots.Acquire(ctx, maxPins); err != nil {
		return nil, err
	}
	return func() { p.slots.Release(maxPins) }, nil
}

// keep notes what a job builds on, instead of what it noted before; nothing ends it. The caller shares the lock.
func (p *pins) keep(jobID string, guids []lineage.GUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(guids) == 0 {
		delete(p.bases, jobID)
		return
	}
	p.bases[jobID] = guids
}

// kept returns what keep noted, by job.
func (p *pins) kept() map[string][]lineage.GUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.bases)
}
